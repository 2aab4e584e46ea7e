-- Carries out outcomes of plain jobs, as RQ's handle_job_success, handle_job_failure and Job.retry do.
-- ARGV: prefix, now in seconds, default result ttl, then 12 of each job:
--   what, id, execution, queue, worker, started as ISO, ended as ISO, started and ended in seconds,
--   result or error (base64), due in seconds or '',
--   the worker under whose name it was shown or ''
-- what: X nothing more, S success, F failure, L failure by the death of its worker, T stopped, R another run,
--   D another run after the death of its worker; as if not taken: B back to the front of its queue, Q to its end.
-- Returns one number a job: 1 done, 0 not held any more, 2 what depends on it asks for RQ's own code to finish it.
local now, default_ttl = tonumber(ARGV[2]), tonumber(ARGV[3])
local YEAR = 31536000

local function release(id, execution, queue, shown)
  redis.call('ZREM', p .. ':wip:' .. queue, id .. ':' .. execution)
  redis.call('DEL', p .. ':execution:' .. id .. ':' .. execution)
  redis.call('ZREM', p .. ':executions:' .. id, execution)
  -- Only an execution that ran for a while was shown as its worker's.
  if shown ~= '' then redis.call('SREM', p .. ':worker:' .. shown .. ':executions', id .. ':' .. execution) end
end

-- What each worker did in this batch: counted here, and written once.
local did = {}

local function count(worker, field, seconds)
  local of = did[worker] or {fields = {}}
  did[worker] = of
  of.fields[field] = (of.fields[field] or 0) + 1
  if seconds then of.seconds = (of.seconds or 0) + seconds end
end

local function write_counts()
  for worker, of in pairs(did) do
    local key = p .. ':worker:' .. worker
    for field, by in pairs(of.fields) do redis.call('HINCRBY', key, field, by) end
    if of.seconds then redis.call('HINCRBYFLOAT', key, 'total_working_time', string.format('%.6f', of.seconds)) end
    -- A job may end before its worker is registered, and after it left.
    if redis.call('TTL', key) == -1 then redis.call('EXPIRE', key, 480) end
  end
end

local function delete(id, queue)
  local key = p .. ':job:' .. id
  local group = redis.call('HGET', key, 'group_id')
  if group and group ~= '' then redis.call('SREM', p .. ':group:' .. group, id) end
  redis.call('DEL', key, key .. ':dependents', p .. ':job::' .. id .. ':dependencies', p .. ':results:' .. id)
end

-- With the job go the two sets that tie it to others, where it has them.
local function expire(id, ttl, has_dependents, dependencies)
  if ttl <= 0 then return end
  local key = p .. ':job:' .. id
  redis.call('EXPIRE', key, ttl)
  if has_dependents then redis.call('EXPIRE', key .. ':dependents', ttl) end
  if dependencies and dependencies ~= '' then redis.call('EXPIRE', p .. ':job::' .. id .. ':dependencies', ttl) end
end

local function result(id, ttl, kind, worker, execution, started, ended, field, value)
  local key = p .. ':results:' .. id
  local entry = {'type', kind, 'worker_name', worker}
  if value ~= '' then entry[#entry + 1] = field; entry[#entry + 1] = value end
  for _, pair in ipairs({{'execution_id', execution}, {'execution_started_at', started}, {'execution_ended_at', ended}}) do
    if pair[2] ~= '' then entry[#entry + 1] = pair[1]; entry[#entry + 1] = pair[2] end
  end
  redis.call('XADD', key, 'MAXLEN', '~', '10', '*', unpack(entry))
  if ttl == -1 then redis.call('PERSIST', key) elseif ttl then redis.call('EXPIRE', key, ttl) end
end

local function number(value)
  if value and value ~= '' then return tonumber(value) end
end

-- In its queue, or until it is due.
local function wait(id, queue, ttl, due, at_front)
  local key = p .. ':job:' .. id
  ttl = number(ttl)
  if ttl and ttl > 0 then redis.call('EXPIRE', key, ttl) end
  if due ~= '' then
    redis.call('HSET', key, 'status', 'scheduled')
    redis.call('SADD', p .. ':queues', p .. ':queue:' .. queue)
    redis.call('ZADD', p .. ':scheduled:' .. queue, due, id)
    return
  end
  redis.call('HSET', key, 'status', 'queued')
  redis.call(at_front and 'LPUSH' or 'RPUSH', p .. ':queue:' .. queue, id)
end

local function settle(at)
  local what, id, execution, queue, worker = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local started_iso, ended_iso, started, ended = ARGV[at + 5], ARGV[at + 6], ARGV[at + 7], ARGV[at + 8]
  local value, due, shown = ARGV[at + 9], ARGV[at + 10], ARGV[at + 11]
  local key = p .. ':job:' .. id
  -- A job that was canceled while it runs is in no registry, and ends as it ends.
  if not redis.call('ZSCORE', p .. ':wip:' .. queue, id .. ':' .. execution)
    and redis.call('EXISTS', p .. ':execution:' .. id .. ':' .. execution) == 0 then return 0 end
  local job = redis.call('HMGET', key, 'data', 'result_ttl', 'failure_ttl', 'ttl', 'retries_left',
    'enqueue_at_front_on_retry', 'timeout', 'status', 'dependency_id', 'group_id')
  if not job[1] then
    -- It was deleted while it ran.
    release(id, execution, queue, shown)
    return 1
  end
  local ends = what == 'S' or what == 'F' or what == 'L' or what == 'T'
  local has_dependents = ends and redis.call('EXISTS', key .. ':dependents') == 1
  if has_dependents then
    -- RQ wakes nobody when a job ends that was canceled; and of a failure that is not kept nobody could read that it was one.
    local is_odd = job[8] == 'canceled' or what ~= 'S' and number(job[3]) == 0
    if is_odd or not note_dependents(id, ended_iso) then return 2 end
  end
  release(id, execution, queue, shown)
  if ends or what == 'X' then note_group(job[10], ended_iso, (what == 'F' or what == 'L') and id) end
  -- Its runtime settled it.
  if what == 'X' then return 1 end
  if what == 'B' or what == 'Q' then
    redis.call('HSET', key, 'started_at', '', 'last_heartbeat', '', 'worker_name', '')
    wait(id, queue, job[4], due, what == 'B')
    return 1
  end
  local seconds
  if started ~= '' then seconds = tonumber(ended) - tonumber(started) end
  local stamps = {'ended_at', ended_iso, 'last_heartbeat', ended_iso, 'worker_name', worker}
  if what == 'L' or what == 'D' or what == 'T' then
    -- RQ's parent process ends such a job by the copy that it took from the queue.
    stamps = {'ended_at', what == 'T' and '' or ended_iso, 'last_heartbeat', '', 'worker_name', ''}
  end
  if what == 'T' then ended, seconds = '', nil end
  if started_iso ~= '' then stamps[7] = 'started_at'; stamps[8] = started_iso end
  if what == 'S' then
    count(worker, 'successful_job_count', seconds)
    local ttl = number(job[2]) or default_ttl
    if ttl == 0 then delete(id, queue) return 1 end
    redis.call('HSET', key, 'status', 'finished', unpack(stamps))
    result(id, ttl, '1', worker, execution, started, ended, 'return_value', value)
    local score = ttl < 0 and (ttl == -1 and '+inf' or ttl) or now + ttl
    redis.call('ZADD', p .. ':finished:' .. queue, score, id)
    expire(id, ttl, has_dependents, job[9])
    return 1
  end
  count(worker, 'failed_job_count', seconds)
  if what == 'R' or what == 'D' then
    redis.call('HSET', key, 'retries_left', (number(job[5]) or 1) - 1, unpack(stamps))
    if due == '' then
      redis.call('HSET', key, 'enqueued_at', ended_iso)
      if not number(job[7]) then redis.call('HSET', key, 'timeout', 180) end
    end
    local front = number(job[6])
    wait(id, queue, job[4], due, front and front ~= 0)
    return 1
  end
  local ttl = number(job[3])
  local kept = ttl or YEAR
  redis.call('ZADD', p .. ':failed:' .. queue, kept < 0 and kept or now + kept, id)
  if kept == 0 then delete(id, queue) return 1 end
  redis.call('HSET', key, 'status', what == 'T' and 'stopped' or 'failed', unpack(stamps))
  result(id, ttl, '2', worker, execution, started, ended, 'exc_string', value)
  expire(id, kept, has_dependents, job[9])
  return 1
end

local answer = {}
for at = 4, #ARGV, 12 do answer[#answer + 1] = settle(at) end
wake_all()
look_at_groups()
write_counts()
return answer
