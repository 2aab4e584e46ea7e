-- Carries out outcomes; goes behind common.lua and store.lua.
-- ARGV: unacked, its index, the list of what is unreadable, database of the queues, database of the results, then 5 of each:
--   what, tag or '', then by what:
--   A acknowledged: key of a result or '', the result, its life in seconds or ''
--   B back, at the right end of this list, which is its front: list, message, ''
--   Q back, at the left end: list, message, ''
--   U unreadable: put aside: '', '', ''
-- Returns for each 1, or 0 if it was not held any more; then the key and the reason of each result or message
--   that can't be stored.
-- Results come first: what is acknowledged has its result.
local unacked, index, unreadable, database, results = unpack(ARGV, 1, 5)
local UNREADABLE_MAX = 1000

local function selected(number) if database ~= results then redis.call('SELECT', number) end end

-- Where the list is of another type by now, the message is put aside.
local function give_back(push, list, message)
  local answer = redis.pcall(push, list, message)
  if type(answer) ~= 'table' or not answer.err then return end
  redis.call('LPUSH', unreadable, message)
  redis.call('LTRIM', unreadable, 0, UNREADABLE_MAX - 1)
  refused[#refused + 1] = list
  refused[#refused + 1] = reason_of(answer) .. ' (a message that goes back is put aside in ' .. unreadable .. ')'
end

local function settle(at)
  local what, tag, list, message = unpack(ARGV, at, at + 3)
  if tag == '' then return 1 end
  if what == 'U' then
    local entry = redis.call('HGET', unacked, tag)
    if entry then
      redis.pcall('LPUSH', unreadable, entry)
      redis.pcall('LTRIM', unreadable, 0, UNREADABLE_MAX - 1)
    end
  end
  local held = redis.call('ZREM', index, tag) + redis.call('HDEL', unacked, tag)
  if held == 0 then return 0 end
  if what == 'B' or what == 'Q' then give_back(what == 'B' and 'RPUSH' or 'LPUSH', list, message) end
  return 1
end

selected(results)
for at = 6, #ARGV, 5 do
  if ARGV[at] == 'A' and ARGV[at + 2] ~= '' then store(ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]) end
end
selected(database)
local answer = {}
for at = 6, #ARGV, 5 do answer[#answer + 1] = settle(at) end
for _, text in ipairs(refused) do answer[#answer + 1] = text end
return answer
