-- Reads a page of a shard's revocation log, and returns the generation id (mark) of its store.
--
-- KEYS  1 the mark   2 the log of revocations   3 the set that layout 1 had instead
-- ARGV  1 the mark to set where there is none   2 now   3 the first id of the page   4 how many entries it has at most
--
-- Gives the mark and the page: each entry's id, with session and until when it is to be remembered.

local mark = redis.call('GET', KEYS[1])
if not mark then
  mark = ARGV[1]
  redis.call('SET', KEYS[1], mark)
elseif string.sub(mark, 1, 2) == '1 ' then
  local last = 0
  local revoked = redis.call('ZRANGEBYSCORE', KEYS[3], ARGV[2], '+inf', 'WITHSCORES')
  for place = 1, #revoked, 2 do
    redis.call('XADD', KEYS[2], '*', revoked[place], revoked[place + 1])
    last = math.max(last, tonumber(revoked[place + 1]))
  end
  if last > tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[2], last - tonumber(ARGV[2])) end
  redis.call('DEL', KEYS[3])
  mark = '2 ' .. string.sub(mark, 3)
  redis.call('SET', KEYS[1], mark)
end
return {mark, redis.call('XRANGE', KEYS[2], ARGV[3], '+', 'COUNT', ARGV[4])}
