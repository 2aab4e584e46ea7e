-- What is known of jobs, in one step. ARGV: prefixes as in common.lua, id...
-- Returns {hash, newest result, how many runs have failed or nil} of each; the hash of a job that is not there is empty.

local p, _, job_prefix = string.match(ARGV[1], '^(.*)\n(.*)\n(.*)$')
-- Source: rq/results.py, MAX_RESULTS_PER_JOB, Result.Type.
local RESULTS_MAX = 10
local FAILED = {['2'] = true, ['4'] = true, ['5'] = true}

-- Each run leaves a result, but for those that a retry policy (`retries_left`) has run again: RQ does not count them.
local function failures(job, results)
  local known = redis.call('HMGET', job, 'status', 'retries_left')
  if known[1] ~= 'failed' or (known[2] and known[2] ~= '') then return false end
  local entries, count = redis.call('XRANGE', results, '-', '+', 'COUNT', RESULTS_MAX), 0
  if #entries == 0 or #entries == RESULTS_MAX then return false end
  for _, entry in ipairs(entries) do
    for at = 1, #entry[2], 2 do
      if entry[2][at] == 'type' and FAILED[entry[2][at + 1]] then count = count + 1 end
    end
  end
  return count
end

-- Fields whose names are text: RQ has no others.
local function fields(hash)
  local kept = {}
  for at = 1, #hash, 2 do
    if not string.find(hash[at], '[^\32-\126]') then
      kept[#kept + 1] = hash[at]
      kept[#kept + 1] = hash[at + 1]
    end
  end
  return kept
end

-- One key of another type must not hide the other jobs.
local function look(id)
  local job, results = job_prefix .. id, p .. ':results:' .. id
  local newest = redis.pcall('XREVRANGE', results, '+', '-', 'COUNT', 1)
  local readable = not newest.err
  if readable and newest[1] then newest[1][2] = fields(newest[1][2]) end
  return {fields(redis.call('HGETALL', job)), readable and newest or {}, readable and failures(job, results)}
end

local found = {}
for at = 2, #ARGV do
  local read, job = pcall(look, ARGV[at])
  found[#found + 1] = read and job or {{}, {}, false}
end
return found
