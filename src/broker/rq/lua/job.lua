-- How a job is read; goes behind common.lua, before the scripts that hand out jobs.
-- A job is {id, queue, number, kind, data, timeout, retries_left, retry_intervals, enqueued_at, description,
--   stopped callback, how often it ran before, as far as its hash tells, how often its claim came back, rate limit}.
-- kind P: its function is all of it; C: it has callbacks; W: RQ's own code ends it. Of C and W the data is the whole hash.
-- The score of a claim has this fraction until its job is known to have begun; RQ's own scores are whole.
local HELD = 0.5

-- Nothing where there is no such job. An error: what has its key is no job.
local function describe(id, queue, n)
  local job = call('HMGET', job_key(id), 'data', 'timeout', 'retries_left', 'retry_intervals',
    'enqueued_at', 'description', 'success_callback_name', 'failure_callback_name', 'stopped_callback_name',
    'repeats_left', 'rate_limit_key', 'webhooks', 'number_of_retries', 'ended_at',
    'pool_returned', 'pool_retries')
  if not job[1] then return nil end
  local kind = (given(job[7]) or given(job[8])) and 'C' or 'P'
  if (given(job[10]) and tonumber(job[10]) ~= 0) or given(job[11]) or given(job[12]) then kind = 'W' end
  -- RQ counts the runs of a job that asked for another one. Of others it keeps the retries that are left, and whoever
  -- enqueued the job by the pool's client or its program says how many there were. Else it is known when the last run ended.
  local runs = given(job[13]) and tonumber(job[13]) or 0
  if runs < 1 and given(job[16]) and given(job[3]) then runs = math.max(0, (tonumber(job[16]) or 0) - (tonumber(job[3]) or 0)) end
  if runs < 1 and given(job[14]) then runs = 1 end
  return {id, queue, tostring(n), kind, job[1], given(job[2]) and job[2] or '180', job[3] or '',
    job[4] or '', job[5] or '', job[6] or '', job[9] or '', tostring(runs), job[15] or '', job[11] or ''}
end

-- For RQ's job object: the id of its execution, then the fields and values of the hash in turn, each behind its length.
local function add_hash(job, execution)
  if job[4] == 'P' then return end
  local hash = call('HGETALL', job_key(job[1]))
  for at, text in ipairs(hash) do hash[at] = struct.pack('>I4c0', #text, text) end
  job[5] = execution .. table.concat(hash)
end
