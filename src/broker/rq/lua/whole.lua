-- Ends the claim of a job whose lifecycle its worker runs; goes behind first_failure.lua.
-- ARGV: prefix, now as ISO, then 5 of each: what, id, queue, execution of the claim, its worker or '' where nobody knows
-- what: X forget it; B back to the front of its queue, as if it had not been taken.
-- A job that others have taken meanwhile is theirs.
for at = 3, #ARGV, 5 do
  local what, id, queue, claim, worker = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local key, list = p .. ':job:' .. id, p .. ':queue:' .. queue
  local job = redis.call('HMGET', key, 'data', 'status', 'worker_name', 'group_id')
  -- Until RQ's code says that it starts, it stands in this list under the name of our claim.
  local taken = job[1] and job[3] == claim
  if taken or not job[1] then redis.call('LREM', list .. ':intermediate', 1, id) end
  redis.call('ZREM', p .. ':wip:' .. queue, id .. ':' .. claim)
  local started = job[1] and job[2] == 'started' and (worker == '' or job[3] == worker)
  if what == 'X' then note_group(job[4], ARGV[2]) end
  if what == 'B' and (taken or started) then
    for _, execution in ipairs(redis.call('ZRANGE', p .. ':executions:' .. id, 0, -1)) do
      local name = redis.call('HGET', p .. ':execution:' .. id .. ':' .. execution, 'worker_name')
      if name then redis.call('SREM', p .. ':worker:' .. name .. ':executions', id .. ':' .. execution) end
      redis.call('ZREM', p .. ':wip:' .. queue, id .. ':' .. execution)
      redis.call('DEL', p .. ':execution:' .. id .. ':' .. execution)
    end
    redis.call('DEL', p .. ':executions:' .. id)
    redis.call('HSET', key, 'status', 'queued', 'started_at', '', 'last_heartbeat', '', 'worker_name', '')
    redis.call('LPUSH', list, id)
  end
end
look_at_groups()
return 1
