-- Finds what claims took whose answer never arrived. ARGV: prefix, execution prefix, count of ranges, then of each
--   its first number and the one behind its last; then queue...
-- Returns jobs.
local prefix, ranges, answer = ARGV[2], tonumber(ARGV[3]), {}

local function number_of(execution)
  if #execution ~= 32 or string.sub(execution, 1, 16) ~= prefix then return nil end
  local number = tonumber(string.sub(execution, 17), 16)
  for at = 4, 3 + 2 * ranges, 2 do
    if number and number >= tonumber(ARGV[at]) and number < tonumber(ARGV[at + 1]) then return number end
  end
end

local function add(id, queue, execution, kind)
  local number = number_of(execution)
  local job = number and describe(id, queue, number)
  if not job then return end
  job[4] = kind
  if kind == 'W' then job[5] = '' end
  answer[#answer + 1] = job
end

for at = 4 + 2 * ranges, #ARGV do
  local queue = ARGV[at]
  for _, member in ipairs(redis.call('ZRANGE', p .. ':wip:' .. queue, 0, -1)) do
    local id, execution = string.match(member, '^(.*):(%x+)$')
    if execution then add(id, queue, execution, 'P') end
  end
  for _, id in ipairs(redis.call('LRANGE', p .. ':queue:' .. queue .. ':intermediate', 0, -1)) do
    add(id, queue, redis.call('HGET', p .. ':job:' .. id, 'worker_name') or '', 'W')
  end
end
return answer
