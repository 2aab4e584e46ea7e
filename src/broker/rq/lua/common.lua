-- What each script begins with. ARGV[1]: the prefix of all keys, and those of queues and of jobs, a line each.
local p, queue_prefix, job_prefix = string.match(ARGV[1], '^(.*)\n(.*)\n(.*)$')

local function given(value) return value and value ~= '' end

local function job_key(id) return job_prefix .. id end

local function queue_key(queue) return queue_prefix .. queue end

-- Source: rq/job.py, Job.dependencies_key_for.
local function dependencies_key(id) return job_prefix .. ':' .. id .. ':dependencies' end

-- What an error says: a text, or since Redis 7 a table.
local function reason_of(error)
  local text = type(error) == 'table' and error.err or tostring(error)
  text = string.gsub(string.gsub(text, '^%-', ''), ' script: %x+, on .*$', '')
  return (string.gsub(text, '[^\32-\126]', '?'))
end

-- As redis.call, with the key in the error.
local function call(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) == 'table' and answer.err then
    error({err = reason_of(answer) .. ' (' .. command .. ' ' .. key .. ')'})
  end
  return answer
end

-- The first write of a script: what refuses it (READONLY, MISCONF, NOREPLICAS) refuses all. Behind it the server refuses none,
-- not even for want of memory, lest a script ends half way. Source: Redis, script.c, scriptVerifyWriteCommandAllow, scriptVerifyOOM.
local function begin_writes() redis.call('DEL', p .. ':nothing') end

-- This user may not run a command, or not touch a key. Each server says it in its own words. Source: scriptVerifyACL in script.c
-- of Redis 7.0, of Redis 7.2, and of Valkey 8.
local function is_forbidden(reason)
  return string.find(reason, '^NOPERM') or string.find(reason, 'The user executing the script', 1, true)
    or string.find(reason, 'ACL failure in script', 1, true)
end

-- As pcall, for a job that stands for itself. That this user may not run a command is no fault of a job: all of the call fails.
local function attempt(f, ...)
  local ok, answer = pcall(f, ...)
  local reason = not ok and reason_of(answer)
  if reason and is_forbidden(reason) then error({err = reason}) end
  return ok, answer
end

-- Runs the main part of a script; what is raised becomes its answer.
local function run(main)
  local ok, answer = pcall(main)
  return ok and answer or redis.error_reply(reason_of(answer))
end

-- A field that holds a whole number, as Python's int() reads it; nil where nothing is given. Source: rq/job.py, Job.restore.
local function whole_number(value, field)
  if not given(value) then return nil end
  if not string.match(value, '^%s*[-+]?%d+%s*$') then error({err = field .. ' is no whole number: ' .. value}) end
  return tonumber(value)
end

-- Seconds for EXPIRE, which refuses more than 64 bits of milliseconds. Source: Redis, expire.c, expireGenericCommand.
local function lifetime(value, field)
  local seconds = whole_number(value, field)
  if seconds and seconds > 9e15 then error({err = field .. ' is more than Redis takes: ' .. value}) end
  return seconds
end

-- Puts a job into its queue. What can fail comes first: a job that is refused stays where it was.
local function push(id, queue, at_front, ttl)
  local seconds = lifetime(ttl, 'ttl')
  call(at_front and 'LPUSH' or 'RPUSH', queue_key(queue), id)
  if seconds and seconds > 0 then redis.call('EXPIRE', job_key(id), seconds) end
end

-- A job whose claim was not carried out waits again, unless it is somebody else's by now: canceled, ended, enqueued anew.
local function wait_again(id, queue, status, at_front, ttl)
  local waits = status == 'started' or not given(status)
  -- Its producer may have saved a copy of its own; one that was enqueued anew stands near the end.
  if status == 'queued' then waits = not call('LPOS', queue_key(queue), id, 'RANK', -1, 'MAXLEN', 10000) end
  if not waits then return false end
  push(id, queue, at_front, ttl)
  redis.call('HSET', job_key(id), 'status', 'queued', 'started_at', '', 'last_heartbeat', '', 'worker_name', '')
  return true
end

-- Source: rq/job.py, Job.delete.
local function delete(id, group)
  local key = job_key(id)
  if given(group) then redis.pcall('SREM', p .. ':group:' .. group, id) end
  redis.call('DEL', key, key .. ':dependents', dependencies_key(id), p .. ':results:' .. id)
end
