-- Adds jobs, all or none. Source: rq/queue.py, enqueue_job and schedule_job; rq/scripts.py, UNIQUE_ENQUEUE_SCRIPT.
-- ARGV: prefix, group or '', how many of the jobs are its members; then for each job: id, queue, place, held,
--   number of fields, field, value...
-- place: 'L' front, 'R' back, or the Unix second when it is due; 'D' and the Unix second since when it waits for the
--   members of the group; 'F' and the second since when it waits for the first of them to fail, see first_failure.lua.
-- held: what becomes of it when there is a job of this id: 'taken', all is refused; 'open', while that one has not ended
--   this one is not added, else it takes its place.
-- Returns {id that is taken, or a line feed if the group is, or ''}, then 1 or 0 for each job: whether it was added.
local p, group, members = ARGV[1], ARGV[2], tonumber(ARGV[3])
local group_key = p .. ':group:' .. group
if group ~= '' and redis.call('EXISTS', group_key) == 1 then return {'\n'} end
local function each(visit)
  local at = 4
  while at <= #ARGV do
    local fields = tonumber(ARGV[at + 4])
    local stop = visit(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], at + 5, at + 4 + 2 * fields)
    if stop then return stop end
    at = at + 5 + 2 * fields
  end
  return ''
end

local taken = each(function(id, _, _, held)
  if held == 'taken' and redis.call('EXISTS', p .. ':job:' .. id) == 1 then return id end
end)
if taken ~= '' then return {taken} end

local ended = {finished = true, failed = true, stopped = true, canceled = true}
-- As Job.delete does it.
local function forget(id, key)
  local job = redis.call('HMGET', key, 'origin', 'group_id')
  for _, registry in ipairs({'finished', 'failed', 'canceled'}) do
    redis.call('ZREM', p .. ':' .. registry .. ':' .. (job[1] or ''), id)
  end
  if job[2] and job[2] ~= '' then redis.call('SREM', p .. ':group:' .. job[2], id) end
  redis.call('DEL', key, key .. ':dependents', p .. ':job::' .. id .. ':dependencies', p .. ':results:' .. id)
end

-- Source: rq/job.py, register_dependency.
local function defer(id, queue, since, others)
  redis.call('ZADD', p .. ':deferred:' .. queue, since, id)
  for _, other in ipairs(others) do
    redis.call('SADD', p .. ':job:' .. other .. ':dependents', id)
    redis.call('SADD', p .. ':job::' .. id .. ':dependencies', other)
  end
end

local answer, queues, grouped = {''}, {}, {}
each(function(id, queue, place, held, first, last)
  local key = p .. ':job:' .. id
  local status = held == 'open' and redis.call('HGET', key, 'status')
  if status and not ended[status] then
    answer[#answer + 1] = 0
    return
  end
  if status then forget(id, key) end
  redis.call('HSET', key, unpack(ARGV, first, last))
  answer[#answer + 1] = 1
  if #grouped < members then
    grouped[#grouped + 1] = id
    redis.call('HSET', key, 'group_id', group)
    redis.call('SADD', group_key, id)
  end
  local waits, since = string.match(place, '^([DF])(%d+)$')
  if waits == 'D' then return defer(id, queue, since, grouped) end
  if waits == 'F' then
    redis.call('HSET', p .. ':first_failures', group, id)
    return defer(id, queue, since, {})
  end
  local list = p .. ':queue:' .. queue
  if not queues[queue] then
    queues[queue] = true
    redis.call('SADD', p .. ':queues', list)
  end
  if place == 'L' then redis.call('LPUSH', list, id)
  elseif place == 'R' then redis.call('RPUSH', list, id)
  else redis.call('ZADD', p .. ':scheduled:' .. queue, place, id) end
end)
-- Source: rq/group.py, _add_jobs.
if #grouped > 0 then redis.call('SADD', p .. ':groups', group) end
return answer
