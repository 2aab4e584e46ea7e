-- What stands in some queues. ARGV: prefix, queue...
-- Returns {waiting, scheduled, enqueued_at of the oldest of the first ten of each, or ''}
local p, waiting, scheduled, oldest = ARGV[1], 0, 0, ''
for at = 2, #ARGV do
  local list = p .. ':queue:' .. ARGV[at]
  waiting = waiting + redis.call('LLEN', list)
  scheduled = scheduled + redis.call('ZCARD', p .. ':scheduled:' .. ARGV[at])
  -- Jobs that went to the front stand before the oldest one.
  for _, id in ipairs(redis.call('LRANGE', list, 0, 9)) do
    local since = redis.call('HGET', p .. ':job:' .. id, 'enqueued_at')
    if since and since ~= '' and (oldest == '' or since < oldest) then oldest = since end
  end
end
return {waiting, scheduled, oldest}
