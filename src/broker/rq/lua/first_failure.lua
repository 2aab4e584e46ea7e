-- Lets the job go that waits for the first failure in its group; takes it away when all members ended and none has failed.
-- Each call is one decision, so that the job goes once, whoever asks, and however often.
-- Asked by the watcher, a job that RQ's workers know how to wake (see first_failure.rs), by housekeeping, and by settle.lua.
-- ARGV[1]: prefix. id: of the job that waits; now: as ISO.
local p = ARGV[1]
local function first_failure(id, now)
  local key, watched = p .. ':job:' .. id, p .. ':first_failure_jobs'
  local job = redis.call('HMGET', key, 'origin', 'group_of_first_failure', 'watcher', 'watchers')
  local queue, group, name, count = job[1], job[2], job[3], job[4]
  if not group then
    redis.call('SREM', watched, id)
    return
  end
  local function dependencies(of) return p .. ':job::' .. of .. ':dependencies' end
  local function dependents(of) return p .. ':job:' .. of .. ':dependents' end
  local watcher = name .. '-' .. count
  local ended = {finished = true, stopped = true, canceled = true}
  local members, open, failed = redis.call('SMEMBERS', p .. ':group:' .. group), {}, nil
  for _, member in ipairs(members) do
    local status = redis.call('HGET', p .. ':job:' .. member, 'status')
    if status == 'failed' then
      failed = member
    elseif status and not ended[status] then
      open[#open + 1] = member
      -- RQ's housekeeping wakes the dependents of an abandoned job before it writes that it failed.
      if status == 'started' and redis.call('SISMEMBER', dependents(member), watcher) == 0 then failed = member end
    end
  end
  local waits = redis.call('ZSCORE', p .. ':deferred:' .. queue, id)
  local state = redis.call('HGET', p .. ':job:' .. watcher, 'status')

  if waits and not failed and #open > 0 then
    -- The one that looks is spent: the next takes its place.
    if state == 'started' then
      local following = name .. '-' .. (count + 1)
      local hash = p .. ':job:' .. following
      redis.call('COPY', p .. ':job:' .. watcher, hash)
      redis.call('HSET', hash, 'status', 'finished', 'dependency_id', following,
        'dependency_ids', '["' .. following .. '"]', 'started_at', '', 'last_heartbeat', '', 'worker_name', '')
      redis.call('SADD', dependencies(following), following)
      for _, member in ipairs(members) do redis.call('SREM', dependents(member), watcher) end
      for _, member in ipairs(open) do redis.call('SADD', dependents(member), following) end
      redis.call('HSET', key, 'watchers', count + 1)
    end
    return
  end

  for _, member in ipairs(members) do redis.call('SREM', dependents(member), watcher) end
  -- One that was woken finds nothing to do, and is gone then.
  if state == 'finished' then redis.call('DEL', p .. ':job:' .. watcher, dependencies(watcher)) end
  redis.call('SREM', watched, id)
  if waits then redis.call('ZREM', p .. ':deferred:' .. queue, id) end
  if waits and not failed then
    redis.call('DEL', key)
    return
  end
  if waits then
    local data = redis.call('HMGET', key, 'data_before_failed', 'data_after_failed', 'data_is_json')
    local text = data[3] == '1' and cjson.encode(failed) or struct.pack('BB', 0x8c, #failed) .. failed
    redis.call('HSET', key, 'status', 'queued', 'enqueued_at', now, 'data', data[1] .. text .. data[2])
    redis.call('SADD', p .. ':queues', p .. ':queue:' .. queue)
    redis.call('RPUSH', p .. ':queue:' .. queue, id)
  end
  redis.call('HDEL', key, 'group_of_first_failure', 'watcher', 'watchers', 'data_before_failed', 'data_after_failed',
    'data_is_json')
end
