-- Stores results; goes behind common.lua and store.lua.
-- ARGV: 3 of each: key, the result, its life in seconds or ''.
-- Returns the key and the reason of each one that can't be stored.
for at = 1, #ARGV, 3 do store(ARGV[at], ARGV[at + 1], ARGV[at + 2]) end
return refused
