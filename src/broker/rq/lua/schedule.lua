-- Moves scheduled jobs that are due into their queues, if this scheduler has or gets the lock of the queue.
-- Source: rq/scheduler.py, enqueue_scheduled_jobs; rq/scripts.py, ACQUIRE_OR_REFRESH_LOCK_SCRIPT.
-- ARGV: prefix, scheduler's name, now in seconds, now as ISO, lock ttl, hostname, pid, created as ISO, queue...
-- Returns {count moved, next due or '', [queue, id of a job with a rate limit]...}
local p, name, now, now_iso, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local moved, next_due, limited, owned = 0, '', {}, {}
for at = 9, #ARGV do
  local queue = ARGV[at]
  local lock = p .. ':scheduler-lock:' .. queue
  local owner = redis.call('GET', lock)
  if not owner or owner == name then
    redis.call('SET', lock, name, 'EX', ttl)
    owned[#owned + 1] = queue
    local set = p .. ':scheduled:' .. queue
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', set, 0, now, 'LIMIT', 0, 1000)) do
      local key = p .. ':job:' .. id
      local job = redis.call('HMGET', key, 'data', 'rate_limit_key', 'enqueue_at_front', 'enqueue_at_front_on_retry',
        'ttl', 'ended_at', 'timeout')
      if job[1] and job[2] and job[2] ~= '' then
        limited[#limited + 1] = queue
        limited[#limited + 1] = id
      elseif not job[1] then
        redis.call('ZREM', set, id)
      else
        redis.call('ZREM', set, id)
        redis.call('HSET', key, 'status', 'queued', 'enqueued_at', now_iso, 'origin', queue)
        if not job[7] or job[7] == '' then redis.call('HSET', key, 'timeout', 180) end
        local expiry = tonumber(job[5] or '')
        if expiry and expiry > 0 then redis.call('EXPIRE', key, expiry) end
        local front = (tonumber(job[3] or '') or 0) ~= 0
          or ((tonumber(job[4] or '') or 0) ~= 0 and job[6] and job[6] ~= '')
        redis.call(front and 'LPUSH' or 'RPUSH', p .. ':queue:' .. queue, id)
        moved = moved + 1
      end
    end
    local first = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')
    if first[2] and (next_due == '' or tonumber(first[2]) < tonumber(next_due)) then next_due = first[2] end
  end
end
local key = p .. ':scheduler:' .. name
if #owned > 0 then
  redis.call('HSET', key, 'name', name, 'hostname', ARGV[6], 'pid', ARGV[7], 'queues', table.concat(owned, ','),
    'created_at', ARGV[8], 'last_heartbeat', now_iso)
  redis.call('EXPIRE', key, ttl)
end
return {moved, next_due, limited}
