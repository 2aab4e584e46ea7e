-- A job that can't be started, settled or woken fails alone, with the reason; goes behind common.lua.
local YEAR = 31536000
-- Id and reason of each such job, for the log.
local refused = {}

-- Text as RQ keeps it with a result: base64 of zlib. Source: rq/results.py, Result.serialize; RFC 1950; RFC 1951, 3.2.4.
local function packed(text)
  text = string.sub(text, 1, 1000)
  local a, b = 1, 0
  for at = 1, #text do
    a = (a + string.byte(text, at)) % 65521
    b = (b + a) % 65521
  end
  -- One block that is stored, between the header and the checksum.
  local bytes = '\120\1\1' .. struct.pack('<HH', #text, 65535 - #text) .. text .. struct.pack('>HH', b, a)
  local digits, out = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/', {}
  local function digit(number, shift)
    local at = math.floor(number / shift) % 64 + 1
    return string.sub(digits, at, at)
  end
  for at = 1, #bytes, 3 do
    local x, y, z = string.byte(bytes, at, at + 2)
    local number = x * 65536 + (y or 0) * 256 + (z or 0)
    out[#out + 1] = digit(number, 262144) .. digit(number, 4096) .. (y and digit(number, 64) or '=') .. (z and digit(number, 1) or '=')
  end
  return table.concat(out)
end

-- Each write stands for itself: one that is refused, too, stops none of the others. text: what is kept, if not the reason.
local function fail_alone(id, queue, error, now_iso, now, text)
  local reason, key = reason_of(error), job_key(id)
  refused[#refused + 1] = id
  refused[#refused + 1] = reason
  for _, registry in ipairs({'finished', 'scheduled', 'deferred'}) do
    redis.pcall('ZREM', p .. ':' .. registry .. ':' .. queue, id)
  end
  redis.pcall('LREM', queue_key(queue) .. ':intermediate', 1, id)
  -- What is no hash is no job, and no list of RQ's may hold it.
  if redis.call('TYPE', key).ok ~= 'hash' then return end
  redis.call('HSET', key, 'status', 'failed', 'ended_at', now_iso, 'last_heartbeat', '', 'worker_name', '')
  redis.call('EXPIRE', key, YEAR)
  redis.pcall('ZADD', p .. ':failed:' .. queue, now + YEAR, id)
  local results = p .. ':results:' .. id
  redis.pcall('XADD', results, 'MAXLEN', '~', '10', '*', 'type', '2', 'worker_name', '',
    'exc_string', text or packed('pool: ' .. reason))
  redis.pcall('EXPIRE', results, YEAR)
end
