-- Gives back what a supervisor that is no more had taken and not begun: RQ's housekeeping takes each expired claim for a
-- job that was abandoned while it ran. Goes behind common.lua. ARGV: prefix, now in seconds, queue...
-- A claim that is not known to have begun may have: how often it came back is counted. The third time it counts as begun,
-- and RQ's housekeeping, which comes next, ends it by RQ's rules.
-- Returns how many jobs wait again, then the ids of those that count as begun.
local now = tonumber(ARGV[2])

-- The fraction says that it is not known to have begun, see job.lua.
local function is_held(_, score) return score % 1 ~= 0 end

local function held(wip) return claims_of(call('ZRANGEBYSCORE', wip, 0, now, 'WITHSCORES'), is_held) end

local function give_back(id, execution, queue)
  local index, wip, claim = p .. ':executions:' .. id, p .. ':wip:' .. queue, id .. ':' .. execution
  local job = call('HMGET', job_key(id), 'data', 'status', 'worker_name', 'ttl', 'pool_returned')
  local whole = job[2] == 'queued' and job[3] == execution
  local plain = job[2] == 'started'
  -- Another execution of it may run.
  for _, other in ipairs(call('ZRANGE', index, 0, -1)) do plain = plain and other == execution end
  local returned = (tonumber(job[5] or '') or 0) + 1
  if job[1] and plain and returned >= RETURNS_MAX then
    redis.call('HDEL', job_key(id), 'pool_returned')
    redis.call('ZADD', wip, math.floor(tonumber(redis.call('ZSCORE', wip, claim))), claim)
    begun[#begun + 1] = id
    return
  end
  if job[1] and plain then redis.call('HSET', job_key(id), 'pool_returned', returned) end
  if job[1] and (whole or plain) and wait_again(id, queue, 'started', true, job[4]) then moved = moved + 1 end
  if whole then redis.pcall('LREM', queue_key(queue) .. ':intermediate', 1, id) end
  redis.call('ZREM', wip, claim)
  redis.call('DEL', p .. ':execution:' .. claim)
  redis.call('ZREM', index, execution)
end

for at = 3, #ARGV do
  local read, claims = attempt(held, p .. ':wip:' .. ARGV[at])
  -- What can't be given back is RQ's housekeeping's.
  for _, claim in ipairs(read and claims or {}) do attempt(give_back, claim[1], claim[2], ARGV[at]) end
end
return {moved, begun}
