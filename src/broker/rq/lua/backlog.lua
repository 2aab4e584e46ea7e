-- What stands in some queues; goes behind common.lua. ARGV: prefix, queue...
-- Returns {{waiting in each queue}, scheduled, enqueued_at of the oldest of the first ten of each, or ''}
local waiting, scheduled, oldest = {}, 0, ''
-- A key of another type holds no job.
local function size(command, key)
  local count = redis.pcall(command, key)
  return type(count) == 'number' and count or 0
end
for at = 2, #ARGV do
  local list = queue_key(ARGV[at])
  local here = size('LLEN', list)
  waiting[#waiting + 1] = here
  scheduled = scheduled + size('ZCARD', p .. ':scheduled:' .. ARGV[at])
  -- Jobs that went to the front stand before the oldest one.
  for _, id in ipairs(here > 0 and redis.call('LRANGE', list, 0, 9) or {}) do
    local since = redis.pcall('HGET', job_key(id), 'enqueued_at')
    if type(since) == 'string' and since ~= '' and (oldest == '' or since < oldest) then oldest = since end
  end
end
return {waiting, scheduled, oldest}
