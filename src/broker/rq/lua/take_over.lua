-- Renews this supervisor's lease, and takes over from those whose leases have run out; goes behind give_back.lua.
-- Keys that RQ does not know: PREFIX:pool_leases, a sorted set of the first halves of execution ids, each with the end of its
-- lease in milliseconds of the server's clock; PREFIX:pool_lease:HALF, the set of the queues that it serves.
-- ARGV: prefix, the first half of the ids of this supervisor's executions, the lease in milliseconds, 1 if what had begun
--   runs again or 0, 1 if others' leases are looked at or 0, queue...
-- Returns 1 if the own lease had run out or 0, how many jobs wait again, the ids of those that came back too often, and the
--   queues in which RQ's housekeeping finds abandoned jobs.
local own, lease, runs_again, looks = ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1', ARGV[5] == '1'
local DAY, LONG_AGO = 86400, 1
local leases, time = p .. ':pool_leases', redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local abandoned = {}

local function queues_of(half) return p .. ':pool_lease:' .. half end

local function renew()
  local known = call('ZSCORE', leases, own)
  call('ZADD', leases, now + lease, own)
  for at = 6, #ARGV do call('SADD', queues_of(own), ARGV[at]) end
  redis.call('EXPIRE', queues_of(own), DAY)
  return known and tonumber(known) < now
end

-- A job that had begun is as one whose worker sends no heartbeats any more: RQ's housekeeping ends it.
local function end_claim(claim, queue)
  local id, execution, score = unpack(claim)
  if (runs_again or score % 1 ~= 0) and give_back(id, execution, queue) then return end
  call('ZADD', p .. ':wip:' .. queue, LONG_AGO, id .. ':' .. execution)
  forget_execution(id, execution, queue)
  abandoned[queue] = true
end

local function take_over(half, queue)
  local wip = call('ZRANGE', p .. ':wip:' .. queue, 0, -1, 'WITHSCORES')
  local claims = claims_of(wip, function(execution) return string.sub(execution, 1, 16) == half end)
  for _, claim in ipairs(claims) do attempt(end_claim, claim, queue) end
  redis.call('SREM', queues_of(half), queue)
end

local function main()
  begin_writes()
  -- Who is late itself may be so for the server's sake, and then all are.
  if renew() then return {1, 0, {}, {}} end
  if not looks then return {0, 0, {}, {}} end
  for _, half in ipairs(call('ZRANGEBYSCORE', leases, 0, now)) do
    for at = 6, #ARGV do
      if call('SISMEMBER', queues_of(half), ARGV[at]) == 1 then attempt(take_over, half, ARGV[at]) end
    end
    if redis.call('SCARD', queues_of(half)) == 0 then redis.call('ZREM', leases, half) end
  end
  local queues = {}
  for queue in pairs(abandoned) do queues[#queues + 1] = queue end
  return {0, moved, begun, queues}
end

return run(main)
