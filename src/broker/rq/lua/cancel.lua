-- Cancels jobs that have not begun; goes behind rate_limit.lua. Source: rq/job.py, Job.cancel; rq/rate_limit.py,
-- RateLimitRegistry.cancel. ARGV: prefix, now as ISO text, now in seconds, id...
-- Returns a word of each: done, asked (it is in a supervisor's hand), runs, ended, unknown; or why it can't be canceled.
now_iso, now = ARGV[2], ARGV[3]
local ENDED = {finished = true, failed = true, stopped = true, canceled = true}

-- Takes a job from a place. Returns whether it was there; a key of another type holds none.
local function leaves(command, ...)
  local count = redis.pcall(command, ...)
  return type(count) == 'number' and count > 0
end

-- Whether a claim of it is not known to have begun (see job.lua); nil where nobody has it.
local function is_held(id, queue)
  local wip = p .. ':wip:' .. queue
  local held
  for _, execution in ipairs(call('ZRANGE', p .. ':executions:' .. id, 0, -1)) do
    local score = call('ZSCORE', wip, id .. ':' .. execution)
    if score then held = tonumber(score) % 1 ~= 0 end
  end
  return held
end

local function cancel(id)
  local key = job_key(id)
  local job = call('HMGET', key, 'data', 'status', 'origin', 'rate_limit_key')
  local status, queue = job[2], job[3]
  if not job[1] or not queue then return 'unknown' end
  if ENDED[status] then return 'ended' end
  local held
  if status == 'started' then
    held = is_held(id, queue)
    if not held then return 'runs' end
  end
  -- What can fail comes first: then the job stays where it is.
  local limit, concurrency = given(job[4]) and job[4], 0
  if limit then
    concurrency = limit_of(limit)
  end
  call('ZADD', p .. ':canceled:' .. queue, now, id)
  local waited = status == 'rate_limited' or leaves('LREM', queue_key(queue), 1, id)
  if status == 'scheduled' or status == 'deferred' then
    waited = leaves('ZREM', p .. ':' .. status .. ':' .. queue, id) or waited
  end
  if held then
    for _, execution in ipairs(redis.call('ZRANGE', p .. ':executions:' .. id, 0, -1)) do
      leaves('ZREM', p .. ':wip:' .. queue, id .. ':' .. execution)
    end
  end
  redis.call('HSET', key, 'status', 'canceled')
  free_slot(id, limit, concurrency, held)
  return (held or not waited) and 'asked' or 'done'
end

local answer = {}
begin_writes()
for at = 4, #ARGV do
  local ok, word = attempt(cancel, ARGV[at])
  answer[#answer + 1] = ok and word or reason_of(word)
end
return answer
