-- Carries out outcomes of jobs, as RQ's handle_job_success, handle_job_failure and Job.retry do.
-- ARGV: prefix, now in seconds, default result ttl, then 12 of each job:
--   what, id, execution, queue, worker, started as ISO, ended as ISO, started and ended in seconds,
--   result or error (base64), due in seconds or '', of C the rate limit or '',
--   the worker under whose name it was shown or ''
-- what: X nothing more, S success, F failure, L failure by the death of its worker, U failure since it can't be run at all,
--   T stopped, R another run, D another run after the death of its worker, B back to the front of its queue, as if not
--   taken, C canceled, or stopped before it began: for RQ it has started, and is stopped.
-- Returns one number a job, then id and reason of each job that failed alone since this could not be done.
--   1 done (or failed alone), 0 not held any more, 2 what depends on it asks for RQ's own code to finish it,
--   3 it was deleted.
-- Each job stands for itself: what can fail of its writes comes first, and then it fails alone.
now = tonumber(ARGV[2])
local default_ttl = tonumber(ARGV[3])

-- A job was called off before it began: its slot goes to the next, unless the job has come back meanwhile. Source:
-- rq/rate_limit.py, RELEASE_STALE_AND_ENQUEUE_SCRIPT.
local function leave_slot(id, limit, ended_iso)
  local status = redis.call('HGET', job_key(id), 'status')
  if status == 'queued' or status == 'started' then return end
  now_iso = ended_iso
  free_slot(id, limit, limit_of(limit), redis.call('ZCOUNT', p .. ':executions:' .. id, '(' .. now, '+inf') > 0)
end

local function release(id, execution, queue, shown)
  redis.pcall('ZREM', p .. ':wip:' .. queue, id .. ':' .. execution)
  redis.call('DEL', p .. ':execution:' .. id .. ':' .. execution)
  redis.pcall('ZREM', p .. ':executions:' .. id, execution)
  -- Only an execution that ran for a while was shown as its worker's.
  if shown ~= '' then redis.pcall('SREM', p .. ':worker:' .. shown .. ':executions', id .. ':' .. execution) end
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
    for field, by in pairs(of.fields) do redis.pcall('HINCRBY', key, field, by) end
    if of.seconds then redis.pcall('HINCRBYFLOAT', key, 'total_working_time', string.format('%.6f', of.seconds)) end
    -- A job may end before its worker is registered, and after it left.
    if redis.call('TTL', key) == -1 then redis.call('EXPIRE', key, 480) end
  end
end

-- With the job go the two sets that tie it to others, where it has them.
local function expire(id, ttl, has_dependents, dependencies)
  if ttl <= 0 then return end
  local key = job_key(id)
  redis.call('EXPIRE', key, ttl)
  if has_dependents then redis.call('EXPIRE', key .. ':dependents', ttl) end
  if given(dependencies) then redis.call('EXPIRE', dependencies_key(id), ttl) end
end

local function result(id, ttl, kind, worker, execution, started, ended, field, value)
  local key = p .. ':results:' .. id
  local entry = {'type', kind, 'worker_name', worker}
  if value ~= '' then entry[#entry + 1] = field; entry[#entry + 1] = value end
  for _, pair in ipairs({{'execution_id', execution}, {'execution_started_at', started}, {'execution_ended_at', ended}}) do
    if pair[2] ~= '' then entry[#entry + 1] = pair[1]; entry[#entry + 1] = pair[2] end
  end
  call('XADD', key, 'MAXLEN', '~', '10', '*', unpack(entry))
  if ttl == -1 then redis.call('PERSIST', key) elseif ttl then redis.call('EXPIRE', key, ttl) end
end

-- Into its queue, or among the scheduled until it is due.
local function run_again(id, queue, ttl, due, at_front)
  if due == '' then
    push(id, queue, at_front, ttl)
    redis.call('HSET', job_key(id), 'status', 'queued')
    return
  end
  local seconds = lifetime(ttl, 'ttl')
  call('ZADD', p .. ':scheduled:' .. queue, due, id)
  if seconds and seconds > 0 then redis.call('EXPIRE', job_key(id), seconds) end
  redis.call('HSET', job_key(id), 'status', 'scheduled')
  redis.call('SADD', p .. ':queues', queue_key(queue))
end

-- Its runtime settled it. Where its execution stands nevertheless, that was at a master which another one has replaced
-- since: it has begun, and RQ's housekeeping ends it as abandoned. Returns 1.
local function forget(id, execution, queue, shown, ended_iso, in_hand)
  local job = redis.call('HMGET', job_key(id), 'status', 'group_id')
  if job[1] == 'started' and type(in_hand) == 'string' then
    redis.call('ZADD', p .. ':wip:' .. queue, math.floor(in_hand), id .. ':' .. execution)
    return 1
  end
  note_group(job[2], ended_iso)
  release(id, execution, queue, shown)
  return 1
end

local function settle(at)
  local what, id, execution, queue, worker = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local started_iso, ended_iso, started, ended = ARGV[at + 5], ARGV[at + 6], ARGV[at + 7], ARGV[at + 8]
  local value, due, shown = ARGV[at + 9], ARGV[at + 10], ARGV[at + 11]
  local key = job_key(id)
  -- A job that was canceled while it runs is in no registry, and ends as it ends.
  local in_hand = redis.pcall('ZSCORE', p .. ':wip:' .. queue, id .. ':' .. execution)
  if what == 'X' then return forget(id, execution, queue, shown, ended_iso, in_hand) end
  local is_held = type(in_hand) == 'string' or redis.call('EXISTS', p .. ':execution:' .. id .. ':' .. execution) == 1
  local job = call('HMGET', key, 'data', 'result_ttl', 'failure_ttl', 'ttl', 'retries_left',
    'enqueue_at_front_on_retry', 'timeout', 'status', 'dependency_id', 'group_id', 'pool_returned', 'stopped_callback_name',
    'rate_limit_key')
  local is_gone = not job[1]
  -- Whoever canceled it has written so, and left it its slot, since its execution was alive.
  if not is_held or is_gone or what == 'C' and job[8] ~= 'started' then
    if is_held then release(id, execution, queue, shown) end
    if what == 'C' and due ~= '' then leave_slot(id, due, ended_iso) end
    return is_gone and 3 or is_held and 1 or 0
  end
  if what == 'C' then
    if given(job[12]) or given(job[13]) then return 2 end
    what = 'T'
  end
  local fails = what == 'F' or what == 'L' or what == 'U'
  local ends = what == 'S' or what == 'T' or fails
  local has_dependents = ends and redis.call('EXISTS', key .. ':dependents') == 1
  if has_dependents then
    -- RQ wakes nobody when a job ends that was canceled; and of a failure that is not kept nobody could read that it was one.
    local is_odd = job[8] == 'canceled' or what ~= 'S' and whole_number(job[3], 'failure_ttl') == 0
    if (is_odd or not note_dependents(id, ended_iso)) and what ~= 'U' then return 2 end
  end
  if ends then note_group(job[10], ended_iso, fails and id) end
  if what == 'B' then
    wait_again(id, queue, job[8], true, job[4])
    release(id, execution, queue, shown)
    return 1
  end
  -- It has ended under a supervisor that lives: see reclaim.lua.
  if job[11] then redis.call('HDEL', key, 'pool_returned') end
  local seconds
  if started ~= '' then seconds = tonumber(ended) - tonumber(started) end
  local stamps = {'ended_at', ended_iso, 'last_heartbeat', ended_iso, 'worker_name', worker}
  if what == 'L' or what == 'D' or what == 'T' or what == 'U' then
    -- RQ's parent process ends such a job by the copy that it took from the queue.
    stamps = {'ended_at', what == 'T' and '' or ended_iso, 'last_heartbeat', '', 'worker_name', ''}
  end
  if what == 'T' then ended, seconds = '', nil end
  if started_iso ~= '' then stamps[7] = 'started_at'; stamps[8] = started_iso end
  if what == 'S' then
    local ttl = lifetime(job[2], 'result_ttl') or default_ttl
    if ttl == 0 then
      delete(id, job[10])
    else
      call('ZADD', p .. ':finished:' .. queue, ttl < 0 and (ttl == -1 and '+inf' or ttl) or now + ttl, id)
      result(id, ttl, '1', worker, execution, started, ended, 'return_value', value)
      redis.call('HSET', key, 'status', 'finished', unpack(stamps))
      expire(id, ttl, has_dependents, job[9])
    end
    release(id, execution, queue, shown)
    count(worker, 'successful_job_count', seconds)
    return 1
  end
  if what == 'R' or what == 'D' then
    local left, front = whole_number(job[5], 'retries_left') or 1, whole_number(job[6], 'enqueue_at_front_on_retry')
    redis.call('HSET', key, 'retries_left', left - 1, unpack(stamps))
    -- A job that was canceled while it ran does not run again.
    if job[8] ~= 'canceled' then
      run_again(id, queue, job[4], due, front and front ~= 0)
      if due == '' then
        redis.call('HSET', key, 'enqueued_at', ended_iso)
        if not given(job[7]) then redis.call('HSET', key, 'timeout', 180) end
      end
    end
    release(id, execution, queue, shown)
    count(worker, 'failed_job_count', seconds)
    return 1
  end
  local ttl = lifetime(job[3], 'failure_ttl')
  local kept = ttl or YEAR
  call('ZADD', p .. ':failed:' .. queue, kept < 0 and kept or now + kept, id)
  if kept == 0 then
    delete(id, job[10])
  else
    result(id, ttl, '2', worker, execution, started, ended, 'exc_string', value)
    redis.call('HSET', key, 'status', what == 'T' and 'stopped' or 'failed', unpack(stamps))
    expire(id, kept, has_dependents, job[9])
  end
  release(id, execution, queue, shown)
  count(worker, 'failed_job_count', seconds)
  return 1
end

local function settle_all()
  local answer = {}
  begin_writes()
  for at = 4, #ARGV, 12 do
    local ok, done = attempt(settle, at)
    if not ok then
      local id, execution, queue, ended_iso = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 6]
      -- A job that failed by itself keeps its own error.
      local failed = ARGV[at] == 'F' or ARGV[at] == 'L' or ARGV[at] == 'U'
      release(id, execution, queue, ARGV[at + 11])
      fail_alone(id, queue, done, ended_iso, now, failed and ARGV[at + 9])
      count(ARGV[at + 4], 'failed_job_count')
      local group = redis.pcall('HGET', job_key(id), 'group_id')
      if type(group) == 'string' then note_group(group, ended_iso, id) end
      done = 1
    end
    answer[#answer + 1] = done
  end
  wake_all(now)
  look_at_groups()
  write_counts()
  for _, text in ipairs(refused) do answer[#answer + 1] = text end
  return answer
end

return run(settle_all)
