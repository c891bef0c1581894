"""A WSGI app that says what it has understood of a request, one word a line."""

import hashlib


def app(environ, start_response):
    body = environ["wsgi.input"].read()
    words = [
        environ["REQUEST_METHOD"],
        environ.get("RAW_URI", ""),
        # What the app would route by: decoded, as WSGI hands it over.
        environ["PATH_INFO"].encode("latin-1").hex(),
        environ.get("HTTP_HOST", ""),
        environ.get("HTTP_X_AUTH_USER", ""),
        environ.get("HTTP_X_AUTH_SUBJECT", ""),
        environ.get("HTTP_X_AUTH_ROLES", ""),
        environ.get("HTTP_AUTHORIZATION", ""),
        hashlib.sha256(body).hexdigest(),
    ]
    answer = "\n".join(words).encode("latin-1")
    start_response("200 OK", [("X-Echo", "1"), ("Content-Length", str(len(answer)))])
    return [answer]
