-- Wakes what depends on jobs that have ended; goes behind fail.lua, before settle.lua.
-- Source: rq/queue.py, move_dependents_to_ready; rq/job.py, dependencies_are_met; rq/registry.py, ReadyJobRegistry.
-- What depends on the jobs that end in this call, each once: one that waits for many of them is looked at once.
local asleep, order = {}, {}

-- Notes who depends on a job that ends. False when one of them is RQ's own code's affair: it waits for a slot, too.
local function note_dependents(id, now_iso)
  local dependents = call('SMEMBERS', job_key(id) .. ':dependents')
  for _, dependent in ipairs(dependents) do
    local limit = redis.pcall('HGET', job_key(dependent), 'rate_limit_key')
    if type(limit) == 'string' and limit ~= '' then return false end
  end
  for _, dependent in ipairs(dependents) do
    if not asleep[dependent] then order[#order + 1] = dependent end
    asleep[dependent] = now_iso
  end
  return true
end

local function are_met(dependencies, allows_failure)
  for _, id in ipairs(dependencies) do
    local status = redis.call('HGET', job_key(id), 'status')
    if status and status ~= 'finished' and not (allows_failure and status == 'failed') then return false end
  end
  return true
end

-- job: origin, allow_dependency_failures, enqueue_at_front, timeout, ttl, enqueue_at_front_on_retry, ended_at.
local function wake(id, job, now_iso)
  local key = job_key(id)
  local dependencies = call('SMEMBERS', dependencies_key(id))
  if not are_met(dependencies, job[2] == '1') or not call('ZSCORE', p .. ':deferred:' .. job[1], id) then return end
  local was_run = job[6] == '1' and given(job[7])
  push(id, job[1], was_run or job[3] == '1', job[5])
  redis.call('ZREM', p .. ':deferred:' .. job[1], id)
  -- From all of them: RQ tells dependents of a failure after it has written it, and would find this one again.
  for _, other in ipairs(dependencies) do redis.pcall('SREM', job_key(other) .. ':dependents', id) end
  redis.call('HSET', key, 'status', 'queued', 'enqueued_at', now_iso)
  if not given(job[4]) then redis.call('HSET', key, 'timeout', 180) end
end

local function wake_all(now)
  for _, id in ipairs(order) do
    local job = redis.pcall('HMGET', job_key(id), 'origin', 'allow_dependency_failures', 'enqueue_at_front', 'timeout',
      'ttl', 'enqueue_at_front_on_retry', 'ended_at')
    if given(job[1]) then
      local ok, why = attempt(wake, id, job, asleep[id])
      if not ok then fail_alone(id, job[1], why, asleep[id], now) end
    end
  end
end
