-- Wakes what depends on jobs that have ended; goes before settle.lua. ARGV[1]: prefix.
-- Source: rq/queue.py, move_dependents_to_ready; rq/job.py, dependencies_are_met; rq/registry.py, ReadyJobRegistry.
local p = ARGV[1]
-- What depends on the jobs that end in this call, each once: one that waits for many of them is looked at once.
local asleep, order = {}, {}

-- Notes who depends on a job that ends. False when one of them is RQ's own code's affair: it waits for a slot, too.
local function note_dependents(id, now)
  local dependents = redis.call('SMEMBERS', p .. ':job:' .. id .. ':dependents')
  for _, dependent in ipairs(dependents) do
    local limit = redis.call('HGET', p .. ':job:' .. dependent, 'rate_limit_key')
    if limit and limit ~= '' then return false end
  end
  for _, dependent in ipairs(dependents) do
    if not asleep[dependent] then order[#order + 1] = dependent end
    asleep[dependent] = now
  end
  return true
end

local function are_met(dependencies, allows_failure)
  for _, id in ipairs(dependencies) do
    local status = redis.call('HGET', p .. ':job:' .. id, 'status')
    if status and status ~= 'finished' and not (allows_failure and status == 'failed') then return false end
  end
  return true
end

local function wake(id, now)
  local key = p .. ':job:' .. id
  local job = redis.call('HMGET', key, 'origin', 'allow_dependency_failures', 'enqueue_at_front', 'timeout', 'ttl',
    'enqueue_at_front_on_retry', 'ended_at')
  local dependencies = redis.call('SMEMBERS', p .. ':job::' .. id .. ':dependencies')
  if not job[1] or not are_met(dependencies, job[2] == '1') then return end
  if redis.call('ZREM', p .. ':deferred:' .. job[1], id) == 0 then return end
  -- From all of them: RQ tells dependents of a failure after it has written it, and would find this one again.
  for _, other in ipairs(dependencies) do redis.call('SREM', p .. ':job:' .. other .. ':dependents', id) end
  redis.call('HSET', key, 'status', 'queued', 'enqueued_at', now)
  if not job[4] or job[4] == '' then redis.call('HSET', key, 'timeout', 180) end
  local ttl = tonumber(job[5] or '')
  if ttl and ttl > 0 then redis.call('EXPIRE', key, ttl) end
  local was_run = job[6] == '1' and job[7] and job[7] ~= ''
  redis.call((was_run or job[3] == '1') and 'LPUSH' or 'RPUSH', p .. ':queue:' .. job[1], id)
end

local function wake_all()
  -- A key of another type must not undo what is settled.
  for _, id in ipairs(order) do pcall(wake, id, asleep[id]) end
end
