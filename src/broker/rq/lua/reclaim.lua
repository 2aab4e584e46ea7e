-- Gives back what a supervisor that is no more had taken and not begun: RQ's housekeeping takes each expired claim for a
-- job that was abandoned while it ran. Goes behind give_back.lua. ARGV: prefix, now in seconds, queue...
-- What counts as begun is ended by RQ's housekeeping, which comes next, by RQ's rules.
-- Returns how many jobs wait again, then the ids of those that count as begun.
local now = tonumber(ARGV[2])

-- The fraction says that it is not known to have begun, see job.lua.
local function is_held(_, score) return score % 1 ~= 0 end

local function held(wip) return claims_of(call('ZRANGEBYSCORE', wip, 0, now, 'WITHSCORES'), is_held) end

local function reclaim(claim, queue)
  local id, execution, score = unpack(claim)
  if give_back(id, execution, queue) then return end
  redis.call('ZADD', p .. ':wip:' .. queue, math.floor(score), id .. ':' .. execution)
end

for at = 3, #ARGV do
  local read, claims = attempt(held, p .. ':wip:' .. ARGV[at])
  -- What can't be given back is RQ's housekeeping's.
  for _, claim in ipairs(read and claims or {}) do attempt(reclaim, claim, ARGV[at]) end
end
return {moved, begun}
