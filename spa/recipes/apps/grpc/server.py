"""A gRPC service behind auth-gateway: `python server.py PORT`. Messages are bytes, so that no code has to be generated."""

import sys
import time
from concurrent import futures

import grpc


def user(context):
    return dict(context.invocation_metadata())["x-auth-user"].encode()


def hello(request, context):
    return b"hello " + user(context) + b", " + request


def ticks(request, context):
    for number in range(10_000):
        yield b"%s %d" % (user(context), number)
        time.sleep(0.1)


handler = grpc.method_handlers_generic_handler(
    "demo.Greeter",
    {
        "Hello": grpc.unary_unary_rpc_method_handler(hello),
        "Ticks": grpc.unary_stream_rpc_method_handler(ticks),
    },
)
server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((handler,))
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
