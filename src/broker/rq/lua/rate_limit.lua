-- Jobs with a rate limit, which is how many of a key are queued or run; goes behind common.lua, before the scripts that add
-- such jobs. Source: rq/queue.py, _enqueue_rate_limited_job; rq/rate_limit.py, ACQUIRE_AND_ENQUEUE_SCRIPT. They say first:
local now_iso, now -- as ISO text, in seconds

local function rate_limit_key(limit, part) return p .. ':rl:' .. limit .. ':' .. part end

local function enqueue(id, queue, front, ttl)
  push(id, queue, front, ttl)
  redis.call('HSET', job_key(id), 'status', 'queued', 'enqueued_at', now_iso)
end

-- Those that wait for their turn get the slots that are free, the oldest first.
local function fill(limit, concurrency)
  local slots, waiting = rate_limit_key(limit, 'allowed'), rate_limit_key(limit, 'rate_limited')
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

-- Such a job waits for its turn, and gets it at once if a slot is free.
local function wait_for_turn(id, key, limit, concurrency, at_front)
  redis.call('SADD', p .. ':rl-keys', limit)
  redis.call('HSET', p .. ':rl:' .. limit, 'concurrency', concurrency)
  redis.call('HSET', key, 'status', 'rate_limited')
  if at_front then redis.call('HSET', key, 'enqueue_at_front', 1) end
  redis.call('ZADD', rate_limit_key(limit, 'rate_limited'), now, id)
  fill(limit, concurrency)
end

-- How many of this key are queued or run at once, nothing without one. What can fail is looked at.
local function limit_of(limit)
  if not given(limit) then return 0 end
  for _, part in ipairs({'allowed', 'rate_limited'}) do call('ZCARD', rate_limit_key(limit, part)) end
  return tonumber(call('HGET', p .. ':rl:' .. limit, 'concurrency') or 0)
end

-- A job with a rate limit leaves its place to the next. Where a claim is to come back yet, RQ's maintenance frees it.
local function free_slot(id, limit, concurrency, is_held)
  if not limit then return end
  redis.call('ZREM', rate_limit_key(limit, 'rate_limited'), id)
  if not is_held and redis.call('ZREM', rate_limit_key(limit, 'allowed'), id) == 1 then fill(limit, concurrency) end
end
