-- What is known of jobs, in one step. ARGV: prefix, id...
-- Returns {hash, newest result} of each; the hash of a job that is not there is empty.
local found = {}
for at = 2, #ARGV do
  found[#found + 1] = {redis.call('HGETALL', ARGV[1] .. ':job:' .. ARGV[at]),
    redis.call('XREVRANGE', ARGV[1] .. ':results:' .. ARGV[at], '+', '-', 'COUNT', 1)}
end
return found
