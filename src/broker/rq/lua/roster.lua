-- Registers workers, their heartbeats and their deaths; goes behind common.lua. Source: rq/worker/base.py, register_birth, heartbeat,
-- register_death; rq/worker_registration.py; rq/executions.py.
-- ARGV: prefix, now as ISO, now in seconds, worker ttl, monitoring ttl, hostname, ip address, count of the living,
--   version of rq, of Python, queues to look at for jobs that nobody moves (comma list);
--   then 11 of each living: name, new or again (another process) or '', pid, queues (comma list), birth as ISO, state, job or '', its queue,
--   its execution or '', since (seconds), asked to leave or ''; then 2 of each dead: name, queues.
-- Returns {names that belong to somebody else, those of the queues}. An error of one worker comes when all were told of.
local now_iso, now, ttl, job_ttl = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local host, ip, living = ARGV[6], ARGV[7], tonumber(ARGV[8])

local function each_set(queues, command, key)
  call(command, p .. ':workers', key)
  for queue in string.gmatch(queues, '[^,]+') do call(command, p .. ':workers:' .. queue, key) end
end

local taken = {}
local function tell_of(at)
  local name, new, pid, queues, birth, state = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
  local job, queue, execution, since = ARGV[at + 6], ARGV[at + 7], ARGV[at + 8], ARGV[at + 9]
  local asked = ARGV[at + 10]
  local key = p .. ':worker:' .. name
  local there = call('HMGET', key, 'hostname', 'death', 'birth')
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
    local score = job ~= '' and execution ~= '' and call('ZSCORE', wip, member)
    if score then
      -- It has begun, see job.lua.
      redis.call('ZADD', wip, math.floor(tonumber(score)), member)
      local record = p .. ':execution:' .. job .. ':' .. execution
      if redis.call('EXISTS', record) == 1 then
        redis.call('HSET', record, 'worker_name', name, 'created_at', since)
      end
      if redis.call('EXISTS', job_key(job)) == 1 then call('HSET', job_key(job), 'worker_name', name) end
      call('SADD', key .. ':executions', job .. ':' .. execution)
    end
    redis.call('EXPIRE', key .. ':executions', state == 'busy' and job_ttl or ttl + 60)
  end
end

-- A scheduler looks once a second.
local LATE_S = 10

-- Whether a job should long be in its queue, and no scheduler has the lock of that.
local function is_left(queue)
  local first = redis.pcall('ZRANGE', p .. ':scheduled:' .. queue, 0, 0, 'WITHSCORES')
  return first[2] and now - tonumber(first[2]) > LATE_S and redis.call('EXISTS', p .. ':scheduler-lock:' .. queue) == 0
end

local first_error
local function say(tell, at)
  local ok, why = attempt(tell, at)
  if not ok then first_error = first_error or reason_of(why) end
end

local function bury(dead)
  local key = p .. ':worker:' .. ARGV[dead]
  each_set(ARGV[dead + 1], 'SREM', key)
  if redis.call('EXISTS', key) == 1 then
    redis.call('HSET', key, 'state', 'idle', 'death', now_iso)
    redis.call('EXPIRE', key, 60)
  end
  redis.call('DEL', key .. ':executions')
end

local left = {}
for queue in string.gmatch(ARGV[11], '[^,]+') do
  if is_left(queue) then left[#left + 1] = queue end
end
for number = 0, living - 1 do say(tell_of, 12 + 11 * number) end
for dead = 12 + 11 * living, #ARGV, 2 do say(bury, dead) end
return first_error and redis.error_reply(first_error) or {taken, left}
