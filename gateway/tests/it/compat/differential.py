"""The same requests to a Flask app with Flask-JWT-Extended (argv[1]) and to the gateway (argv[2]), which share a secret (argv[3]).

Every status, header and body is compared. A difference is allowed only where a rule of DIFFERENCES names it; each rule must be
needed, and must be listed in the migration guide (argv[4]).
"""

import base64
import http.client
import json
import sys
import time
import uuid

import jwt

FLASK, GATEWAY, SECRET, GUIDE = sys.argv[1:5]
NOW = int(time.time())
PASSWORD = "a password for tests"


def b64(data):
    data = data if isinstance(data, bytes) else data.encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(kind="access", drop=(), **changes):
    all_claims = {
        "fresh": False, "iat": NOW - 5, "jti": str(uuid.uuid4()), "type": kind, "sub": "alice", "nbf": NOW - 5,
        "exp": NOW + 500, **changes,
    }
    return {name: value for name, value in all_claims.items() if name not in drop}


def sign(payload, secret=SECRET, alg="HS256", header=None):
    if isinstance(payload, dict):
        payload = json.dumps(payload)
    head = b64(json.dumps(header if header is not None else {"alg": alg, "typ": "JWT"}))
    message = f"{head}.{b64(payload)}".encode()
    name = alg if alg in ("HS256", "HS384", "HS512") else "HS256"
    algorithm = jwt.get_algorithm_by_name(name)
    return message.decode() + "." + b64(algorithm.sign(message, algorithm.prepare_key(secret)))


def raw(head, payload, signature="AAAA"):
    return f"{head}.{payload}.{signature}"


def tokens():
    """(name, token) of tokens that are good, bad and odd."""
    for kind in ("access", "refresh"):
        good = sign(claims(kind))
        yield f"{kind}", good
        yield f"{kind} fresh", sign(claims(kind, fresh=True))
        yield f"{kind} with csrf", sign(claims(kind, csrf=str(uuid.uuid4())))
        yield f"{kind} with claims", sign(claims(kind, tenant="blue", roles=["admin"]))
        yield f"{kind} with one role", sign(claims(kind, roles="admin"))
        yield f"{kind} with aud", sign(claims(kind, aud="somebody"))
        yield f"{kind} with iss", sign(claims(kind, iss="somebody"))
        yield f"{kind} expired", sign(claims(kind, exp=NOW - 5))
        yield f"{kind} expired long ago", sign(claims(kind, iat=NOW - 9999, nbf=NOW - 9999, exp=NOW - 5000))
        yield f"{kind} of another secret", sign(claims(kind), secret="x" * 48)
        yield f"{kind} expired, of another secret", sign(claims(kind, exp=NOW - 5), secret="x" * 48)
        yield f"{kind} nbf ahead", sign(claims(kind, nbf=NOW + 200))
        yield f"{kind} iat ahead", sign(claims(kind, iat=NOW + 200))
        yield f"{kind} HS512", sign(claims(kind), alg="HS512")
        yield f"{kind} none", raw(b64('{"alg":"none","typ":"JWT"}'), good.split(".")[1], "")
        yield f"{kind} lives a month", sign(claims(kind, exp=NOW + 30 * 86400))
        yield f"{kind} cut", good[:-4]
        yield f"{kind} signature changed", good[:-6] + ("AAAAAA" if good[-6:] != "AAAAAA" else "BBBBBB")
        yield f"{kind} without typ", sign(claims(kind), header={"alg": "HS256"})
        yield f"{kind} lower-case typ", sign(claims(kind), header={"alg": "HS256", "typ": "jwt"})
        for claim in ("sub", "jti", "type", "fresh", "nbf", "iat", "exp"):
            yield f"{kind} without {claim}", sign(claims(kind, drop=(claim,)))
        for claim, value in (("sub", 1), ("sub", None), ("jti", 7), ("exp", "soon"), ("nbf", "soon"), ("iat", "soon")):
            yield f"{kind} with {claim} {value}", sign(claims(kind, **{claim: value}))
    head, payload = b64('{"alg":"HS256","typ":"JWT"}'), b64("{}")
    yield "word", "x"
    yield "two segments", "x.y"
    yield "header no base64", raw("!!!!", payload)
    yield "payload no base64", raw(head, "!!!!")
    yield "signature no base64", raw(head, payload, "!!!!")
    yield "header no JSON", raw(b64("{"), payload)
    yield "header a list", raw(b64("[]"), payload)
    yield "header empty", raw(b64("{}"), payload)
    yield "payload no JSON", raw(head, b64("{"))
    yield "payload a list", raw(head, b64("[]"))
    yield "unknown type", sign(claims("other"))
    yield "number as kid", sign(claims(), header={"alg": "HS256", "typ": "JWT", "kid": 1})


def odd_tokens(kind):
    """(name, token) of tokens that no app makes, and that two programs may read in two ways."""
    for name, change in (
        ("times: exp with a fraction", {"exp": NOW + 100.5}), ("times: exp huge", {"exp": 10**20}), ("times: exp negative", {"exp": -5}),
        ("times: exp true", {"exp": True}), ("times: exp as text", {"exp": str(NOW + 100)}), ("exp null", {"exp": None}),
        ("exp a list", {"exp": [NOW + 100]}), ("times: nbf with a fraction", {"nbf": NOW - 5.5}),
        ("times: nbf as text", {"nbf": str(NOW - 5)}), ("nbf null", {"nbf": None}), ("times: iat with a fraction", {"iat": NOW - 5.5}),
        ("times: iat as text", {"iat": str(NOW - 5)}), ("times: iat negative", {"iat": -5}), ("times: iat true", {"iat": True}),
        ("iat null", {"iat": None}), ("claims: sub empty", {"sub": ""}), ("unknown user", {"sub": "zoe"}),
        ("sub true", {"sub": True}), ("sub a list", {"sub": ["alice"]}), ("sub an object", {"sub": {"id": 1}}),
        ("jti empty", {"jti": ""}), ("jti null", {"jti": None}), ("jti long", {"jti": "a" * 300}), ("claims: type null", {"type": None}),
        ("claims: type in capitals", {"type": kind.upper()}), ("claims: type a number", {"type": 1}), ("csrf a number", {"csrf": 1}),
        ("aud a list", {"aud": ["a", "b"]}), ("claims: aud a number", {"aud": 1}), ("claims: aud null", {"aud": None}),
        ("claims: iss a number", {"iss": 1}), ("claims: iss null", {"iss": None}), ("big claims", {"blob": "x" * 3000}),
        ("deep claims", {"deep": json.loads("[" * 30 + "]" * 30)}),
    ):
        yield f"{kind} {name}", sign(claims(kind, **change))
    text = json.dumps(claims(kind))
    for name, payload in (
        ("claims: sub twice", text[:-1] + ',"sub":"bob"}'), ("claims: exp twice", text[:-1] + ',"exp":1}'),
        ("json: NaN", text[:-1] + ',"x":NaN}'), ("json: Infinity", text.replace(str(NOW + 500), "Infinity")),
        ("indented", json.dumps(claims(kind), indent=4)), ("trailing comma", text[:-1] + ",}"), ("trailing text", text + "x"),
        ("json: byte order mark", "\ufeff" + text), ("escaped letters", text.replace("alice", "\\u0061lice")),
        ("json: half a character", text.replace("alice", "\\ud800")),
    ):
        yield f"{kind} {name}", sign(payload)
    for name, header in (
        ("header: crit", {"crit": ["exp"]}), ("header: crit b64", {"crit": ["b64"], "b64": True}), ("header: b64", {"b64": False}),
        ("alg in lower case", {"alg": "hs256"}), ("alg null", {"alg": None}), ("alg RS256", {"alg": "RS256"}), ("alg None", {"alg": "None"}),
        ("header: typ a number", {"typ": 1}), ("header: typ at+jwt", {"typ": "at+jwt"}), ("kid", {"kid": "main"}), ("kid null", {"kid": None}),
        ("jku", {"jku": "http://127.0.0.1:1/"}), ("header: cty", {"cty": "JWT"}), ("header: zip", {"zip": "DEF"}),
    ):
        yield f"{kind} {name}", sign(claims(kind), header={"alg": "HS256", "typ": "JWT", **header})
    good = sign(claims(kind))
    head, payload, signature = good.split(".")
    for name, token in (
        ("padded", f"{head}==.{payload}==.{signature}="), ("four segments", f"{good}.x"), ("leading dot", f".{good}"),
        ("trailing dot", f"{good}."), ("empty header", f".{payload}.{signature}"), ("empty payload", f"{head}..{signature}"),
        ("no signature", f"{head}.{payload}."), ("standard alphabet", f"{head}.{payload}.+/{signature[2:]}"),
    ):
        yield f"{kind} {name}", token


def authorizations():
    """(name, value of Authorization or None)"""
    good = sign(claims())
    yield "none", None
    yield "empty", ""
    yield "comma", ","
    yield "Basic", "Basic eA=="
    yield "token alone", good
    yield "Bearer alone", "Bearer"
    yield "Bearer=", f"Bearer={good}"
    yield "lower-case bearer", f"bearer {good}"
    yield "two tokens", f"Bearer {good} {good}"
    yield "two spaces", f"Bearer  {good}"
    yield "comma in token", f"Bearer {good},x"
    yield "two Bearers", f"Bearer {good}, Bearer {good}"
    yield "upper-case BEARER", f"BEARER {good}"
    yield "tab", f"Bearer\t{good}"
    yield "trailing space", f"Bearer {good} "
    yield "trailing comma", f"Bearer {good},"
    yield "semicolon", f"Bearer {good};"
    yield "parameter", f"Bearer token={good}"
    yield "Basic then Bearer", f"Basic eA==, Bearer {good}"
    yield "Bearer then Basic", f"Bearer {good}, Basic eA=="
    yield "JWT scheme", f"JWT {good}"
    yield "undefined", "Bearer undefined"


# name -> (whether a difference is of it). `case` is a dict with name, path, flask, gateway: (status, headers, body).
def refused(answer):
    return answer[0] in (401, 422) and "msg" in (answer[2] if isinstance(answer[2], dict) else {})


def both_refused(case):
    return refused(case["flask"]) and refused(case["gateway"])


DIFFERENCES = {
    # The gateway refuses what the library accepts.
    "no-expiry": lambda c: c["name"].endswith("without exp") and c["gateway"][0] == 422,
    "no-issue-time": lambda c: c["name"].endswith("without iat") and c["gateway"][0] == 422,
    "unknown-type": lambda c: c["name"] == "unknown type" and c["gateway"][0] == 422,
    "odd-times": lambda c: " times: " in c["name"] and c["gateway"][0] == 422,
    "odd-claims": lambda c: " claims: " in c["name"] and c["gateway"][0] == 422,
    "strict-json": lambda c: " json: " in c["name"] and c["gateway"][0] == 422,
    "odd-header": lambda c: " header: " in c["name"] and c["gateway"][0] == 422,
    "unknown-user": lambda c: c["name"] == "refresh unknown user" and c["gateway"][0] == 401,
    "one-space": lambda c: c["name"] in ("two spaces", "comma in token", "trailing comma", "tab", "Bearer then Basic")
    and c["gateway"][0] == 422,
    "first-scheme": lambda c: c["name"] == "Basic then Bearer" and c["gateway"][0] in (200, 401),
    "optional-malformed": lambda c: c["path"] == "/optional" and c["gateway"][0] in (401, 422)
    and c["name"] in ("comma", "token alone", "Bearer=", "two Bearers") and "stranger" in str(c["flask"][2]),
    # The gateway accepts what the library refuses.
    "bearer-case": lambda c: c["name"] in ("lower-case bearer", "upper-case BEARER")
    and (c["flask"][0] == 401 or "stranger" in str(c["flask"][2])),
    "name-case": lambda c: c["name"] == "capitals" and c["gateway"][0] == 200,
    # Both refuse, with other words.
    "json-error-position": lambda c: both_refused(c) and c["flask"][0] == c["gateway"][0] == 422
    and c["flask"][2]["msg"].startswith(c["gateway"][2]["msg"] + ": "),
    "no-signature": lambda c: c["name"].endswith("no signature") and c["flask"][0] == c["gateway"][0] == 422,
    # Requests that are no login.
    "login-requests": lambda c: c["path"] == "/login" and c["flask"][0] in (400, 415, 500, 401)
    and c["gateway"][0] in (400, 415) and "msg" in c["gateway"][2],
}
# Fields that only the gateway sends, or only Flask; the value where it is fixed.
HEADER_DIFFERENCES = {
    "cache-control": lambda c: c["gateway"][1].get("cache-control") == "no-store",
    "www-authenticate": lambda c: c["gateway"][0] == 401 and c["gateway"][1]["www-authenticate"].startswith("Bearer"),
    "x-request-id": lambda c: True,
    "server": lambda c: "server" not in c["gateway"][1] or c["gateway"][1]["server"] == c["flask"][1]["server"],
    "accept-post": lambda c: c["gateway"][0] == 415,
    "retry-after": lambda c: c["gateway"][0] == 403 and c["name"] == "locked",
    "content-type": lambda c: (c["gateway"][0] == 204 and "content-type" not in c["gateway"][1])
    or (c["path"] == "/login" and c["flask"][1]["content-type"].startswith("text/html")),
}
IGNORED = {"date", "content-length", "connection", "keep-alive"}
CLAIMS_OF_THE_GATEWAY = {"sid", "session_exp", "username", "roles"}


def send(base, method, path, headers, body=None):
    """The response; a gateway that is too busy to hash (503, Retry-After: 1) is asked again, as clients do."""
    for _ in range(10):
        reply = send_once(base, method, path, headers, body)
        if reply[0] != 503:
            return reply
        time.sleep(1)
    return reply


def send_once(base, method, path, headers, body):
    connection = http.client.HTTPConnection(base, timeout=20)
    try:
        connection.request(method, path, body=body, headers=headers)
        reply = connection.getresponse()
        content = reply.read()
        fields = {name.lower(): value for name, value in reply.getheaders()}
        if fields.get("content-type") == "application/json" and method != "HEAD":
            assert content.endswith(b"}\n"), content
            content = json.loads(content)
        return reply.status, fields, content
    finally:
        connection.close()


def comparable(body):
    """A body with its tokens replaced by what is in them."""
    if not isinstance(body, dict):
        return body
    seen = {}
    for name, value in body.items():
        if name in ("access_token", "refresh_token"):
            header = jwt.get_unverified_header(value)
            found = jwt.decode(value, SECRET, algorithms=["HS256"])
            lifetime = found["exp"] - found["iat"]
            extra = CLAIMS_OF_THE_GATEWAY & set(found)
            names = sorted(set(found) - extra)
            value = [header, names, found["sub"], found["type"], found["fresh"], lifetime, found["nbf"] - found["iat"]]
        seen[name] = value
    return seen


def cases():
    for path, method in (("/protected", "GET"), ("/optional", "GET"), ("/fresh", "GET"), ("/refresh", "POST")):
        for name, value in authorizations():
            yield f"{name}", method, path, {} if value is None else {"Authorization": value}, None
        for name, token in tokens():
            yield name, method, path, {"Authorization": f"Bearer {token}"}, None
    for kind, path, method in (("access", "/protected", "GET"), ("refresh", "/refresh", "POST")):
        for name, token in odd_tokens(kind):
            yield name, method, path, {"Authorization": f"Bearer {token}"}, None
    good = sign(claims())
    yield "token in a cookie", "GET", "/protected", {"Cookie": f"access_token_cookie={good}"}, None
    yield "token in the query", "GET", f"/protected?jwt={good}", {}, None
    yield "HEAD", "HEAD", "/protected", {"Authorization": f"Bearer {good}"}, None
    yield "HEAD without a token", "HEAD", "/protected", {}, None
    json_type = {"Content-Type": "application/json"}
    good = {"username": "alice", "password": PASSWORD}
    yield "login", "POST", "/login", json_type, json.dumps(good)
    yield "login with charset", "POST", "/login", {"Content-Type": "application/json; charset=utf-8"}, json.dumps(good)
    for name, change in (
        ("wrong password", {"password": "wrong"}), ("unknown name", {"username": "zoe"}),
        ("empty password", {"password": ""}), ("injection", {"username": "' OR 1=1 --"}), ("capitals", {"username": "ALICE"}),
        ("trailing space", {"username": "alice "}), ("a NUL", {"password": "p\0ss"}), ("further members", {"remember": True}),
    ):
        yield name, "POST", "/login", json_type, json.dumps({**good, **change})
    yield "no password", "POST", "/login", json_type, json.dumps({"username": "alice"})
    yield "no JSON", "POST", "/login", json_type, "{"
    yield "a form", "POST", "/login", {"Content-Type": "application/x-www-form-urlencoded"}, "username=alice"
    for attempt in range(5):
        yield f"guess {attempt}", "POST", "/login", json_type, json.dumps({"username": "carol", "password": "wrong"})
    yield "locked", "POST", "/login", json_type, json.dumps({"username": "carol", "password": PASSWORD})
    # A logout of a living token, and what comes after it.
    for kind, path, method in (("access", "/protected", "GET"), ("refresh", "/refresh", "POST")):
        token = {"Authorization": f"Bearer {sign(claims(kind))}"}
        yield f"{kind} before", method, path, token, None
        yield f"{kind} logout", "POST", "/logout", token, None
        yield f"{kind} after", method, path, token, None


def main():
    count, failures, used = 0, [], {}
    for name, method, path, headers, body in cases():
        count += 1
        case = {"name": name, "path": path}
        case["flask"] = send(FLASK, method, path, headers, body)
        case["gateway"] = send(GATEWAY, method, path, headers, body)
        of_flask, of_gateway = case["flask"], case["gateway"]
        same = of_flask[0] == of_gateway[0] and comparable(of_flask[2]) == comparable(of_gateway[2])
        if not same:
            rule = next((rule for rule, fits in DIFFERENCES.items() if fits(case)), None)
            if rule is None:
                failures.append(
                    f"{method} {path} {name}: Flask {of_flask[0]} {comparable(of_flask[2])}, "
                    f"gateway {of_gateway[0]} {comparable(of_gateway[2])}"
                )
                continue
            used[rule] = used.get(rule, 0) + 1
        for field in sorted((set(of_flask[1]) | set(of_gateway[1])) - IGNORED):
            if of_flask[1].get(field) == of_gateway[1].get(field):
                continue
            if field in HEADER_DIFFERENCES and HEADER_DIFFERENCES[field](case):
                used[field] = used.get(field, 0) + 1
                continue
            failures.append(f"{method} {path} {name}: {field}: Flask {of_flask[1].get(field)!r}, gateway {of_gateway[1].get(field)!r}")
    with open(GUIDE, encoding="utf-8") as guide:
        text = guide.read()
    for rule in used:
        if f"`{rule}`" not in text:
            failures.append(f"the guide does not list the difference `{rule}`")
    for rule in [*DIFFERENCES, *HEADER_DIFFERENCES]:
        if rule not in used:
            failures.append(f"the difference `{rule}` never occurs")
    print(f"{count} requests, differences: {used}")
    assert count >= 300, count
    assert not failures, "\n".join(failures)


main()
