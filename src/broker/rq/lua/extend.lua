-- Heartbeats of jobs in hand; goes behind common.lua. Source: rq/worker/base.py, maintain_heartbeats, get_heartbeat_ttl.
-- ARGV: prefix, now in seconds, with their fraction, as ISO text, monitoring interval; then 4 of each:
--   id, queue, execution, 1 if it is not known to have begun or 0
local now, now_f, now_iso, interval = tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5])

-- Until the next heartbeat or the end of the job's time, and a minute.
local function time_to_live(timeout, since)
  local left = interval
  if timeout and timeout > 0 and since then left = math.min(left, timeout - (tonumber(now_f) - since)) end
  return math.max(math.floor(left), 0) + 60
end

local function beat(id, queue, execution, is_held)
  local index, record = p .. ':executions:' .. id, p .. ':execution:' .. id .. ':' .. execution
  local timeout = tonumber(call('HGET', job_key(id), 'timeout') or '')
  local ttl = time_to_live(timeout, tonumber(call('HGET', record, 'created_at') or ''))
  if redis.call('EXISTS', record) == 1 then
    redis.call('HSET', record, 'last_heartbeat', now_f)
    redis.call('EXPIRE', record, ttl)
  end
  -- Until it is known to have begun it has all of its time before it; see job.lua for the fraction.
  call('ZADD', p .. ':wip:' .. queue, 'XX', is_held and now + time_to_live() + 0.5 or now + ttl, id .. ':' .. execution)
  call('ZADD', index, 'XX', now + ttl + 60, execution)
  redis.call('EXPIRE', index, ttl + 60)
  if redis.call('EXISTS', job_key(id)) == 1 then redis.call('HSET', job_key(id), 'last_heartbeat', now_iso) end
end

-- A job that can't be renewed says why when it is settled; the others must be renewed.
begin_writes()
for at = 6, #ARGV, 4 do attempt(beat, ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3] == '1') end
return 1
