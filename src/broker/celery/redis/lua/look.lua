-- The entries of these tags, false for one that is not there; those that are there are renewed. Goes behind common.lua.
-- ARGV: unacked, its index, tag...
local now = now_as_score()
local found = {}
for at = 3, #ARGV do
  local entry = redis.call('HGET', ARGV[1], ARGV[at])
  if entry then redis.call('ZADD', ARGV[2], now, ARGV[at]) end
  found[#found + 1] = entry
end
return found
