-- What is known of schedules, and their pauses. Goes behind common.lua. RQ does not know these keys.
-- A schedule is the hash {prefix}:pool_schedule:{name}: rule, mark (the last due time that was handled, in milliseconds), held (a
-- due time that waits), job (the last one that it made), fired (when), paused ('1').
-- ARGV: prefix, what to do ('look', 'meet', 'pause', 'resume'), the time in milliseconds, then for each schedule: name, rule.
-- Returns for each: mark, held, paused, job, fired; '' for what is not there.
local what, now = ARGV[2], ARGV[3]

local function meet(key, rule)
  local known = redis.call('HMGET', key, 'rule', 'mark')
  if known[1] == rule then return end
  local mark = known[2] and tonumber(known[2]) > tonumber(now) and known[2] or now
  call('HSET', key, 'rule', rule, 'mark', mark)
  redis.call('HDEL', key, 'held')
end

return run(function()
  local answer = {}
  for at = 4, #ARGV, 2 do
    local key = p .. ':pool_schedule:' .. ARGV[at]
    if what ~= 'look' then meet(key, ARGV[at + 1]) end
    if what == 'pause' then
      redis.call('HSET', key, 'paused', '1')
      redis.call('HDEL', key, 'held')
    elseif what == 'resume' and redis.call('HDEL', key, 'paused') == 1 then
      redis.call('HSET', key, 'mark', now)
    end
    local known = call('HMGET', key, 'mark', 'held', 'paused', 'job', 'fired')
    for field = 1, 5 do answer[#answer + 1] = known[field] or '' end
  end
  return answer
end)
