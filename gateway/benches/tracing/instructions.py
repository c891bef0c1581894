#!/usr/bin/env python3
"""Instructions of a verified request without and with [tracing], counted by callgrind.

    python3 gateway/benches/tracing/instructions.py PROGRAM [REQUESTS]

PROGRAM is a release build of auth-gateway. One client sends its requests one after the other over one connection to
one worker; what is counted does not depend on what else runs. Needs valgrind.
"""

import base64
import ctypes
import hmac
import http.server
import json
import pathlib
import re
import secrets
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

VARIANTS = [
    ("no [tracing]", ""),
    ("enabled = false", "[tracing]\nenabled = false\n"),
    ("enabled = false, with a collector", "[tracing]\nenabled = false\n[tracing.otlp]\nendpoint = \"{collector}\"\n"),
    ("enabled, no collector", "[tracing]\nenabled = true\n"),
    ("sample_ratio = 0.1", "[tracing]\nenabled = true\nsample_ratio = 0.1\n[tracing.otlp]\nendpoint = \"{collector}\"\n"),
    ("sample_ratio = 1.0", "[tracing]\nenabled = true\nsample_ratio = 1.0\n[tracing.otlp]\nendpoint = \"{collector}\"\n"),
]

SECRET = secrets.token_urlsafe(48)

CONFIG = """
[server]
listen = "127.0.0.1:{port}"
workers = 1
[admin]
listen = "127.0.0.1:{admin}"
[tokens]
issuer = "bench"
audience = "bench"
algorithm = "HS256"
secret = "{secret}"
[users]
file = "users.toml"
[store]
kind = "memory"
[upstreams.app]
urls = ["{upstream}"]
[[routes]]
path = "/api"
upstream = "app"
[warnings]
silence = ["tracing-off"]
"""


class Server(http.server.BaseHTTPRequestHandler):
    """The upstream and the collector: an empty answer to everything."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_):
        pass


def token():
    """An access token: to log in would take long under valgrind."""
    now = int(time.time())
    claims = {"iss": "bench", "aud": "bench", "sub": "1", "iat": now, "nbf": now, "exp": now + 36000, "jti": "j", "sid": "s"}
    claims |= {"session_exp": now + 36000, "type": "access", "username": "alice", "roles": ["user"]}
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "at+jwt"}, claims)]
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.digest(SECRET.encode(), text, "sha256")
    return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def without_auxv():
    """Has prctl(PR_GET_AUXV) fail in this process: rustix would find the vDSO by it, which valgrind has unmapped."""
    load, equal, allow, fail = 0x20, 0x15, 0x7FFF0000, 0x00050000 | 22
    prctl, get_auxv = 157, 0x41555856  # x86-64
    steps = [(load, 0, 0, 0), (equal, 0, 3, prctl), (load, 0, 0, 16), (equal, 0, 1, get_auxv), (6, 0, 0, fail), (6, 0, 0, allow)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    # PR_SET_NO_NEW_PRIVS; PR_SET_SECCOMP with SECCOMP_MODE_FILTER
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def serve():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def count(program, requests, tracing, upstream, collector):
    """Instructions per request: of the worker's thread, and of all threads."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        port, admin = free_port(), free_port()
        text = CONFIG.format(port=port, admin=admin, upstream=upstream, secret=SECRET) + tracing.format(collector=collector)
        (folder / "gateway.toml").write_text(text)
        (folder / "users.toml").write_text("")
        arguments = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        valgrind = ["valgrind", "--tool=callgrind", "--separate-threads=yes", "--instr-atstart=no", "--callgrind-out-file=counts"]
        gateway = subprocess.Popen([*valgrind, program, "--config", "gateway.toml"], preexec_fn=without_auxv, **arguments)
        try:
            while gateway.poll() is None:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz").close()
                    break
                except OSError:
                    time.sleep(0.1)
            head = f"GET /api/x HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token()}\r\n\r\n".encode()
            with socket.create_connection(("127.0.0.1", port)) as connection:

                def ask(times):
                    for _ in range(times):
                        connection.sendall(head)
                        reply = b""
                        while not reply.endswith(b"\r\n\r\n"):
                            reply += connection.recv(4096)
                        assert reply.startswith(b"HTTP/1.1 200"), reply

                ask(200)
                control = ["callgrind_control", str(gateway.pid)]
                subprocess.run([*control, "--instr=on"], check=True, **arguments)
                ask(requests)
                subprocess.run([*control, "--dump"], check=True, **arguments)
        finally:
            gateway.terminate()
            gateway.wait()
        dumps = [path.read_text() for path in folder.glob("counts.1*")]
        threads = [int(re.search(r"^(?:totals|summary): (\d+)", dump, re.MULTILINE)[1]) for dump in dumps]
        return max(threads) / requests, sum(threads) / requests


def main():
    program = str(pathlib.Path(sys.argv[1]).resolve())
    requests = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    upstream, collector = serve(), serve()
    base = None
    print(f"Instructions per request, of {requests}. Other threads work by the clock, too, not by requests only.\n")
    print("| configuration | worker | difference | other threads |\n| --- | ---: | ---: | ---: |")
    for name, tracing in VARIANTS:
        worker, all_threads = count(program, requests, tracing, upstream, collector)
        base = base or worker
        difference = f"{worker - base:+.0f} ({worker / base - 1:+.1%})"
        print(f"| {name} | {worker:.0f} | {difference} | {all_threads - worker:.0f} |", flush=True)


if __name__ == "__main__":
    main()
