-- Notes how far jobs are, those that are still there; goes behind common.lua. ARGV: prefixes, field, {id, JSON}...
for at = 3, #ARGV, 2 do
  local key = job_key(ARGV[at])
  if redis.pcall('HGET', key, 'status') == 'started' then call('HSET', key, ARGV[2], ARGV[at + 1]) end
end
