-- Swaps a record if it is in the expected state, with everything that hangs on it, in one step.
--
-- KEYS  1 the record: 16 hex digits of version, then the value
--       2 the log of revocations, a stream of session = until when it is to be remembered
--       3 the sessions of its group, by when they expire; absent where it has none
-- ARGV  1 the version it must have, or nothing where there must be none
--       2 its new version   3 its new value   4 now   5 when it expires
--       6 its id   7 until when it is revoked, or nothing   8 the channel to publish that on
--
-- Times are milliseconds since 1970 by the caller's clock. Gives 1 if the change is made, also where an earlier sending of
-- the same one made it, and 0 if the record was in another state.

local found = redis.call('GETRANGE', KEYS[1], 0, 15)
if found == ARGV[2] then return 1 end
if found ~= ARGV[1] then return 0 end

local now = tonumber(ARGV[4])
-- Only what is past by the caller's clock and by the server's is forgotten: one of them may be wrong.
local time = redis.call('TIME')
local past = math.min(now, time[1] * 1000)

-- Has a key live as long as the last thing in it.
local function keep(key, till)
  if redis.call('PTTL', key) < till - now then redis.call('PEXPIRE', key, till - now) end
end

local expires_at = tonumber(ARGV[5])
if expires_at > now then
  redis.call('SET', KEYS[1], ARGV[2] .. ARGV[3], 'PX', expires_at - now)
  if KEYS[3] then
    redis.call('ZADD', KEYS[3], expires_at, ARGV[6])
    redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', past)
    keep(KEYS[3], expires_at)
  end
else
  redis.call('DEL', KEYS[1])
  if KEYS[3] then redis.call('ZREM', KEYS[3], ARGV[6]) end
end

if ARGV[7] ~= '' then
  local till = tonumber(ARGV[7])
  if till > now then
    redis.call('XADD', KEYS[2], '*', ARGV[6], ARGV[7])
    keep(KEYS[2], till)
    -- The oldest are the first to be past. A few more than one comes in, so that the log shrinks again after a rush.
    for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 4)) do
      if tonumber(entry[2][2]) > past then break end
      redis.call('XDEL', KEYS[2], entry[1])
    end
    redis.call('PUBLISH', ARGV[8], ARGV[6] .. ' ' .. ARGV[7])
  end
end
return 1
