"""Calls the service through the gateway: `python client.py ADDRESS TOKEN hello|ticks|nothing`; prints the answer or the status."""

import sys

import grpc

address, token, what = sys.argv[1:]
channel = grpc.insecure_channel(address)
metadata = [("authorization", f"Bearer {token}")] if token else []
try:
    if what == "hello":
        print(channel.unary_unary("/demo.Greeter/Hello")(b"from here", metadata=metadata, timeout=10).decode())
    else:
        for message in channel.unary_stream("/demo.Greeter/Ticks")(b"", metadata=metadata, timeout=30):
            print(message.decode(), flush=True)
except grpc.RpcError as error:
    print(error.code().name, flush=True)
