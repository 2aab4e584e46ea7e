-- Takes the first job of a queue: runs right behind a BLMOVE that waits for it, see standing.rs.
-- ARGV: prefix, queue, monitoring interval, worker name, execution prefix, number,
--       deadline by the server's clock in milliseconds, how far that is ahead of the caller's in milliseconds,
--       when the caller's day began in milliseconds, its date and the next one (2026-03-01T).
-- Returns {state, the server's time in milliseconds, job}; state 0: nothing more waits, 1: all workers are suspended,
--   2: it came too late and nothing was done, 3: more may wait.
local queue, number = ARGV[2], ARGV[6]
interval, worker, prefix = tonumber(ARGV[3]), ARGV[4], ARGV[5]
local list = p .. ':queue:' .. queue
local waiting = call('LLEN', list)
if waiting == 0 then return {0} end

local time = call('TIME')
local server_ms = time[1] * 1000 + math.floor(time[2] / 1000)
if server_ms > tonumber(ARGV[7]) then return {2, server_ms} end
if call('EXISTS', p .. ':suspended') == 1 then return {1, server_ms} end

-- This call was made before anybody knew when it would run.
local now_ms = server_ms - tonumber(ARGV[8])
local of_day = math.max(now_ms - tonumber(ARGV[9]), 0)
local date = of_day < 86400000 and ARGV[10] or ARGV[11]
of_day = of_day % 86400000
now_iso = string.format('%s%02d:%02d:%06.3f000Z', date, math.floor(of_day / 3600000),
  math.floor(of_day / 60000) % 60, of_day % 60000 / 1000)
now_s, now_f = math.floor(now_ms / 1000), string.format('%.3f', now_ms / 1000)

local job = describe(call('LPOP', list), queue, number)
if not job then return {3, server_ms} end
start(job)
return {waiting == 1 and 0 or 3, server_ms, job}
