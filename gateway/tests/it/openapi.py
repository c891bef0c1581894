"""Compares the running gateway with docs/reference/openapi.yaml; `openapi.rs` calls it: URL DOCUMENT USER PASSWORD."""

import base64
import json
import sys
import time
import urllib.error
import urllib.request

try:
    import yaml
    from jsonschema import Draft202012Validator
    from openapi_spec_validator import validate
except ImportError as missing:
    sys.exit(f"{missing}: run .ci/test, which installs the validators and sets AUTH_GATEWAY_PYTHON")

base, document, user, password, secret = sys.argv[1:]
api = yaml.safe_load(open(document, encoding="utf-8"))
validate(api)
seen = set()


def resolve(node):
    """Replaces references, so that each schema stands by itself."""
    if isinstance(node, dict):
        if "$ref" in node:
            target = api
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            return resolve(target)
        return {key: resolve(value) for key, value in node.items()}
    return [resolve(item) for item in node] if isinstance(node, list) else node


def call(method, template, path=None, token=None, body=None, expect=None, content_type="application/json",
         basic=None, headers=()):
    headers = {**dict(headers), **({"Authorization": f"Bearer {token}"} if token else {})}
    if basic:
        headers["Authorization"] = "Basic " + base64.b64encode(basic.encode()).decode()
    if body is not None:
        headers["Content-Type"] = content_type
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(base + (path or template), data=body, headers=headers, method=method)
    while True:
        try:
            response = urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            response = error
        raw, status = response.read(), str(response.status)
        # A busy machine has no thread free to hash.
        if response.status != 503 or expect == 503:
            break
        time.sleep(0.2)
    where = f"{method} {template} -> {status}"
    assert expect is None or response.status == expect, f"{where}, expected {expect}: {raw!r}"
    documented = resolve(api["paths"][template][method.lower()]["responses"])
    assert status in documented, f"{where} is not documented: {raw!r}"
    seen.add((template, method.lower(), status))
    content = documented[status].get("content")
    if content is None:
        assert raw == b"", f"{where} has a body: {raw!r}"
        return None
    media_type = response.headers.get_content_type()
    assert media_type in content, f"{where} is {media_type}"
    parsed = json.loads(raw)
    schema = {**content[media_type]["schema"], "$schema": "https://json-schema.org/draft/2020-12/schema"}
    errors = [error.message for error in Draft202012Validator(schema).iter_errors(parsed)]
    assert not errors, f"{where}: {errors}"
    if response.status == 401 and token is not None:
        assert response.headers["WWW-Authenticate"].startswith("Bearer"), where
    if response.status in (429, 503):
        assert int(response.headers["Retry-After"]) >= 0, where
    return parsed


right = {"username": user, "password": password}
first = call("POST", "/login", body=right, expect=200)
second = call("POST", "/login", body=right, expect=200)
call("POST", "/login", body={**right, "password": "wrong"}, expect=401)
call("POST", "/login", body=b"{", expect=400)
call("POST", "/login", body=b"x=y", content_type="text/plain", expect=415)
call("POST", "/login", body={**right, "password": "x" * 9000}, expect=413)
renewed = call("POST", "/refresh", token=first["refresh_token"], expect=200)
call("POST", "/refresh", token=first["access_token"], expect=401)
call("POST", "/refresh", expect=401)
sessions = call("GET", "/sessions", token=renewed["access_token"], expect=200)["sessions"]
assert len(sessions) == 2 and sum(session["current"] for session in sessions) == 1, sessions
other = next(session["sid"] for session in sessions if not session["current"])
call("DELETE", "/sessions/{sid}", f"/sessions/{other}", token=renewed["access_token"], expect=204)
call("DELETE", "/sessions/{sid}", f"/sessions/{other}", token=renewed["access_token"], expect=404)
call("DELETE", "/sessions/{sid}", f"/sessions/{other}", token="x.y.z", expect=401)
call("GET", "/sessions", token=second["access_token"], expect=401)
made = call("POST", "/tokens", token=renewed["access_token"], body={"name": "a script", "expires_in": 60}, expect=201)
call("POST", "/tokens", token=renewed["access_token"], body={"name": "x", "role": "y"}, expect=400)
call("POST", "/tokens", token=renewed["access_token"], body=b"x", content_type="text/plain", expect=415)
call("POST", "/tokens", token=made["token"], body={"name": "x"}, expect=401)
assert len(call("GET", "/tokens", token=renewed["access_token"], expect=200)["tokens"]) == 1
call("POST", "/tokens", token=renewed["access_token"], body={"name": "one too many"}, expect=403)
call("DELETE", "/tokens/{id}", f"/tokens/{made['id']}", token=renewed["access_token"], expect=204)
call("DELETE", "/tokens/{id}", f"/tokens/{made['id']}", token=renewed["access_token"], expect=404)
call("DELETE", "/tokens/{id}", f"/tokens/{made['id']}", token="x.y.z", expect=401)
form = {"content_type": "application/x-www-form-urlencoded"}
live = call("POST", "/login", body=right, expect=200)
text = f"token={live['access_token']}".encode()
assert call("POST", "/introspect", body=text, basic=f"app:{secret}", expect=200, **form)["active"]
assert not call("POST", "/introspect", body=b"token=x", basic=f"app:{secret}", expect=200, **form)["active"]
call("POST", "/introspect", body=text, basic="app:wrong", expect=401, **form)
call("POST", "/introspect", body=b"", basic=f"app:{secret}", expect=400, **form)
call("POST", "/revoke", body=text, expect=200, **form)
call("POST", "/revoke", body=b"", expect=400, **form)
call("POST", "/revoke", body=b"token=" + b"x" * 9000, expect=413, **form)
call("GET", "/sessions", token=live["access_token"], expect=401)
call("GET", "/.well-known/oauth-authorization-server", expect=200)
call("GET", "/.well-known/oauth-protected-resource", expect=200)
keys = call("GET", "/.well-known/jwks.json", expect=200)["keys"]
assert keys, "the default algorithm has a public key"
about = {"X-Forwarded-Method": "GET", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "a", "X-Forwarded-Uri": "/api"}
call("GET", "/auth/verify", headers=about, token=renewed["access_token"], expect=200)
call("GET", "/auth/verify", headers=about, expect=401)
call("GET", "/auth/verify", headers={**about, "X-Forwarded-Uri": "/a/../b"}, expect=400)
call("GET", "/auth/verify", headers={**about, "X-Forwarded-Uri": "/other"}, expect=404)
call("GET", "/auth/verify", headers={**about, "X-Forwarded-Method": "X"}, expect=405)
call("POST", "/logout", token=renewed["access_token"], expect=204)
call("POST", "/logout", token="x.y.z", expect=401)
third = call("POST", "/login", body=right, expect=200)
call("POST", "/logout-all", token=third["access_token"], expect=204)
call("POST", "/logout-all", token="x.y.z", expect=401)
fifth = call("POST", "/login", body=right, expect=200)["access_token"]
call("GET", "/mfa", token=fifth, expect=200)
call("POST", "/mfa/totp/confirm", token=fifth, body={"code": "123456"}, expect=404)
call("POST", "/mfa/totp", token=fifth, body={"current_password": password}, expect=200)
call("POST", "/mfa/totp/confirm", token=fifth, body={"code": "12345"}, expect=401)
call("POST", "/mfa/totp/confirm", token=fifth, body={}, expect=400)
call("POST", "/mfa/recovery-codes", token=fifth, body={"code": "123456"}, expect=404)
call("POST", "/mfa/totp/remove", token=fifth, body={"code": "123456"}, expect=404)
call("POST", "/login/totp", body={"mfa_token": "x", "code": "123456"}, expect=401)
call("POST", "/reauthenticate", token=fifth, body={"current_password": password}, expect=200)
fourth = call("POST", "/login", body=right, expect=200)
change = {"current_password": password, "new_password": "a password of the description"}
call("POST", "/password", token=fourth["access_token"], body={**change, "current_password": "wrong"}, expect=401)
call("POST", "/password", token=fourth["access_token"], body={**change, "new_password": "short"}, expect=422)
call("POST", "/password", token=fourth["access_token"], body={}, expect=400)
call("POST", "/password", token="x.y.z", body=change, expect=401)
call("POST", "/password", token=fourth["access_token"], body=change, expect=204)
call("POST", "/password/reset", body={}, expect=400)
call("POST", "/password/reset", body={"token": "x", "new_password": "a password of the description"}, expect=410)
for attempt in range(5):
    call("POST", "/login", body={"username": "mallory", "password": "wrong"}, expect=401)
call("POST", "/login", body={"username": "mallory", "password": "wrong"}, expect=403)

operations = {(path, method) for path, item in api["paths"].items() for method in item if method != "parameters"}
untested = operations - {(path, method) for path, method, _ in seen}
assert not untested, f"documented and never called: {untested}"
