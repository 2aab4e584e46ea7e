-- Ends the claim of a job whose lifecycle its worker runs. ARGV: prefix, then 3 of each: what, id, queue
-- what: X forget it; B back to the front of its queue, as if it had not been taken.
local p = ARGV[1]
local answer = {}
for at = 2, #ARGV, 3 do
  local what, id, queue = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local key, list = p .. ':job:' .. id, p .. ':queue:' .. queue
  local waiting = redis.call('LREM', list .. ':intermediate', 1, id)
  if what == 'B' and redis.call('EXISTS', key) == 1 then
    local started = redis.call('HGET', key, 'status') == 'started'
    if started then
      for _, execution in ipairs(redis.call('ZRANGE', p .. ':executions:' .. id, 0, -1)) do
        local name = redis.call('HGET', p .. ':execution:' .. id .. ':' .. execution, 'worker_name')
        if name then redis.call('SREM', p .. ':worker:' .. name .. ':executions', id .. ':' .. execution) end
        redis.call('ZREM', p .. ':wip:' .. queue, id .. ':' .. execution)
        redis.call('DEL', p .. ':execution:' .. id .. ':' .. execution)
      end
      redis.call('DEL', p .. ':executions:' .. id)
      redis.call('HSET', key, 'status', 'queued', 'started_at', '', 'last_heartbeat', '', 'worker_name', '')
    end
    if started or waiting > 0 then redis.call('LPUSH', list, id) end
  end
  answer[#answer + 1] = 1
end
return answer
