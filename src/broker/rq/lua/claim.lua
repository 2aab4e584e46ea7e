-- Takes up to `limit` jobs from the queues in order, and starts the plain ones.
-- ARGV: prefix, limit, now as ISO text, now in seconds, monitoring interval, worker name, execution prefix,
--       first number, deadline by the server's clock in milliseconds, now in seconds with their fraction,
--       default or round_robin or random, seed, queue...
-- Returns {state, job...}; state 1: all workers are suspended; 2: it came too late, and nothing was done.
local limit, number = tonumber(ARGV[2]), tonumber(ARGV[8])
now_iso, now_s, now_f = ARGV[3], tonumber(ARGV[4]), ARGV[10]
interval, worker, prefix = tonumber(ARGV[5]), ARGV[6], ARGV[7]
local time = redis.call('TIME')
if time[1] * 1000 + time[2] / 1000 > tonumber(ARGV[9]) then return {2} end

local answer = {0}
if redis.call('EXISTS', p .. ':suspended') == 1 then return {1} end
local function take(id, queue)
  local job = describe(id, queue, number)
  if not job then return end
  start(job)
  answer[#answer + 1] = job
  number, limit = number + 1, limit - 1
end

if ARGV[11] == 'default' then
  for at = 13, #ARGV do
    while limit > 0 do
      local ids = redis.call('LPOP', p .. ':queue:' .. ARGV[at], limit)
      if not ids or #ids == 0 then break end
      for _, id in ipairs(ids) do take(id, ARGV[at]) end
    end
  end
  return answer
end
local queues = {}
for at = 13, #ARGV do queues[#queues + 1] = ARGV[at] end
math.randomseed(tonumber(ARGV[12]))
while limit > 0 and #queues > 0 do
  local at = ARGV[11] == 'random' and math.random(#queues) or 1
  local queue = table.remove(queues, at)
  local id = redis.call('LPOP', p .. ':queue:' .. queue)
  if id then
    take(id, queue)
    queues[#queues + 1] = queue
  end
end
return answer
