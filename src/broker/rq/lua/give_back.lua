-- What a supervisor that is no more had taken waits again; goes behind common.lua.
-- A claim that is not known to have begun may have: how often it came back is counted. The third time it counts as begun.
local moved, begun = 0, {}
local RETURNS_MAX = 3

local function forget_execution(id, execution, queue)
  local record, claim = p .. ':execution:' .. id .. ':' .. execution, id .. ':' .. execution
  local worker = redis.call('HGET', record, 'worker_name')
  if worker then redis.pcall('SREM', p .. ':worker:' .. worker .. ':executions', claim) end
  redis.call('DEL', record)
  redis.call('ZREM', p .. ':executions:' .. id, execution)
end

-- Returns false for a job that counts as begun, of which the claim stays.
local function give_back(id, execution, queue)
  local job = call('HMGET', job_key(id), 'data', 'status', 'ttl', 'pool_returned')
  local started = job[1] and job[2] == 'started'
  -- Another execution of it may run.
  for _, other in ipairs(call('ZRANGE', p .. ':executions:' .. id, 0, -1)) do started = started and other == execution end
  local returned = (tonumber(job[4] or '') or 0) + 1
  if started and returned >= RETURNS_MAX then
    redis.call('HDEL', job_key(id), 'pool_returned')
    begun[#begun + 1] = id
    return false
  end
  if started then redis.call('HSET', job_key(id), 'pool_returned', returned) end
  if started and wait_again(id, queue, 'started', true, job[3]) then moved = moved + 1 end
  redis.call('ZREM', p .. ':wip:' .. queue, id .. ':' .. execution)
  forget_execution(id, execution, queue)
  return true
end

-- {id, execution, score} of these members of a registry of started jobs, as they come with their scores; the youngest
-- first, since each goes in front of those before it.
local function claims_of(found, is_wanted)
  local claims = {}
  for at = 1, #found, 2 do
    local id, execution = string.match(found[at], '^(.*):(%x+)$')
    local score = tonumber(found[at + 1])
    if id and is_wanted(execution, score) then claims[#claims + 1] = {id, execution, score} end
  end
  table.sort(claims, function(a, b) return a[2] > b[2] end)
  return claims
end
