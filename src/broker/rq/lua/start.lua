-- How a job that is taken is started; goes behind job.lua, before the scripts that take jobs. They say first:
local interval, worker, prefix -- the monitoring interval, a worker's name, the first half of the ids of executions
local now_iso, now_s, now_f -- now as ISO text, in seconds, in seconds with their fraction

local function start(job)
  local id, queue, key = job[1], job[2], job_key(job[1])
  local execution = string.format('%s%016x', prefix, job[3])
  local claim, ttl = id .. ':' .. execution, interval + 60
  local timeout = tonumber(job[6]) or 180
  if timeout > 0 then ttl = math.floor(math.min(timeout, interval)) + 60 end
  local record, index = p .. ':execution:' .. claim, p .. ':executions:' .. id
  -- What can fail comes first.
  call('ZADD', index, now_s + ttl + 60, execution)
  redis.call('EXPIRE', index, ttl + 60)
  call('ZADD', p .. ':wip:' .. queue, now_s + ttl + HELD, claim)
  redis.call('HSET', record, 'id', execution, 'job_id', id, 'created_at', now_f, 'last_heartbeat', now_f,
    'worker_name', worker)
  redis.call('EXPIRE', record, ttl)
  redis.call('PERSIST', key)
  redis.call('HSET', key, 'status', 'started', 'started_at', now_iso,
    'last_heartbeat', now_iso, 'worker_name', worker)
  add_hash(job, execution)
end
