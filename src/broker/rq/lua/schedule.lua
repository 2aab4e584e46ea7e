-- Moves scheduled jobs that are due into their queues, if this scheduler has or gets the lock of the queue; goes behind
-- fail.lua.
-- Source: rq/scheduler.py, enqueue_scheduled_jobs; rq/scripts.py, ACQUIRE_OR_REFRESH_LOCK_SCRIPT.
-- ARGV: prefix, scheduler's name, now in seconds, now as ISO, lock ttl, hostname, pid, created as ISO, queue...
-- Returns {count moved, next due or '', [queue, id of a job with a rate limit]..., [id, reason of a job that failed alone]...}
local name, now, now_iso, ttl = ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local moved, next_due, limited, owned = 0, '', {}, {}

-- job: data, rate_limit_key, enqueue_at_front, enqueue_at_front_on_retry, ttl, ended_at, timeout
local function move(id, queue, job)
  local front = (whole_number(job[3], 'enqueue_at_front') or 0) ~= 0
    or ((whole_number(job[4], 'enqueue_at_front_on_retry') or 0) ~= 0 and given(job[6]))
  push(id, queue, front, job[5])
  redis.call('ZREM', p .. ':scheduled:' .. queue, id)
  redis.call('HSET', job_key(id), 'status', 'queued', 'enqueued_at', now_iso, 'origin', queue)
  if not given(job[7]) then redis.call('HSET', job_key(id), 'timeout', 180) end
  moved = moved + 1
end

local function look_at(queue)
  local lock = p .. ':scheduler-lock:' .. queue
  local owner = redis.call('GET', lock)
  if not owner or owner == name then
    redis.call('SET', lock, name, 'EX', ttl)
    owned[#owned + 1] = queue
    local set = p .. ':scheduled:' .. queue
    for _, id in ipairs(call('ZRANGEBYSCORE', set, 0, now, 'LIMIT', 0, 1000)) do
      local job = redis.pcall('HMGET', job_key(id), 'data', 'rate_limit_key', 'enqueue_at_front', 'enqueue_at_front_on_retry',
        'ttl', 'ended_at', 'timeout')
      if not job[1] then
        -- It was deleted, or what has its key is no job.
        redis.call('ZREM', set, id)
      elseif given(job[2]) then
        limited[#limited + 1] = queue
        limited[#limited + 1] = id
      else
        local ok, why = attempt(move, id, queue, job)
        if not ok then fail_alone(id, queue, why, now_iso, now) end
      end
    end
    local first = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')
    if first[2] and (next_due == '' or tonumber(first[2]) < tonumber(next_due)) then next_due = first[2] end
  end
end

begin_writes()
for at = 9, #ARGV do
  local ok, why = attempt(look_at, ARGV[at])
  if not ok then
    refused[#refused + 1] = ''
    refused[#refused + 1] = reason_of(why)
  end
end
local key = p .. ':scheduler:' .. name
if #owned > 0 then
  redis.call('HSET', key, 'name', name, 'hostname', ARGV[6], 'pid', ARGV[7], 'queues', table.concat(owned, ','),
    'created_at', ARGV[8], 'last_heartbeat', now_iso)
  redis.call('EXPIRE', key, ttl)
end
return {moved, next_due, limited, refused}
