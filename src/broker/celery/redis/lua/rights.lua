-- Tries what the scripts do, on a tag that nobody has; goes behind common.lua. What is refused is refused now, and not when a
-- message has been taken already.
-- ARGV: unacked, its index, handles, the list of what is unreadable, a name that nobody has, list...
-- Returns what is refused, with the reason, flat.
local unacked, index, handles, unreadable, nobody = unpack(ARGV, 1, 5)
local refused = {}

local function try(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) == 'table' and answer.err then
    refused[#refused + 1] = command .. ' ' .. key
    refused[#refused + 1] = reason_of(answer)
  end
end

try('ZADD', index, 'XX', 0, nobody)
try('ZREM', index, nobody)
try('ZSCORE', index, nobody)
try('HSET', unacked, nobody, '')
try('HGET', unacked, nobody)
try('HDEL', unacked, nobody)
try('ZADD', handles, 'XX', 0, nobody)
try('ZRANGE', handles, 0, 0)
try('LTRIM', unreadable, 0, 999)
-- What a queue's lists hold is told when they are read; only what this user may not do counts here.
for at = 6, #ARGV do
  local before = #refused
  try('RPOP', ARGV[at], 0)
  local reason = refused[before + 2]
  if reason and is_about_data(reason) then refused[before + 1], refused[before + 2] = nil, nil end
end
return refused
