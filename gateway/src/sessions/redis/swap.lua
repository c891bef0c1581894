-- Swaps a record if it is in the expected state, with everything that hangs on it, in one step.
--
-- KEYS  1 the record: 16 hex digits of version, then the value
--       2 the revoked sessions, by how long they are to be remembered
--       3 the sessions of its group, by when they expire; absent where it has none
-- ARGV  1 the version it must have, or nothing where there must be none
--       2 its new version   3 its new value   4 now   5 when it expires
--       6 its id   7 until when it is revoked, or nothing   8 the channel to tell that on
--
-- Times are milliseconds since 1970 by the caller's clock. Gives 1 if the change is made, also where an earlier sending of
-- the same one made it, and 0 if the record was in another state.

local found = redis.call('GETRANGE', KEYS[1], 0, 15)
if found == ARGV[2] then return 1 end
if found ~= ARGV[1] then return 0 end

local now = tonumber(ARGV[4])

-- Adds a name to a set that lives as long as the last name in it.
local function remember(set, name, till)
  redis.call('ZADD', set, till, name)
  redis.call('ZREMRANGEBYSCORE', set, '-inf', now)
  if redis.call('PTTL', set) < till - now then redis.call('PEXPIRE', set, till - now) end
end

local expires_at = tonumber(ARGV[5])
if expires_at > now then
  redis.call('SET', KEYS[1], ARGV[2] .. ARGV[3], 'PX', expires_at - now)
  if KEYS[3] then remember(KEYS[3], ARGV[6], expires_at) end
else
  redis.call('DEL', KEYS[1])
  if KEYS[3] then redis.call('ZREM', KEYS[3], ARGV[6]) end
end

if ARGV[7] ~= '' then
  local till = tonumber(ARGV[7])
  if till > now then
    remember(KEYS[2], ARGV[6], till)
    redis.call('PUBLISH', ARGV[8], ARGV[6] .. ' ' .. ARGV[7])
  end
end
return 1
