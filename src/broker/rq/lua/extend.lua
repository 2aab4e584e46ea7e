-- Heartbeats of jobs in hand. Source: rq/worker/base.py, maintain_heartbeats, get_heartbeat_ttl.
-- ARGV: prefix, now in seconds, with their fraction, as ISO text, monitoring interval; then 4 of each:
--   id, queue, execution or '' (all executions of the job), the claim that is not known to have begun or ''
local p, now, now_f, now_iso, interval = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5])

-- Until the next heartbeat or the end of the job's time, and a minute.
local function time_to_live(timeout, since)
  local left = interval
  if timeout and timeout > 0 and since then left = math.min(left, timeout - (tonumber(now_f) - since)) end
  return math.max(math.floor(left), 0) + 60
end

for at = 6, #ARGV, 4 do
  local id, queue, claim = ARGV[at], ARGV[at + 1], ARGV[at + 3]
  local index = p .. ':executions:' .. id
  local timeout = tonumber(redis.call('HGET', p .. ':job:' .. id, 'timeout') or '')
  local executions = ARGV[at + 2] ~= '' and {ARGV[at + 2]} or redis.call('ZRANGE', index, 0, -1)
  for _, execution in ipairs(executions) do
    local record = p .. ':execution:' .. id .. ':' .. execution
    local ttl = time_to_live(timeout, tonumber(redis.call('HGET', record, 'created_at') or ''))
    if redis.call('EXISTS', record) == 1 then
      redis.call('HSET', record, 'last_heartbeat', now_f)
      redis.call('EXPIRE', record, ttl)
    end
    redis.call('ZADD', p .. ':wip:' .. queue, 'XX', now + ttl, id .. ':' .. execution)
    redis.call('ZADD', index, 'XX', now + ttl + 60, execution)
    redis.call('EXPIRE', index, ttl + 60)
  end
  if claim ~= '' then
    -- See job.lua for the fraction.
    redis.call('ZADD', p .. ':wip:' .. queue, 'XX', now + time_to_live() + 0.5, id .. ':' .. claim)
  end
  if #executions > 0 and redis.call('EXISTS', p .. ':job:' .. id) == 1 then
    redis.call('HSET', p .. ':job:' .. id, 'last_heartbeat', now_iso)
  end
end
return 1
