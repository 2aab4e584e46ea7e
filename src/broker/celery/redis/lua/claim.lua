-- Takes up to `limit` messages, and holds them as not acknowledged in the same step; goes behind common.lua.
-- ARGV: unacked, its index, handles, the list of what is unreadable, handle, lease in seconds, first number, limit,
--   deadline by the server's clock in milliseconds, strict or turn or random, seed, count of queues,
--   then of each queue `, "", "QUEUE"]`, then the lists: for each priority that of each queue.
-- Returns {state, when the first lease of another handle ends or '', {list, reason} of each that can't be read flat,
--   queue and head of each entry that is no message flat, queue and message of each that was taken flat};
--   state 0: done; 2: it came too late, and nothing was done.
local unacked, index, handles, unreadable, handle, lease = unpack(ARGV, 1, 6)
local number, limit, deadline, order = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10]
local count = tonumber(ARGV[12])
local FIRST_LIST = 13 + count
local steps = (#ARGV - FIRST_LIST + 1) / count
-- Bytes that one answer holds, and those of one chunk more at the most.
local BYTES_MAX, CHUNK = 8388608, 16
local UNREADABLE_MAX = 1000

local time = redis.call('TIME')
if time[1] * 1000 + time[2] / 1000 > deadline then return {2} end
local now = time[1] .. '.' .. string.format('%06d', time[2])
math.randomseed(tonumber(ARGV[11]))

local function first_lease_of_others()
  local all = redis.call('ZRANGE', handles, 0, 1, 'WITHSCORES')
  for at = 1, #all, 2 do
    if all[at] ~= handle then return all[at + 1] end
  end
  return ''
end

-- A key of another type is found out here: what is popped before a command fails is in no list any more.
local lease_of_others = first_lease_of_others()
redis.call('ZSCORE', index, handle)
redis.call('HGET', unacked, handle)

local bytes, scores, entries, taken, broken, refused = 0, {}, {}, {}, {}, {}

-- Anything else than an object can't stand in `unacked`: a stock worker that restores it would fail at it.
local function is_object(raw) return string.find(raw, '^%s*{') and string.find(string.sub(raw, -64), '}%s*$') end

local function hold(queue, raw)
  bytes = bytes + #raw
  if not is_object(raw) then
    redis.pcall('LPUSH', unreadable, raw)
    redis.pcall('LTRIM', unreadable, 0, UNREADABLE_MAX - 1)
    broken[#broken + 1] = queue
    broken[#broken + 1] = string.sub(raw, 1, 200)
    return
  end
  local tag = 'pool:' .. handle .. ':' .. string.format('%d', number)
  number, limit = number + 1, limit - 1
  scores[#scores + 1] = now
  scores[#scores + 1] = tag
  entries[#entries + 1] = tag
  entries[#entries + 1] = '[' .. raw .. ARGV[12 + queue]
  taken[#taken + 1] = queue
  taken[#taken + 1] = raw
end

-- Takes up to `most` of a list. Returns whether it may have more.
local function pop(step, queue, most)
  local list = ARGV[FIRST_LIST + (step - 1) * count + queue - 1]
  local wanted = math.min(most, limit, CHUNK)
  local raws = redis.pcall('RPOP', list, wanted)
  if not raws then return false end
  if raws.err then
    local reason = reason_of(raws)
    if not is_about_data(reason) then error({err = reason}) end
    refused[#refused + 1] = list
    refused[#refused + 1] = reason
    return false
  end
  for _, raw in ipairs(raws) do hold(queue, raw) end
  if bytes >= BYTES_MAX then limit = 0 end
  return #raws == wanted
end

local function take_in_order(step)
  for queue = 1, count do
    while limit > 0 and pop(step, queue, limit) do end
  end
end

-- One of each queue in turn; the queue that gave goes last, in the next step too.
local turn = {}
for queue = 1, count do turn[queue] = queue end

local function take_in_turn(step)
  local may_have = {}
  for queue = 1, count do may_have[queue] = true end
  local left = count
  while limit > 0 and left > 0 do
    local candidates = {}
    for at, queue in ipairs(turn) do
      if may_have[queue] then candidates[#candidates + 1] = at end
    end
    local at = candidates[order == 'random' and math.random(#candidates) or 1]
    local queue, before = turn[at], #taken
    if not pop(step, queue, left == 1 and limit or 1) then
      may_have[queue] = false
      left = left - 1
    end
    if #taken > before and order == 'turn' then
      table.remove(turn, at)
      turn[#turn + 1] = queue
    end
  end
end

for step = 1, steps do
  if limit > 0 then (order == 'strict' and take_in_order or take_in_turn)(step) end
end
-- Behind the first write the server refuses none for want of memory. Source: Redis, script.c, scriptVerifyOOM.
for at = 1, #scores, 1000 do
  local last = math.min(at + 999, #scores)
  redis.call('ZADD', index, unpack(scores, at, last))
  redis.call('HSET', unacked, unpack(entries, at, last))
end
if #taken > 0 then redis.call('ZADD', handles, time[1] + lease, handle) end
return {0, lease_of_others, refused, broken, taken}
