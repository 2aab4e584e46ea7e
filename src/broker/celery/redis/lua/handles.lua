-- Forgets handles of which nothing is left, and tells of those whose lease has ended; goes behind common.lua.
-- ARGV: handles, own handle, handle that has nothing any more...
-- Returns when the first lease of another handle ends or '', then the handles whose lease has ended.
local handles, own = ARGV[1], ARGV[2]
local now = math.floor(now_as_score())
for at = 3, #ARGV do
  local ends = redis.call('ZSCORE', handles, ARGV[at])
  -- It may live after all.
  if ends and tonumber(ends) < now then redis.call('ZREM', handles, ARGV[at]) end
end
local answer = {''}
local all = redis.call('ZRANGE', handles, 0, 99, 'WITHSCORES')
for at = 1, #all, 2 do
  if all[at] ~= own then
    if answer[1] == '' then answer[1] = all[at + 1] end
    if tonumber(all[at + 1]) < now then answer[#answer + 1] = all[at] end
  end
end
return answer
