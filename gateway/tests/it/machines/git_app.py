"""git http-backend behind WSGI, for whoever the identity header names. Arguments: port, folder of the repositories."""

import os
import subprocess
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

PORT, ROOT = int(sys.argv[1]), sys.argv[2]
BACKEND = os.path.join(subprocess.check_output(["git", "--exec-path"], text=True).strip(), "git-http-backend")


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def body_of(environ):
    if environ.get("HTTP_TRANSFER_ENCODING") != "chunked":
        return environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    parts, stream = [], environ["wsgi.input"]
    while size := int(stream.readline().split(b";")[0], 16):
        parts.append(stream.read(size))
        stream.readline()
    stream.readline()
    return b"".join(parts)


def app(environ, start_response):
    body = body_of(environ)
    names = ["REQUEST_METHOD", "QUERY_STRING", "CONTENT_TYPE", "HTTP_CONTENT_ENCODING", "HTTP_GIT_PROTOCOL"]
    cgi = {name: environ[name] for name in names if environ.get(name)}
    cgi |= {
        "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": ROOT, "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": environ["PATH_INFO"], "REMOTE_USER": environ["HTTP_X_AUTH_USER"],
        "CONTENT_LENGTH": str(len(body)), "GIT_PROTOCOL": environ.get("HTTP_GIT_PROTOCOL", ""),
    }
    answer = subprocess.run([BACKEND], input=body, env=cgi, capture_output=True).stdout
    head, _, content = answer.partition(b"\r\n\r\n")
    fields = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n") if line]
    status = next((value for name, value in fields if name == "Status"), "200 OK")
    start_response(status, [(name, value) for name, value in fields if name != "Status"])
    return [content]


make_server("127.0.0.1", PORT, app, server_class=Server, handler_class=Quiet).serve_forever()
