-- Failed jobs: back into their queues, or away; goes behind common.lua. Source: rq/registry.py, BaseRegistry.requeue; rq/job.py, Job.delete;
-- rq/queue.py, _enqueue_rate_limited_job; rq/rate_limit.py, ACQUIRE_AND_ENQUEUE_SCRIPT.
-- ARGV: prefix, requeue or delete, now as ISO, now in seconds, id...
-- Returns the ids that were found among the failed. An error of one job, which stays failed then, comes when all were tried.
local what, now_iso, now = ARGV[2], ARGV[3], ARGV[4]

local function enqueue(id, queue, front, ttl)
  push(id, queue, front, ttl)
  redis.call('HSET', job_key(id), 'status', 'queued', 'enqueued_at', now_iso)
end

-- Those that wait for their turn get the slots that are free, the oldest first.
local function fill(limit, concurrency)
  local slots, waiting = p .. ':rl:' .. limit .. ':allowed', p .. ':rl:' .. limit .. ':rate_limited'
  while redis.call('ZCARD', slots) < concurrency do
    local next = redis.call('ZPOPMIN', waiting)
    if #next == 0 then return end
    local job = call('HMGET', job_key(next[1]), 'origin', 'status', 'enqueue_at_front')
    if job[1] and job[2] == 'rate_limited' then
      redis.call('ZADD', slots, now, next[1])
      enqueue(next[1], job[1], job[3] == '1')
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
  local job = call('HMGET', key, 'ttl', 'rate_limit_key', 'rate_limit_concurrency')
  local ttl, concurrency = lifetime(job[1], 'ttl'), whole_number(job[3], 'rate_limit_concurrency')
  local is_limited = given(job[2]) and concurrency and concurrency > 0
  if not is_limited then enqueue(id, queue, false, job[1]) end
  redis.call('HSET', key, 'started_at', '', 'ended_at', '', 'last_heartbeat', '', 'worker_name', '')
  redis.call('HDEL', key, 'exc_info')
  if not ttl or ttl <= 0 then redis.call('PERSIST', key) end
  if is_limited then
    if ttl and ttl > 0 then redis.call('EXPIRE', key, ttl) end
    wait_for_turn(id, key, job[2], concurrency)
  end
end

local found, first_error = {}, nil
local function carry_out(id)
  local key = job_key(id)
  local job = call('HMGET', key, 'origin', 'group_id')
  if not job[1] or not call('ZSCORE', p .. ':failed:' .. job[1], id) then return end
  if what == 'delete' then delete(id, job[2]) else requeue(id, key, job[1]) end
  redis.call('ZREM', p .. ':failed:' .. job[1], id)
  found[#found + 1] = id
end

begin_writes()
for at = 5, #ARGV do
  local ok, why = attempt(carry_out, ARGV[at])
  if not ok then first_error = first_error or 'job ' .. ARGV[at] .. ': ' .. reason_of(why) end
end
return first_error and redis.error_reply(first_error) or found
