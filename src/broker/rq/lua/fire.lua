-- Handles one due time of a schedule: marks it and enqueues its job, or does neither. Goes behind rate_limit.lua and the function
-- enqueue_jobs, which is enqueue.lua. See schedules.lua for the hash of a schedule.
-- ARGV: as for enqueue.lua with one job or none, then name, due time in milliseconds or '' for a person's request, overlap ('skip',
--   'queue' or 'allow'), the time in milliseconds, seconds that the job may wait or '', the name of RQ's cron job or ''.
-- Returns {what became of it, the job that this is about or ''}.
local function last() return table.remove(ARGV) end
local cron, ttl, now, overlap, due, name = last(), last(), last(), last(), last(), last()
local key = p .. ':pool_schedule:' .. name
local id = ARGV[6]

-- The job that the schedule made last, if it has not ended.
local function open_job(last_job)
  if not given(last_job) then return nil end
  local ended = {finished = true, failed = true, stopped = true, canceled = true}
  local status = call('HGET', job_key(last_job), 'status')
  return status and not ended[status] and last_job or nil
end

-- Why the due time makes no job, and which job that is about; nil: it makes one.
local function left_out()
  local known = call('HMGET', key, 'mark', 'paused', 'job')
  if known[1] and tonumber(due) <= tonumber(known[1]) then return 'known', '' end
  if known[2] == '1' then return 'paused', '' end
  if not id then return 'left_out', '' end
  local open = overlap ~= 'allow' and open_job(known[3])
  if not open then return nil end
  if overlap == 'queue' then return 'waits', open end
  return 'overlaps', open
end

local function mark()
  if due == '' then return end
  redis.call('HSET', key, 'mark', due)
  redis.call('HDEL', key, 'held')
end

-- Source: rq/cron.py, CronJob.enqueue; rq/cron_job_registry.py, add; rq/defaults.py, DEFAULT_CRON_JOB_HISTORY_LIMIT and _TTL.
local function note_cron_job()
  if cron == '' then return end
  local history, seconds = p .. ':cron_job:' .. cron .. ':jobs', string.format('%.6f', tonumber(now) / 1000)
  redis.call('ZADD', history, seconds, id)
  redis.call('ZREMRANGEBYRANK', history, 0, -1001)
  redis.call('EXPIRE', history, 31536000)
  redis.call('ZADD', p .. ':cron_jobs', seconds, cron)
end

return run(function()
  local why, job
  if due ~= '' then why, job = left_out() end
  if why == 'known' then return {why, job} end
  if why == 'waits' then
    redis.call('HSETNX', key, 'held', due)
    return {why, job}
  end
  if why then
    mark()
    return {why, job}
  end
  local added = enqueue_jobs()
  if added.err then return added end
  if added[1] ~= '' then return {'taken', id} end
  mark()
  redis.call('HSET', key, 'job', id, 'fired', now)
  local seconds = lifetime(ttl, 'ttl')
  if seconds and seconds > 0 then redis.call('EXPIRE', job_key(id), seconds) end
  note_cron_job()
  return {'enqueued', id}
end)
