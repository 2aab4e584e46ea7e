-- What stands in some queues. ARGV: prefix, queue...
-- Returns {waiting, scheduled, enqueued_at of the oldest or ''}
local p, waiting, scheduled, oldest = ARGV[1], 0, 0, ''
for at = 2, #ARGV do
  local list = p .. ':queue:' .. ARGV[at]
  waiting = waiting + redis.call('LLEN', list)
  scheduled = scheduled + redis.call('ZCARD', p .. ':scheduled:' .. ARGV[at])
  local first = redis.call('LINDEX', list, 0)
  local since = first and redis.call('HGET', p .. ':job:' .. first, 'enqueued_at')
  if since and since ~= '' and (oldest == '' or since < oldest) then oldest = since end
end
return {waiting, scheduled, oldest}
