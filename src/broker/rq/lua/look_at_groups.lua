-- Looks for the first failure in groups; goes behind first_failure.lua.
-- ARGV: prefix, now as ISO, member...: their groups; without members all groups whose first failure is waited for.
for at = 3, #ARGV do note_group(redis.call('HGET', job_key(ARGV[at]), 'group_id'), ARGV[2]) end
if #ARGV == 2 then
  for _, group in ipairs(redis.call('HKEYS', p .. ':first_failures')) do note_group(group, ARGV[2]) end
end
local first_error = look_at_groups()
return first_error and redis.error_reply(first_error) or 1
