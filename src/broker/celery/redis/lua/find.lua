-- Finds messages of tasks in a part of a list; goes behind common.lua. ARGV: list, first, count, id...
-- Returns how many were looked at, then those that name one of the ids as theirs. Source of the name: celery/app/amqp.py,
--   `correlation_id` of the properties.
local list, first, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local NAME = '"correlation_id"'
local wanted = {}
for at = 4, #ARGV do wanted[ARGV[at]] = true end

local raws = redis.pcall('LRANGE', list, first, first + count - 1)
if raws.err then
  local reason = reason_of(raws)
  if not is_about_data(reason) then error({err = reason}) end
  return {0}
end

local function is_wanted(raw)
  local at = string.find(raw, NAME, 1, true)
  while at do
    local id = string.match(raw, '^ ?: ?"([^"]*)"', at + #NAME)
    if id and wanted[id] then return true end
    at = string.find(raw, NAME, at + #NAME, true)
  end
  return false
end

local answer = {#raws}
for _, raw in ipairs(raws) do
  if is_wanted(raw) then answer[#answer + 1] = raw end
end
return answer
