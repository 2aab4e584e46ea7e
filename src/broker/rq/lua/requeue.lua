-- Failed jobs: back into their queues, or away. Source: rq/registry.py, BaseRegistry.requeue; rq/job.py, Job.delete;
-- rq/queue.py, _enqueue_rate_limited_job; rq/rate_limit.py, ACQUIRE_AND_ENQUEUE_SCRIPT.
-- ARGV: prefix, requeue or delete, now as ISO, now in seconds, id...
-- Returns the ids that were found among the failed.
local p, what, now_iso, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local function given(value) return value and value ~= '' end

local function push(id, queue, front)
  redis.call('HSET', p .. ':job:' .. id, 'status', 'queued', 'enqueued_at', now_iso)
  redis.call(front and 'LPUSH' or 'RPUSH', p .. ':queue:' .. queue, id)
end

-- Those that wait for their turn get the slots that are free, the oldest first.
local function fill(limit, concurrency)
  local slots, waiting = p .. ':rl:' .. limit .. ':allowed', p .. ':rl:' .. limit .. ':rate_limited'
  while redis.call('ZCARD', slots) < concurrency do
    local next = redis.call('ZPOPMIN', waiting)
    if #next == 0 then return end
    local job = redis.call('HMGET', p .. ':job:' .. next[1], 'origin', 'status', 'enqueue_at_front')
    if job[1] and job[2] == 'rate_limited' then
      redis.call('ZADD', slots, now, next[1])
      push(next[1], job[1], job[3] == '1')
    end
  end
end

-- A job with a rate limit waits for its turn like a new one.
local function wait_for_turn(id, key, limit, concurrency)
  redis.call('SADD', p .. ':rl-keys', limit)
  redis.call('HSET', p .. ':rl:' .. limit, 'concurrency', concurrency)
  redis.call('HSET', key, 'status', 'rate_limited', 'enqueue_at_front', 0)
  redis.call('ZADD', p .. ':rl:' .. limit .. ':rate_limited', now, id)
  fill(limit, concurrency)
end

local function requeue(id, key, queue)
  redis.call('HSET', key, 'started_at', '', 'ended_at', '', 'last_heartbeat', '', 'worker_name', '')
  redis.call('HDEL', key, 'exc_info')
  local job = redis.call('HMGET', key, 'ttl', 'rate_limit_key', 'rate_limit_concurrency')
  local ttl, concurrency = tonumber(job[1] or ''), tonumber(job[3] or '')
  if ttl and ttl > 0 then redis.call('EXPIRE', key, ttl) else redis.call('PERSIST', key) end
  if given(job[2]) and concurrency and concurrency > 0 then
    wait_for_turn(id, key, job[2], concurrency)
  else
    push(id, queue)
  end
end

local function delete(id, key)
  local group = redis.call('HGET', key, 'group_id')
  if given(group) then redis.call('SREM', p .. ':group:' .. group, id) end
  redis.call('DEL', key, key .. ':dependents', p .. ':job::' .. id .. ':dependencies', p .. ':results:' .. id)
end

local found = {}
for at = 5, #ARGV do
  local id = ARGV[at]
  local key = p .. ':job:' .. id
  local queue = redis.call('HGET', key, 'origin')
  if queue and redis.call('ZREM', p .. ':failed:' .. queue, id) == 1 then
    found[#found + 1] = id
    if what == 'delete' then delete(id, key) else requeue(id, key, queue) end
  end
end
return found
