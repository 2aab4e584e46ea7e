-- The job that waits for the first failure in a group: it goes into its queue when a member has failed for good, and is
-- taken away when all members have ended and none has failed. Goes behind common.lua, before the scripts that end jobs.

-- A member that failed, and whether any is still open. A member whose hash is gone has ended.
local function look_at_members(group)
  local ended, open = {finished = true, stopped = true, canceled = true}, false
  for _, member in ipairs(redis.call('SMEMBERS', p .. ':group:' .. group)) do
    local status = redis.call('HGET', job_key(member), 'status')
    if status == 'failed' then return member, open end
    open = open or (status and not ended[status])
  end
  return nil, open
end

-- One decision in one step, so that the job goes once, whoever asks. failed: a member that is known to have failed, or nil.
local function first_failure(group, now, failed)
  local id = redis.call('HGET', p .. ':first_failures', group)
  if not id then return end
  local key = job_key(id)
  local job = redis.call('HMGET', key, 'origin', 'data_before_failed', 'data_after_failed', 'data_is_json')
  -- Somebody may have canceled or deleted it.
  local waits = job[1] and job[2] and redis.call('ZSCORE', p .. ':deferred:' .. job[1], id)
  if waits and not failed then
    local open
    failed, open = look_at_members(group)
    if not failed and open then return end
  end
  if waits and failed then push(id, job[1]) end
  redis.call('HDEL', p .. ':first_failures', group)
  if not waits then return end
  redis.call('ZREM', p .. ':deferred:' .. job[1], id)
  if not failed then
    redis.call('DEL', key)
    return
  end
  local text = job[4] == '1' and cjson.encode(failed) or struct.pack('BB', 0x8c, #failed) .. failed
  redis.call('HSET', key, 'status', 'queued', 'enqueued_at', now, 'data', job[2] .. text .. job[3])
  redis.call('HDEL', key, 'data_before_failed', 'data_after_failed', 'data_is_json')
  redis.call('SADD', p .. ':queues', queue_key(job[1]))
end

-- The groups of which a member ended in this call, each looked at once.
local ended_groups = {}

-- Notes that a member ended: failed: its id if it has failed for good.
local function note_group(group, now, failed)
  if not given(group) then return end
  ended_groups[group] = {now, failed or (ended_groups[group] or {})[2]}
end

-- Looks at the noted groups. Returns the first error, if there was one: a group that can't be read stops no other.
local function look_at_groups()
  local first_error
  for group, noted in pairs(ended_groups) do
    local ok, why = attempt(first_failure, group, noted[1], noted[2])
    if not ok then first_error = first_error or reason_of(why) end
  end
  return first_error
end
