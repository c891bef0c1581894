-- Tells which sessions of a shard are revoked, and by its mark whether it still is the store that it was.
--
-- KEYS  1 the mark   2 the revoked sessions
-- ARGV  1 the mark to set where there is none   2 now

local mark = redis.call('GET', KEYS[1])
if not mark then
  mark = ARGV[1]
  redis.call('SET', KEYS[1], mark)
end
return {mark, redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[2], '+inf', 'WITHSCORES')}
