-- Which commands of the scripts this user may not run, or this server does not know; goes behind common.lua.
-- ARGV: prefix, a text that no key has. Returns their names. Each is run so that nothing is left behind.
local key = p .. ':nothing:' .. ARGV[2]
local probes = {
  {'DEL', key}, {'EXISTS', key}, {'TYPE', key}, {'TTL', key}, {'EXPIRE', key, 1}, {'PERSIST', key}, {'TIME'},
  {'SET', key, '', 'EX', 1}, {'GET', key}, {'DEL', key},
  {'HSET', key, 'a', 1}, {'HSETNX', key, 'a', 1}, {'HGET', key, 'a'}, {'HMGET', key, 'a'}, {'HGETALL', key}, {'HKEYS', key},
  {'HINCRBY', key, 'a', 1}, {'HINCRBYFLOAT', key, 'a', 1}, {'HDEL', key, 'a'},
  {'LPUSH', key, 'a'}, {'RPUSH', key, 'a'}, {'LLEN', key}, {'LRANGE', key, 0, 0}, {'LPOS', key, 'a'}, {'LREM', key, 1, 'a'},
  {'LPOP', key},
  {'SADD', key, 'a'}, {'SMEMBERS', key}, {'SISMEMBER', key, 'a'}, {'SCARD', key}, {'SREM', key, 'a'},
  {'ZADD', key, 1, 'a'}, {'ZSCORE', key, 'a'}, {'ZCARD', key}, {'ZCOUNT', key, 0, 1}, {'ZRANGE', key, 0, 0},
  {'ZRANGEBYSCORE', key, 0, 1}, {'ZREM', key, 'a'}, {'ZPOPMIN', key}, {'ZREMRANGEBYRANK', key, 0, 0},
  {'XADD', key, 'NOMKSTREAM', '*', 'a', 1}, {'XRANGE', key, '-', '+'}, {'XREVRANGE', key, '+', '-'},
}
local refused, told = {}, {}
for _, probe in ipairs(probes) do
  local answer = redis.pcall(unpack(probe))
  local reason = type(answer) == 'table' and answer.err and reason_of(answer)
  local is_refused = reason and (is_forbidden(reason) or string.find(reason, 'Unknown Redis command', 1, true))
  if is_refused and not told[probe[1]] then
    told[probe[1]] = true
    refused[#refused + 1] = probe[1]
  end
end
return refused
