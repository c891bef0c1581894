#!/usr/bin/env python3
"""What ended sessions in Redis cost a gateway: start, latency and idle traffic at 10 k, 100 k and 1 M of them.

    python3 gateway/benches/revocations/curve.py PROGRAM [COUNT...]

Starts a redis-server and PROGRAM on free loopback ports for each count, prints a table, and exits with 1 if a request
got another status than its own or a start took longer than 10 seconds. Needs redis-server and Python alone.
"""

import base64
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS, IDLE_SECONDS, START_LIMIT = 30, 10, 10
USERS = os.path.join(os.path.dirname(__file__), "../../../config/users.toml")
LOGIN = json.dumps({"username": "alice", "password": "down-the-rabbit-hole"})


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def until(what, condition, limit=120):
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"waited {limit} s in vain until {what}")
        time.sleep(0.01)


def redis(port, commands):
    """Sends the commands in one pipeline, and gives the bytes of as many one-line or bulk replies."""
    text = b"".join(
        b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in map(str.encode, words))
        for words in commands)
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(text)
        replies = connection.makefile("rb")
        result = []
        for _ in commands:
            line = replies.readline()
            result.append(replies.read(int(line[1:]) + 2) if line[:1] == b"$" else line)
            if not line or line[:1] == b"-":
                raise OSError(line)
        return result


def answers(attempt):
    try:
        return attempt()
    except OSError:
        return False


def fill(port, count):
    """Writes ended sessions as `swap.lua` does: a stream per shard, session = until when it is remembered."""
    till = str(int(time.time() * 1000) + 3_600_000)
    for start in range(0, count, 2_000):
        redis(port, [
            ("XADD", f"auth-gateway:{{{n % 64:02}}}:revocations", "*",
             base64.urlsafe_b64encode(n.to_bytes(16, "little")).decode().rstrip("="), till)
            for n in range(start, min(start + 2_000, count))])


def request(port, method, path, token=None, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if body:
        headers["Content-Type"] = "application/json"
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response.status, text


def traffic(port):
    info = redis(port, [("INFO", "stats")])[0].decode()
    return sum(int(line.split(":")[1]) for line in info.split()
               if line.startswith(("total_net_output_bytes:", "total_net_input_bytes:")))


def known(admin):
    lines = request(admin, "GET", "/metrics")[1].decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("auth_gateway_revoked_sessions "))


def measure(program, count, directory, children):
    store, listen, admin = free_port(), free_port(), free_port()
    children.append(subprocess.Popen(
        ["redis-server", "--port", str(store), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
         "--dir", directory], stdout=subprocess.DEVNULL))
    until("Redis answers", lambda: answers(lambda: redis(store, [("PING",)])))
    fill(store, count)
    with open(f"{directory}/gateway.toml", "w") as file:
        file.write(f'[server]\nlisten = "127.0.0.1:{listen}"\n[admin]\nlisten = "127.0.0.1:{admin}"\n'
                   f'[users]\nfile = "{os.path.realpath(USERS)}"\n'
                   '[tokens]\nissuer = "https://login.test"\nalgorithm = "HS256"\n'
                   'secret = "Wm8qT1xJz0vKc4RyN7uPb2eLh6sDf9gA"\naccess_ttl = "1h"\nrefresh_ttl = "2h"\n'
                   f'[store]\nkind = "redis"\n[store.redis]\nurl = "redis://127.0.0.1:{store}"\n'
                   f'[upstreams.app]\nurls = ["http://127.0.0.1:{free_port()}"]\n'
                   '[[routes]]\npath = "/app"\nupstream = "app"\n')
    began = time.monotonic()
    with open(f"{directory}/log", "w") as log:
        children.append(subprocess.Popen([program, "--config", f"{directory}/gateway.toml"],
                                         cwd=directory, stdout=log, stderr=log))
    ready = lambda: answers(lambda: json.loads(request(admin, "GET", "/readyz")[1])["status"] == "ready")
    until(f"{directory}/log: the gateway is ready", ready)
    start = time.monotonic() - began
    until("every ended session is known", lambda: known(admin) == count)
    all_known = time.monotonic() - began
    took, wrong = {"login": [], "refresh": [], "logout": []}, 0

    def timed(name, path, proper, token=None, body=None):
        nonlocal wrong
        began = time.monotonic()
        status, text = request(listen, "POST", path, token, body)
        took[name].append((time.monotonic() - began) * 1000)
        wrong += status != proper
        return json.loads(text) if status == 200 else {}

    for _ in range(ROUNDS):
        pair = timed("login", "/login", 200, body=LOGIN)
        pair = timed("refresh", "/refresh", 200, pair.get("refresh_token"))
        timed("logout", "/logout", 204, pair.get("access_token"))
        # The session has ended: its token is refused.
        wrong += request(listen, "GET", "/app", pair.get("access_token"))[0] != 401
    before = traffic(store)
    time.sleep(IDLE_SECONDS)
    idle = (traffic(store) - before) / IDLE_SECONDS
    cells = [f"{statistics.median(times):.1f} / {sorted(times)[-1]:.1f}" for times in took.values()]
    print(f"| {count:,} | {start:.2f} | {all_known:.2f} | {' | '.join(cells)} | {idle:,.0f} | {wrong} of {4 * ROUNDS} |",
          flush=True)
    return wrong == 0 and all_known <= START_LIMIT


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    program, *counts = sys.argv[1:]
    # Of 30 values the 99th percentile is the largest.
    print("| ended sessions | ready after, s | all known after, s | login, ms (median / p99) | refresh, ms | logout, ms "
          "| idle, bytes/s | wrong statuses |\n|---:|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    good = True
    for count in map(int, counts or (10_000, 100_000, 1_000_000)):
        children = []
        with tempfile.TemporaryDirectory() as directory:
            try:
                good &= measure(os.path.realpath(program), count, directory, children)
            finally:
                for child in reversed(children):
                    child.kill()
                    child.wait()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
