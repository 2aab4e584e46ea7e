-- Registers workers, their heartbeats and their deaths. Source: rq/worker/base.py, register_birth, heartbeat,
-- register_death; rq/worker_registration.py; rq/executions.py.
-- ARGV: prefix, now as ISO, now in seconds, worker ttl, monitoring ttl, hostname, ip address, count of the living,
--   version of rq, of Python;
--   then 11 of each living: name, new or again (another process) or '', pid, queues (comma list), birth as ISO, state, job or '', its queue,
--   its execution or '', since (seconds), asked to leave or ''; then 2 of each dead: name, queues.
-- Returns the names that belong to somebody else.
local p, now_iso, now, ttl, job_ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local host, ip, living = ARGV[6], ARGV[7], tonumber(ARGV[8])

local function each_set(queues, command, key)
  redis.call(command, p .. ':workers', key)
  for queue in string.gmatch(queues, '[^,]+') do redis.call(command, p .. ':workers:' .. queue, key) end
end

local taken = {}
local at = 11
for _ = 1, living do
  local name, new, pid, queues, birth, state = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
  local job, queue, execution, since = ARGV[at + 6], ARGV[at + 7], ARGV[at + 8], ARGV[at + 9]
  local asked = ARGV[at + 10]
  at = at + 11
  local key = p .. ':worker:' .. name
  local there = redis.call('HMGET', key, 'hostname', 'death', 'birth')
  local foreign = new == 'new' and there[3] and not there[2] and there[1] ~= host
  if foreign then
    taken[#taken + 1] = name
  else
    if new == 'again' and there[3] then
      -- A worker of RQ outlives the processes that run its jobs, and so do its name and what was counted under it.
      redis.call('HSET', key, 'pid', pid)
      redis.call('HDEL', key, 'death', 'shutdown_requested_date')
      each_set(queues, 'SADD', key)
    elseif new ~= '' or not there[3] then
      -- What was counted before it was registered is its own.
      if there[3] then redis.call('DEL', key) end
      redis.call('HSET', key, 'birth', birth, 'queues', queues, 'pid', pid, 'hostname', host, 'ip_address', ip,
        'version', ARGV[9], 'python_version', ARGV[10])
      each_set(queues, 'SADD', key)
    end
    redis.call('HSET', key, 'state', state, 'last_heartbeat', now_iso)
    redis.call('EXPIRE', key, state == 'busy' and job_ttl or ttl + 60)
    if asked ~= '' then redis.call('HSETNX', key, 'shutdown_requested_date', now_iso) end
    local wip, member = p .. ':wip:' .. queue, job .. ':' .. execution
    local score = job ~= '' and execution ~= '' and redis.call('ZSCORE', wip, member)
    if score then
      -- It has begun, see job.lua.
      redis.call('ZADD', wip, math.floor(tonumber(score)), member)
      local record = p .. ':execution:' .. job .. ':' .. execution
      if redis.call('EXISTS', record) == 1 then
        redis.call('HSET', record, 'worker_name', name, 'created_at', since)
      end
      if redis.call('EXISTS', p .. ':job:' .. job) == 1 then
        redis.call('HSET', p .. ':job:' .. job, 'worker_name', name)
      end
      redis.call('SADD', key .. ':executions', job .. ':' .. execution)
    end
    redis.call('EXPIRE', key .. ':executions', state == 'busy' and job_ttl or ttl + 60)
  end
end
for dead = at, #ARGV, 2 do
  local key = p .. ':worker:' .. ARGV[dead]
  each_set(ARGV[dead + 1], 'SREM', key)
  if redis.call('EXISTS', key) == 1 then
    redis.call('HSET', key, 'state', 'idle', 'death', now_iso)
    redis.call('EXPIRE', key, 60)
  end
  redis.call('DEL', key .. ':executions')
end
return taken
