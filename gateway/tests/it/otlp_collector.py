"""A collector for `tracing.rs`: takes OTLP over HTTP, decodes it with OpenTelemetry's own messages, and prints each span
as a line of JSON. The first line is the port. Ends with its standard input."""

import http.server
import json
import sys
import threading

try:
    from google.protobuf.json_format import MessageToDict
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTraceServiceRequest,
        ExportTraceServiceResponse,
    )
except ImportError as missing:
    sys.exit(f"{missing}: run .ci/test, which installs opentelemetry-proto and sets AUTH_GATEWAY_PYTHON")


def value(attribute):
    # One of several members, each of another type.
    (content,) = MessageToDict(attribute.value).values()
    return content


def attributes(holder):
    return {attribute.key: value(attribute) for attribute in holder.attributes}


class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    line = {
                        "path": self.path,
                        "content_type": self.headers["Content-Type"],
                        "authorization": self.headers["Authorization"],
                        "service": attributes(resource.resource)["service.name"],
                        "trace_id": span.trace_id.hex(),
                        "span_id": span.span_id.hex(),
                        "parent_span_id": span.parent_span_id.hex(),
                        "trace_state": span.trace_state,
                        "name": span.name,
                        "kind": span.kind,
                        "status": span.status.code,
                        "nanos": span.end_time_unix_nano - span.start_time_unix_nano,
                        "attributes": attributes(span),
                    }
                    print(json.dumps(line), flush=True)
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
print(server.server_address[1], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
