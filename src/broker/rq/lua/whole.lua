-- Ends the claim of a job whose lifecycle its worker runs; goes behind first_failure.lua.
-- ARGV: prefix, now as ISO, then 5 of each: what, id, queue, execution of the claim, its worker or '' if none began it
-- what: X forget it; B back to the front of its queue, as if it had not been taken; C canceled: it stays where it is.
-- A job that others have taken meanwhile is theirs, and so it is when the same is asked twice, since an answer was lost.
-- Returns id and reason of each job that could not be put back.
local function end_claim(what, id, queue, claim, worker)
  local key = job_key(id)
  redis.pcall('ZREM', p .. ':wip:' .. queue, id .. ':' .. claim)
  local job = call('HMGET', key, 'data', 'status', 'worker_name', 'group_id', 'ttl')
  -- Until RQ's code says that it starts, it stands in the intermediate list under the name of our claim.
  local taken = job[1] and job[3] == claim
  local started = job[1] and worker ~= '' and job[2] == 'started' and job[3] == worker
  if what == 'X' then note_group(job[4], ARGV[2]) end
  if what == 'B' and (taken or started) then
    local status = taken and job[2] == 'queued' and 'started' or job[2]
    wait_again(id, queue, status, true, started and job[5])
    for _, execution in ipairs(call('ZRANGE', p .. ':executions:' .. id, 0, -1)) do
      local record, member = p .. ':execution:' .. id .. ':' .. execution, id .. ':' .. execution
      local name = redis.call('HGET', record, 'worker_name')
      if name then redis.pcall('SREM', p .. ':worker:' .. name .. ':executions', member) end
      redis.pcall('ZREM', p .. ':wip:' .. queue, member)
      redis.call('DEL', record)
    end
    redis.call('DEL', p .. ':executions:' .. id)
  end
  if taken or not job[1] then redis.pcall('LREM', queue_key(queue) .. ':intermediate', 1, id) end
end

local refused = {}
begin_writes()
for at = 3, #ARGV, 5 do
  local ok, why = attempt(end_claim, ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4])
  if not ok then
    refused[#refused + 1] = ARGV[at + 1]
    refused[#refused + 1] = reason_of(why)
  end
end
look_at_groups()
return refused
