-- Takes up to `limit` jobs from the queues, and starts them.
-- ARGV: prefix, limit, now as ISO text, now in seconds, monitoring interval, worker name, execution prefix,
--       first number, deadline by the server's clock in milliseconds, now in seconds with their fraction,
--       strict, round_robin, random, or random_after_first: which queue gives each job, the first of them the first but with
--       random; seed, 1 if a job may be taken whose claim came back (see reclaim.lua) or 0, queue...
-- Returns {state, job...}; state 1: all workers are suspended; 2: it came too late, and nothing was done; 3: a job whose
--   claim came back was left, and all behind it: such jobs are taken one by one, so that one that takes its supervisor
--   down takes no other with it. In place of a job
--   may stand {id, queue, reason} of one that can't be started and failed alone, or of a queue that can't be read: id ''.
local limit, number = tonumber(ARGV[2]), tonumber(ARGV[8])
now_iso, now_s, now_f = ARGV[3], tonumber(ARGV[4]), ARGV[10]
interval, worker, prefix = tonumber(ARGV[5]), ARGV[6], ARGV[7]
-- Bytes of data that one answer holds, and one job's more at the most.
local BYTES_MAX = 8388608
local bytes = 0
local takes_returned = ARGV[13] == '1'
local time = redis.call('TIME')
if time[1] * 1000 + time[2] / 1000 > tonumber(ARGV[9]) then return {2} end

local answer = {0}
if redis.call('EXISTS', p .. ':suspended') == 1 then return {1} end

local function refuse(id, queue, why) answer[#answer + 1] = {id, queue, reason_of(why)} end

-- Returns false for a job that must be left.
local function take(id, queue)
  local read, job = attempt(describe, id, queue, number)
  if read and not job then return true end
  if read and job[13] ~= '' then
    if not takes_returned then
      answer[1] = 3
      return false
    end
    takes_returned = false
  end
  local started, why = false, job
  if read then started, why = attempt(start, job) end
  if not started then
    fail_alone(id, queue, why, now_iso, now_s)
    refuse(id, queue, why)
    return true
  end
  answer[#answer + 1] = job
  number, limit, bytes = number + 1, limit - 1, bytes + #job[5]
  return true
end

-- The first ids of a queue, none where one of its keys is of another type: that is no fault of its jobs.
local function first_of(queue, count)
  local ids = redis.pcall('LRANGE', queue_key(queue), 0, count - 1)
  if ids.err then
    refuse('', queue, ids)
    return {}
  end
  if #ids == 0 then return ids end
  local wip = p .. ':wip:' .. queue
  local is = redis.call('TYPE', wip).ok
  if is ~= 'zset' and is ~= 'none' then
    refuse('', queue, wip .. ' is a ' .. is .. ', not a zset')
    return {}
  end
  return ids
end

-- Takes up to `count` jobs of a queue. Returns whether it may have more. Each leaves its queue behind all that may fail.
local function take_from(queue, count)
  local ids = first_of(queue, count)
  local taken, is_left = 0, false
  if #ids > 0 then begin_writes() end
  for _, id in ipairs(ids) do
    if bytes >= BYTES_MAX then limit = 0 end
    if limit <= 0 then break end
    is_left = not take(id, queue)
    if is_left then break end
    taken = taken + 1
  end
  if taken > 0 then redis.call('LPOP', queue_key(queue), taken) end
  return taken > 0 and not is_left
end

local function take_in_order()
  for at = 14, #ARGV do
    while limit > 0 and take_from(ARGV[at], limit) do end
  end
  return answer
end

local function take_in_turn()
  local queues = {}
  for at = 14, #ARGV do queues[#queues + 1] = ARGV[at] end
  math.randomseed(tonumber(ARGV[12]))
  local draws = ARGV[11] == 'random'
  while limit > 0 and #queues > 0 do
    local at = draws and math.random(#queues) or 1
    local queue, before, started = table.remove(queues, at), #answer, number
    local has_more = take_from(queue, 1)
    -- An id whose job is gone is no turn.
    while has_more and #answer == before do has_more = take_from(queue, 1) end
    if has_more then queues[#queues + 1] = queue end
    draws = draws or ARGV[11] == 'random_after_first' and number > started
  end
  return answer
end

return run(ARGV[11] == 'strict' and take_in_order or take_in_turn)
