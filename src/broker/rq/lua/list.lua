-- What lists show of jobs, in one step. ARGV: prefixes as in common.lua, 'dead' or another place, how many fields, field..., id...
-- Returns {the fields, traceback of the newest result, how many runs have failed} of each. What is not known is nil.

local p, _, job_prefix = string.match(ARGV[1], '^(.*)\n(.*)\n(.*)$')
local is_dead, first = ARGV[2] == 'dead', 4 + tonumber(ARGV[3])
local wanted = {unpack(ARGV, 4, first - 1)}
-- Source: rq/results.py, MAX_RESULTS_PER_JOB, Result.Type.
local RESULTS_MAX = 10
local FAILED = {['2'] = true, ['4'] = true, ['5'] = true}

local function field(entry, name)
  for at = 1, #entry, 2 do
    if entry[at] == name then return entry[at + 1] end
  end
  return false
end

-- The traceback, and how many runs failed: each leaves a result, but for those that a retry policy (`retries_left`) has run
-- again, which RQ does not count. A key of another type holds none.
local function results(id)
  local entries = redis.pcall('XREVRANGE', p .. ':results:' .. id, '+', '-', 'COUNT', RESULTS_MAX)
  if entries.err or not entries[1] then return false, false end
  local traceback, known = field(entries[1][2], 'exc_string'), redis.pcall('HMGET', job_prefix .. id, 'status', 'retries_left')
  if #entries == RESULTS_MAX or known[1] ~= 'failed' or (known[2] and known[2] ~= '') then return traceback, false end
  local count = 0
  for _, entry in ipairs(entries) do
    if FAILED[field(entry[2], 'type')] then count = count + 1 end
  end
  return traceback, count
end

local found = {}
for at = first, #ARGV do
  local fields = redis.pcall('HMGET', job_prefix .. ARGV[at], unpack(wanted))
  local traceback, failures = false, false
  if is_dead then traceback, failures = results(ARGV[at]) end
  found[#found + 1] = {fields.err and {} or fields, traceback, failures}
end
return found
