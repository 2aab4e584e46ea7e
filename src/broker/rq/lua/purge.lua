-- Deletes jobs that wait in a queue, or are due later; goes behind rate_limit.lua. Source: rq/queue.py, Queue.empty;
-- rq/registry.py, BaseRegistry.remove with delete_job.
-- ARGV: prefix, now as ISO text, now in seconds, queue, waiting or scheduled, how many at the most. Returns how many went.
now_iso, now = ARGV[2], ARGV[3]
local queue, last = ARGV[4], tonumber(ARGV[6]) - 1
local list, scheduled = queue_key(queue), p .. ':scheduled:' .. queue

-- What can't be deleted stays where it is, and its id is dropped all the same: RQ's workers would drop it too.
local function purge(id)
  local job = call('HMGET', job_key(id), 'group_id', 'rate_limit_key')
  local limit, concurrency = given(job[2]) and job[2], limit_of(job[2])
  delete(id, job[1])
  free_slot(id, limit, concurrency, false)
end

local ids = ARGV[5] == 'waiting' and call('LRANGE', list, 0, last) or call('ZRANGE', scheduled, 0, last)
if #ids == 0 then return 0 end
begin_writes()
-- They leave first: a slot that is free brings the next one into the queue.
if ARGV[5] == 'waiting' then redis.call('LPOP', list, #ids) else redis.call('ZREM', scheduled, unpack(ids)) end
for _, id in ipairs(ids) do attempt(purge, id) end
return #ids
