-- What RQ's own code was to do after a job can't be done: a job that still counts as started fails, with the reason. Goes
-- behind wake.lua. ARGV: prefix, now in seconds, now as ISO, then 2 of each: id, reason.
-- Returns id and reason of each job that failed.
local now, now_iso = tonumber(ARGV[2]), ARGV[3]

local function give_up(id, reason)
  local job = call('HMGET', job_key(id), 'origin', 'status', 'group_id')
  if not given(job[1]) or job[2] ~= 'started' then return end
  local index = p .. ':executions:' .. id
  for _, execution in ipairs(call('ZRANGE', index, 0, -1)) do
    local record, member = p .. ':execution:' .. id .. ':' .. execution, id .. ':' .. execution
    local worker = redis.call('HGET', record, 'worker_name')
    if worker then redis.pcall('SREM', p .. ':worker:' .. worker .. ':executions', member) end
    redis.pcall('ZREM', p .. ':wip:' .. job[1], member)
    redis.call('DEL', record)
  end
  redis.call('DEL', index)
  note_dependents(id, now_iso)
  note_group(job[3], now_iso, id)
  fail_alone(id, job[1], reason, now_iso, now)
end

begin_writes()
for at = 4, #ARGV, 2 do attempt(give_up, ARGV[at], ARGV[at + 1]) end
wake_all(now)
look_at_groups()
return refused
