-- What is known of jobs, in one step. ARGV: prefix, id...
-- Returns {hash, newest result, how many runs have failed or nil} of each; the hash of a job that is not there is empty.

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

local found = {}
for at = 2, #ARGV do
  local job, results = ARGV[1] .. ':job:' .. ARGV[at], ARGV[1] .. ':results:' .. ARGV[at]
  found[#found + 1] = {redis.call('HGETALL', job), redis.call('XREVRANGE', results, '+', '-', 'COUNT', 1),
    failures(job, results)}
end
return found
