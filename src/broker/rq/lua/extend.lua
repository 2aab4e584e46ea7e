-- Heartbeats of jobs in hand. ARGV: prefix, now in seconds, with their fraction, as ISO text, ttl; then 3 of each:
--   id, queue, execution or '' (all executions of the job)
local p, now, now_f, now_iso, ttl = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5])
for at = 6, #ARGV, 3 do
  local id, queue = ARGV[at], ARGV[at + 1]
  local index = p .. ':executions:' .. id
  local executions = ARGV[at + 2] ~= '' and {ARGV[at + 2]} or redis.call('ZRANGE', index, 0, -1)
  for _, execution in ipairs(executions) do
    local record = p .. ':execution:' .. id .. ':' .. execution
    if redis.call('EXISTS', record) == 1 then
      redis.call('HSET', record, 'last_heartbeat', now_f)
      redis.call('EXPIRE', record, ttl)
    end
    redis.call('ZADD', p .. ':wip:' .. queue, 'XX', now + ttl, id .. ':' .. execution)
    redis.call('ZADD', index, 'XX', now + ttl + 60, execution)
    redis.call('EXPIRE', index, ttl + 60)
  end
  if #executions > 0 and redis.call('EXISTS', p .. ':job:' .. id) == 1 then
    redis.call('HSET', p .. ':job:' .. id, 'last_heartbeat', now_iso)
  end
end
return 1
