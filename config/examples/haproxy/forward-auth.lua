-- Asks auth-gateway whether a request may pass: `http-request lua.forward_auth URL`. HAProxy 2.6 or later.

-- What belongs to the request's connection and body, which the question has none of.
local LEFT_OUT = {}
for _, name in ipairs({
    "connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
}) do
    LEFT_OUT[name] = true
end

-- What the app gets as the gateway says, and not at all where it says nothing.
local TAKEN_OVER = {
    "X-Auth-User", "X-Auth-Subject", "X-Auth-Roles", "X-Auth-Session", "Cookie", "Authorization", "DPoP",
}

-- The values of a field, which HAProxy counts from 0.
local function list(values)
    local found = {}
    local at = 0
    while values and values[at] do
        found[#found + 1] = values[at]
        at = at + 1
    end
    return found
end

local function reply(txn, status, headers, body)
    local answer = txn:reply()
    answer:set_status(status)
    for name, values in pairs(headers or {}) do
        if not LEFT_OUT[name] and not name:find("^x%-set%-cookie") then
            for _, value in ipairs(list(values)) do
                answer:add_header(name, value)
            end
        end
    end
    if body and #body > 0 then
        answer:set_body(body)
    end
    txn:done(answer)
end

core.register_action("forward_auth", { "http-req" }, function(txn, url)
    local question = {}
    for name, values in pairs(txn.http:req_get_headers()) do
        if not LEFT_OUT[name] then
            question[name] = list(values)
        end
    end
    -- X-Forwarded-Proto, -Host and -For are set by haproxy.cfg.
    question["x-forwarded-method"] = { txn.sf:method() }
    question["x-forwarded-uri"] = { txn.sf:pathq() }

    local verdict = core.httpclient():get({ url = url, headers = question, timeout = 5000 })
    if not verdict or not verdict.status or verdict.status == 0 then
        core.Alert("forward_auth: " .. url .. " does not answer")
        return reply(txn, 503)
    end
    if verdict.status ~= 200 then
        return reply(txn, verdict.status, verdict.headers, verdict.body)
    end
    for _, name in ipairs(TAKEN_OVER) do
        local value = list(verdict.headers[name:lower()])[1]
        if value then
            txn.http:req_set_header(name, value)
        else
            txn.http:req_del_header(name)
        end
    end
    for number, cookie in ipairs(list(verdict.headers["set-cookie"])) do
        txn:set_var("txn.set_cookie_" .. number, cookie)
    end
end, 1)
