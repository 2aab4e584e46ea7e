-- Deletes jobs that wait in a queue, are due later, or wait for their turn by a rate limit; goes behind rate_limit.lua.
-- Source: rq/queue.py, Queue.empty; rq/registry.py, BaseRegistry.remove with delete_job.
-- ARGV: prefix, now as ISO text, now in seconds, queue, waiting, scheduled or rate_limited, how many at the most, id... of those
-- that are rate limited. Returns how many went.
now_iso, now = ARGV[2], ARGV[3]
local queue, what, last = ARGV[4], ARGV[5], tonumber(ARGV[6]) - 1
local list, scheduled = queue_key(queue), p .. ':scheduled:' .. queue

-- What can't be deleted stays where it is, and its id is dropped all the same: RQ's workers would drop it too.
local function purge(id)
  local job = call('HMGET', job_key(id), 'group_id', 'rate_limit_key')
  local limit, concurrency = given(job[2]) and job[2], limit_of(job[2])
  delete(id, job[1])
  free_slot(id, limit, concurrency, false)
end

-- One whose turn has come since stands in its queue.
local function still_rate_limited(id)
  local limit = call('HGET', job_key(id), 'rate_limit_key')
  return given(limit) and call('ZSCORE', rate_limit_key(limit, 'rate_limited'), id)
end

if what == 'rate_limited' then
  begin_writes()
  local gone = 0
  for at = 7, #ARGV do
    local read, is_here = attempt(still_rate_limited, ARGV[at])
    if read and is_here and attempt(purge, ARGV[at]) then gone = gone + 1 end
  end
  return gone
end
local ids = what == 'waiting' and call('LRANGE', list, 0, last) or call('ZRANGE', scheduled, 0, last)
if #ids == 0 then return 0 end
begin_writes()
-- They leave first: a slot that is free brings the next one into the queue.
if what == 'waiting' then redis.call('LPOP', list, #ids) else redis.call('ZREM', scheduled, unpack(ids)) end
for _, id in ipairs(ids) do attempt(purge, id) end
return #ids
