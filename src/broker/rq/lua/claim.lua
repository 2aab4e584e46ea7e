-- Takes up to `limit` jobs from the queues in order, and starts the plain ones.
-- ARGV: prefix, limit, now as ISO text, now in seconds, monitoring interval, worker name, execution prefix,
--       first number, first number of calls whose answer was lost (or ''), now in seconds with their fraction,
--       default or round_robin or random, seed, queue...
-- Returns {state, job...}; state 1: all workers are suspended. A job is
--   {id, queue, number, kind, data, timeout, retries_left, retry_intervals, enqueued_at, description, stopped callback, attempts}.
local p, limit, now_iso, now_s = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local interval, worker, prefix, number = tonumber(ARGV[5]), ARGV[6], ARGV[7], tonumber(ARGV[8])
local lost, now_f = ARGV[9], ARGV[10]

local fields = {'data', 'timeout', 'retries_left', 'retry_intervals', 'enqueued_at', 'description',
  'success_callback_name', 'failure_callback_name', 'stopped_callback_name', 'repeats_left',
  'rate_limit_key', 'webhooks', 'number_of_retries', 'enqueue_at_front_on_retry'}

local function given(value) return value and value ~= '' end

local function describe(id, queue, n)
  local job = redis.call('HMGET', p .. ':job:' .. id, unpack(fields))
  if not job[1] then return nil end
  local whole = given(job[7]) or given(job[8]) or (given(job[10]) and tonumber(job[10]) ~= 0)
    or given(job[11]) or given(job[12]) or (given(job[2]) and not tonumber(job[2]))
    or redis.call('EXISTS', p .. ':job:' .. id .. ':dependents') == 1
  local timeout = given(job[2]) and tonumber(job[2]) or 180
  return {id, queue, tostring(n), whole and 'W' or 'P', job[1], tostring(timeout), job[3] or '',
    job[4] or '', job[5] or '', job[6] or '', job[9] or '', job[13] or ''}
end

local function start(job)
  local id, queue = job[1], job[2]
  if job[4] == 'W' then
    job[5] = ''
    -- As RQ's dequeue leaves it: its worker takes it from there.
    redis.call('RPUSH', p .. ':queue:' .. queue .. ':intermediate', id)
    return
  end
  local timeout = tonumber(job[6])
  local ttl = interval + 60
  if timeout > 0 then ttl = math.floor(math.min(timeout, interval)) + 60 end
  local execution = string.format('%s%016x', prefix, job[3])
  local record, index = p .. ':execution:' .. id .. ':' .. execution, p .. ':executions:' .. id
  redis.call('ZADD', p .. ':wip:' .. queue, now_s + ttl, id .. ':' .. execution)
  redis.call('HSET', record, 'id', execution, 'job_id', id, 'created_at', now_f, 'last_heartbeat', now_f,
    'worker_name', worker)
  redis.call('EXPIRE', record, ttl)
  redis.call('ZADD', index, now_s + ttl + 60, execution)
  redis.call('EXPIRE', index, ttl + 60)
  redis.call('HSET', p .. ':job:' .. id, 'status', 'started', 'started_at', now_iso,
    'last_heartbeat', now_iso, 'worker_name', worker)
  redis.call('PERSIST', p .. ':job:' .. id)
end

local answer = {0}
if lost ~= '' then
  -- The answer to an earlier call never arrived: what it started is ours, and known by the numbers of its executions.
  for at = 13, #ARGV do
    local queue = ARGV[at]
    for _, member in ipairs(redis.call('ZRANGE', p .. ':wip:' .. queue, 0, -1)) do
      local id, execution = string.match(member, '^(.*):(%x+)$')
      if execution and #execution == 32 and string.sub(execution, 1, 16) == prefix then
        local n = tonumber(string.sub(execution, 17), 16)
        if n >= tonumber(lost) and n < number then
          local job = describe(id, queue, n)
          if job then job[4] = 'P'; answer[#answer + 1] = job end
        end
      end
    end
  end
  return answer
end
if redis.call('EXISTS', p .. ':suspended') == 1 then return {1} end
local function take(id, queue)
  local job = describe(id, queue, number)
  if not job then return end
  start(job)
  answer[#answer + 1] = job
  number, limit = number + 1, limit - 1
end

if ARGV[11] == 'default' then
  for at = 13, #ARGV do
    while limit > 0 do
      local ids = redis.call('LPOP', p .. ':queue:' .. ARGV[at], limit)
      if not ids or #ids == 0 then break end
      for _, id in ipairs(ids) do take(id, ARGV[at]) end
    end
  end
  return answer
end
local queues = {}
for at = 13, #ARGV do queues[#queues + 1] = ARGV[at] end
math.randomseed(tonumber(ARGV[12]))
while limit > 0 and #queues > 0 do
  local at = ARGV[11] == 'random' and math.random(#queues) or 1
  local queue = table.remove(queues, at)
  local id = redis.call('LPOP', p .. ':queue:' .. queue)
  if id then
    take(id, queue)
    queues[#queues + 1] = queue
  end
end
return answer
