-- Sends another token with every request: `wrk -s cold.lua URL FILE`, one token a line.

local requests = {}
local last = 0

function init(arguments)
  for token in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("GET", "/", { Authorization = "Bearer " .. token })
  end
end

function request()
  last = last % #requests + 1
  return requests[last]
end
