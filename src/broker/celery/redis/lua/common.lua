-- What each script begins with.

-- What an error says: a text, or since Redis 7 a table.
local function reason_of(error)
  local text = type(error) == 'table' and error.err or tostring(error)
  text = string.gsub(string.gsub(text, '^%-', ''), ' script: .*$', '')
  return (string.gsub(text, '[^\32-\126]', '?'))
end

-- A key is of another type, or a value out of range: the fault of what is there. All other errors are the server's, now.
local function is_about_data(reason) return string.find(reason, '^WRONGTYPE') or string.find(reason, '^ERR') end

-- The server's clock, as a score: kombu's time().
local function now_as_score()
  local time = redis.call('TIME')
  return time[1] .. '.' .. string.format('%06d', time[2])
end
