-- Failed jobs: back into their queues, or away; goes behind rate_limit.lua. Source: rq/registry.py, BaseRegistry.requeue; rq/job.py,
-- Job.delete.
-- ARGV: prefix, requeue or delete, now as ISO, now in seconds, id...
-- Returns the ids that were found among the failed. An error of one job, which stays failed then, comes when all were tried.
local what = ARGV[2]
now_iso, now = ARGV[3], ARGV[4]

local function requeue(id, key, queue)
  local job = call('HMGET', key, 'ttl', 'rate_limit_key', 'rate_limit_concurrency')
  local ttl, concurrency = lifetime(job[1], 'ttl'), whole_number(job[3], 'rate_limit_concurrency')
  local is_limited = given(job[2]) and concurrency and concurrency > 0
  if not is_limited then enqueue(id, queue, false, job[1]) end
  redis.call('HSET', key, 'started_at', '', 'ended_at', '', 'last_heartbeat', '', 'worker_name', '')
  redis.call('HDEL', key, 'exc_info')
  if not ttl or ttl <= 0 then redis.call('PERSIST', key) end
  if is_limited then
    if ttl and ttl > 0 then redis.call('EXPIRE', key, ttl) end
    wait_for_turn(id, key, job[2], concurrency, false)
  end
end

local found, first_error = {}, nil
local function carry_out(id)
  local key = job_key(id)
  local job = call('HMGET', key, 'origin', 'group_id')
  if not job[1] or not call('ZSCORE', p .. ':failed:' .. job[1], id) then return end
  if what == 'delete' then delete(id, job[2]) else requeue(id, key, job[1]) end
  redis.call('ZREM', p .. ':failed:' .. job[1], id)
  found[#found + 1] = id
end

begin_writes()
for at = 5, #ARGV do
  local ok, why = attempt(carry_out, ARGV[at])
  if not ok then first_error = first_error or 'job ' .. ARGV[at] .. ': ' .. reason_of(why) end
end
return first_error and redis.error_reply(first_error) or found
