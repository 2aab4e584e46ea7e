-- Storing results.

-- Key and reason of each one that can't be stored.
local refused = {}

-- A stored success is never overwritten. Source: celery/backends/base.py, KeyValueStoreBackend._store_result.
local function store(key, value, life)
  local before = redis.pcall('GETRANGE', key, 0, 19)
  local answer = before
  if type(before) ~= 'table' or not before.err then
    if before == '{"status": "SUCCESS"' then return end
    answer = life == '' and redis.pcall('SET', key, value) or redis.pcall('SETEX', key, life, value)
  end
  if type(answer) == 'table' and answer.err then
    local reason = reason_of(answer)
    if not is_about_data(reason) then error({err = reason}) end
    refused[#refused + 1] = key
    refused[#refused + 1] = reason
    return
  end
  redis.call('PUBLISH', key, value)
end
