"""A gRPC server and a gRPC client for `grpc.rs`: grpcio, with messages of plain bytes."""

import concurrent.futures
import json
import sys
import threading
import time

try:
    import grpc
except ImportError as missing:
    sys.exit(f"{missing}: run .ci/test, which installs grpcio and sets AUTH_GATEWAY_PYTHON")


def unary(request, context):
    time.sleep(0.05)
    return request


def count(request, context):
    """Answers at once, and again after each of the pauses that the request names, in milliseconds."""
    yield b"first"
    for pause in json.loads(request):
        time.sleep(pause / 1000)
        yield b"next"


def chat(requests, context):
    for request in requests:
        yield request


def serve(options):
    """Prints the port; ends with its standard input."""
    pool = concurrent.futures.ThreadPoolExecutor(128)
    server = grpc.server(pool, options=list(json.loads(options).items()))
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()


def outcome(call):
    """The status of a call that may fail, as name and reason."""
    try:
        call()
        return ["OK", ""]
    except grpc.RpcError as error:
        return [error.code().name, error.details()]


def client(address, commands):
    """Runs commands, each a list with a kind, and prints the list of their outcomes."""
    channel = grpc.insecure_channel(address)
    outcomes = []
    for kind, *more in json.loads(commands):
        if kind == "unary":
            path, token, size = more
            metadata = [("authorization", "Bearer " + token)] if token else []
            call = channel.unary_unary(path)
            outcomes.append(outcome(lambda: call(b"x" * size, metadata=metadata, timeout=20)))
        elif kind == "many":
            path, token, number = more
            call, metadata = channel.unary_unary(path), [("authorization", "Bearer " + token)]
            with concurrent.futures.ThreadPoolExecutor(number) as pool:
                calls = [pool.submit(outcome, lambda: call(b"x", metadata=metadata, timeout=30)) for _ in range(number)]
                outcomes.append([each.result() for each in calls])
        elif kind == "count":
            path, token, pauses = more
            call, metadata = channel.unary_stream(path), [("authorization", "Bearer " + token)]
            outcomes.append(outcome(lambda: list(call(json.dumps(pauses).encode(), metadata=metadata, timeout=20))))
        elif kind == "silent":
            path, token, pause = more
            talk, metadata = threading.Event(), [("authorization", "Bearer " + token)]

            def requests():
                yield b"first"
                talk.wait(pause / 1000)
                yield b"last"

            call = channel.stream_stream(path)
            received = []
            status = outcome(lambda: received.extend(call(requests(), metadata=metadata, timeout=20)))
            outcomes.append([*status, len(received)])
    print(json.dumps(outcomes))


{"serve": serve, "client": client}[sys.argv[1]](*sys.argv[2:])
