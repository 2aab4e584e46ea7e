-- Gives back what a supervisor that is no more had taken and not begun: RQ's housekeeping, which comes next, takes each
-- expired claim for a job that was abandoned while it ran. ARGV: prefix, now in seconds, queue...
-- Returns how many jobs wait again.
local p, now, moved = ARGV[1], tonumber(ARGV[2]), 0

local function held(wip)
  local found, claims = redis.call('ZRANGEBYSCORE', wip, 0, now, 'WITHSCORES'), {}
  for at = 1, #found, 2 do
    local id, execution = string.match(found[at], '^(.*):(%x+)$')
    -- The fraction says so, see job.lua.
    if id and tonumber(found[at + 1]) % 1 ~= 0 then claims[#claims + 1] = {id, execution} end
  end
  -- Each goes in front of those before it: the youngest first.
  table.sort(claims, function(a, b) return a[2] > b[2] end)
  return claims
end

for at = 3, #ARGV do
  local wip, list = p .. ':wip:' .. ARGV[at], p .. ':queue:' .. ARGV[at]
  for _, claim in ipairs(held(wip)) do
    local id, execution = claim[1], claim[2]
    local key, index = p .. ':job:' .. id, p .. ':executions:' .. id
    redis.call('ZREM', wip, id .. ':' .. execution)
    redis.call('DEL', p .. ':execution:' .. id .. ':' .. execution)
    redis.call('ZREM', index, execution)
    local job = redis.call('HMGET', key, 'data', 'status', 'worker_name', 'ttl')
    local whole = job[2] == 'queued' and job[3] == execution
    local plain = job[2] == 'started' and redis.call('ZCARD', index) == 0
    if whole then redis.call('LREM', list .. ':intermediate', 1, id) end
    if job[1] and (whole or plain) then
      redis.call('HSET', key, 'status', 'queued', 'started_at', '', 'last_heartbeat', '', 'worker_name', '')
      local ttl = tonumber(job[4] or '')
      if ttl and ttl > 0 then redis.call('EXPIRE', key, ttl) end
      redis.call('LPUSH', list, id)
      moved = moved + 1
    end
  end
end
return moved
