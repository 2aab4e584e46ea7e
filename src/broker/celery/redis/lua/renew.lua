-- Renews what a handle holds; goes behind common.lua.
-- ARGV: index of unacked, handles, handle, lease in seconds, tag...
-- Returns the tags that are not there any more.
local index, handles, handle = ARGV[1], ARGV[2], ARGV[3]
local now = now_as_score()
redis.call('ZADD', handles, math.floor(now) + ARGV[4], handle)
local gone = {}
for at = 5, #ARGV do
  local tag = ARGV[at]
  if redis.call('ZADD', index, 'XX', 'CH', now, tag) == 0 and not redis.call('ZSCORE', index, tag) then
    gone[#gone + 1] = tag
  end
end
return gone
