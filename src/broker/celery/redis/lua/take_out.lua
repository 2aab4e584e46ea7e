-- Takes messages out of their lists, and stores what became of their tasks in the same step; goes behind common.lua and
-- store.lua.
-- ARGV: database of the queues, database of the results, then 5 of each: list, message, key of a result or '', the result,
--   its life in seconds or ''
-- Returns for each 1, or 0 if it was not there any more; then the key and the reason of each result that can't be stored.
local database, results = ARGV[1], ARGV[2]

local function selected(number) if database ~= results then redis.call('SELECT', number) end end

-- A key of another type holds none.
local function takes(list, message)
  local count = redis.pcall('LREM', list, 1, message)
  return type(count) == 'number' and count > 0
end

local answer = {}
for at = 3, #ARGV, 5 do
  local list, message, key, value, life = unpack(ARGV, at, at + 4)
  local was_there = takes(list, message)
  answer[#answer + 1] = was_there and 1 or 0
  if was_there and key ~= '' then
    selected(results)
    store(key, value, life)
    selected(database)
  end
end
for _, text in ipairs(refused) do answer[#answer + 1] = text end
return answer
