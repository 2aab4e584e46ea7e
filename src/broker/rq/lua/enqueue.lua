-- Adds jobs, all or none: what can fail is looked at before the first write. Goes behind rate_limit.lua.
-- Source: rq/queue.py, enqueue_job and schedule_job; rq/scripts.py, UNIQUE_ENQUEUE_SCRIPT.
-- ARGV: prefix, group or '', how many of the jobs are its members, now as ISO text, now in seconds; then for each job: id,
--   queue, place, held, ttl or '', key of its rate limit or '', how many of that key are queued or run at once or '',
--   number of fields, field, value...
-- place: 'L' front, 'R' back, or the Unix second when it is due; 'D' and the Unix second since when it waits for the
--   members of the group; 'F' and the second since when it waits for the first of them to fail, see first_failure.lua.
-- held: what becomes of it when there is a job of this id: 'taken', all is refused; 'open', while that one has not ended
--   this one is not added, else it takes its place.
-- Returns {id that is taken, or a line feed if the group is, or ''}, then 1 or 0 for each job: whether it was added.
local group, members = ARGV[2], tonumber(ARGV[3])
now_iso, now = ARGV[4], ARGV[5]
local group_key = p .. ':group:' .. group
if group ~= '' and redis.call('EXISTS', group_key) == 1 then return {'\n'} end
local function each(visit)
  local at = 6
  while at <= #ARGV do
    local first = at + 8
    local last = first - 1 + 2 * tonumber(ARGV[at + 7])
    local stop = visit(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], at + 4, first, last)
    if stop then return stop end
    at = last + 1
  end
  return ''
end

-- A key that is written must be of its type, or not be there.
local checked = {}
local function check(key, wanted)
  if checked[key] then return end
  checked[key] = true
  local is = redis.call('TYPE', key).ok
  if is ~= wanted and is ~= 'none' then error({err = 'WRONGTYPE ' .. key .. ' is a ' .. is .. ', not a ' .. wanted}) end
end

local function look(id, queue, place, held, more)
  if held == 'taken' and redis.call('EXISTS', job_key(id)) == 1 then return id end
  if held == 'open' then check(job_key(id), 'hash') end
  local waits = string.match(place, '^[DF]')
  if waits then check(p .. ':deferred:' .. queue, 'zset')
  elseif place == 'L' or place == 'R' then check(queue_key(queue), 'list')
  else check(p .. ':scheduled:' .. queue, 'zset') end
  local limit = ARGV[more + 1]
  if limit ~= '' then
    check(p .. ':rl-keys', 'set')
    check(p .. ':rl:' .. limit, 'hash')
    for _, part in ipairs({'allowed', 'rate_limited'}) do check(rate_limit_key(limit, part), 'zset') end
  end
  if group == '' then return end
  -- What an earlier job of this id left behind.
  check(job_key(id) .. ':dependents', 'set')
  check(dependencies_key(id), 'set')
end

local ok, taken = pcall(function()
  check(p .. ':queues', 'set')
  if group ~= '' then
    check(p .. ':groups', 'set')
    check(p .. ':first_failures', 'hash')
  end
  return each(look)
end)
if not ok then return redis.error_reply(reason_of(taken)) end
if taken ~= '' then return {taken} end

local ended = {finished = true, failed = true, stopped = true, canceled = true}
local function forget(id, key)
  local job = redis.call('HMGET', key, 'origin', 'group_id')
  for _, registry in ipairs({'finished', 'failed', 'canceled'}) do
    redis.pcall('ZREM', p .. ':' .. registry .. ':' .. (job[1] or ''), id)
  end
  delete(id, job[2])
end

-- Source: rq/job.py, register_dependency.
local function defer(id, queue, since, others)
  redis.call('ZADD', p .. ':deferred:' .. queue, since, id)
  for _, other in ipairs(others) do
    redis.call('SADD', job_key(other) .. ':dependents', id)
    redis.call('SADD', dependencies_key(id), other)
  end
end

local answer, queues, grouped = {''}, {}, {}
each(function(id, queue, place, held, more, first, last)
  local key = job_key(id)
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
  local ttl, limit, concurrency = ARGV[more], ARGV[more + 1], tonumber(ARGV[more + 2])
  local is_scheduled = string.match(place, '^%d+$')
  -- Source: rq/job.py, Job.cleanup. What is due later lives as long from when it is queued.
  if ttl ~= '' and not is_scheduled then redis.call('EXPIRE', key, ttl) end
  local waits, since = string.match(place, '^([DF])(%d+)$')
  if waits == 'D' then return defer(id, queue, since, grouped) end
  if waits == 'F' then
    redis.call('HSET', p .. ':first_failures', group, id)
    return defer(id, queue, since, {})
  end
  local list = queue_key(queue)
  if not queues[queue] then
    queues[queue] = true
    redis.call('SADD', p .. ':queues', list)
  end
  if is_scheduled then redis.call('ZADD', p .. ':scheduled:' .. queue, place, id)
  elseif limit ~= '' then
    redis.call('HDEL', key, 'enqueued_at')
    wait_for_turn(id, key, limit, concurrency, place == 'L')
  elseif place == 'L' then redis.call('LPUSH', list, id)
  else redis.call('RPUSH', list, id) end
end)
-- Source: rq/group.py, _add_jobs.
if #grouped > 0 then redis.call('SADD', p .. ':groups', group) end
return answer
