-- Finds what claims took whose answer never arrived; goes behind job.lua.
-- ARGV: prefix, execution prefix, count of ranges, then of each its first number and the one behind its last; then queue...
-- Returns jobs.
local prefix, ranges, answer = ARGV[2], tonumber(ARGV[3]), {}

local function number_of(execution)
  if #execution ~= 32 or string.sub(execution, 1, 16) ~= prefix then return nil end
  local number = tonumber(string.sub(execution, 17), 16)
  for at = 4, 3 + 2 * ranges, 2 do
    if number and number >= tonumber(ARGV[at]) and number < tonumber(ARGV[at + 1]) then return number end
  end
end

for at = 4 + 2 * ranges, #ARGV do
  local queue = ARGV[at]
  -- A key of another type holds no claim, and must not hide those of other queues.
  for _, member in ipairs(redis.pcall('ZRANGE', p .. ':wip:' .. queue, 0, -1)) do
    local id, execution = string.match(member, '^(.*):(%x+)$')
    local number = id and number_of(execution)
    local read, job = true, nil
    if number then read, job = attempt(describe, id, queue, number) end
    if read and job then
      add_hash(job, execution)
      answer[#answer + 1] = job
    end
  end
end
return answer
