-- Failed jobs: back into their queues, or away. Source: rq/registry.py, BaseRegistry.requeue; rq/job.py, Job.delete.
-- ARGV: prefix, requeue or delete, now as ISO, id...
-- Returns the ids that were found among the failed.
local p, what, now_iso = ARGV[1], ARGV[2], ARGV[3]
local found = {}
for at = 4, #ARGV do
  local id = ARGV[at]
  local key = p .. ':job:' .. id
  local queue = redis.call('HGET', key, 'origin')
  local limit = redis.call('HGET', key, 'rate_limit_key')
  -- One with a rate limit must wait for its turn, which RQ's own code gives it.
  local limited = what == 'requeue' and limit and limit ~= ''
  if queue and not limited and redis.call('ZREM', p .. ':failed:' .. queue, id) == 1 then
    found[#found + 1] = id
    if what == 'delete' then
      local group = redis.call('HGET', key, 'group_id')
      if group and group ~= '' then redis.call('SREM', p .. ':group:' .. group, id) end
      redis.call('DEL', key, key .. ':dependents', p .. ':job::' .. id .. ':dependencies', p .. ':results:' .. id)
    else
      redis.call('HSET', key, 'status', 'queued', 'enqueued_at', now_iso, 'started_at', '', 'ended_at', '',
        'last_heartbeat', '', 'worker_name', '')
      redis.call('HDEL', key, 'exc_info')
      local ttl = tonumber(redis.call('HGET', key, 'ttl') or '')
      if ttl and ttl > 0 then redis.call('EXPIRE', key, ttl) else redis.call('PERSIST', key) end
      redis.call('RPUSH', p .. ':queue:' .. queue, id)
    end
  end
end
return found
