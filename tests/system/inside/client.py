"""A gRPC client of one user, driven by lines of JSON: it knows the operations by reflection alone.

    client.py ADDRESS

Takes {"id", "method": "package.Service/Method", "request", "timeout"} and answers, in the order in which
they end, {"id", "response"} or {"id", "code", "reason", "message", "details"}. The request and the
response are in the JSON form of protobuf; a stream's responses come as a list, of which only the bytes
are counted if the call says "count"; "leave" is the time in seconds after which it is cancelled, and
"metadata" what goes with it. `{"id", "pulse": SECONDS, "method", "request"}` calls again and
again for so long, one at a time, and gives the times that it took, in milliseconds.
"""

import json
import sys
import threading
import time

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.rpc import error_details_pb2, status_pb2  # noqa: F401 (in the pool for details)
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

# How long one call of a pulse may take, in seconds.
PULSE_TIMEOUT = 120


class Operations:
    """The operations that the server describes."""

    def __init__(self, channel):
        self.channel = channel
        self.pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        self.lock = threading.Lock()
        self.found = {}

    def find(self, name):
        """The descriptor of a method and the two classes of its messages."""
        with self.lock:
            if name not in self.found:
                service, method = name.split("/")
                method = self.pool.FindServiceByName(service).methods_by_name[method]
                classes = [
                    message_factory.GetMessageClass(message)
                    for message in (method.input_type, method.output_type)
                ]
                self.found[name] = (method, *classes)
            return self.found[name]

    def call(self, name):
        """Something that calls the method with a message, and gives a message or several."""
        method, request, response = self.find(name)
        make = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        serialize, parse = request.SerializeToString, response.FromString
        return make(f"/{name}", serialize, parse), request, method.server_streaming


def size(message):
    """How many bytes the chunks of a stream's message hold."""
    return len(message.chunk.data) if message.HasField("chunk") else 0


def json_of(message):
    return json_format.MessageToDict(message)


def failure(error):
    """What a failed call says, with the reason and the data of its ErrorInfo."""
    said = {"code": error.code().name, "message": error.details(), "reason": "", "details": {}}
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    said.update(reason=info.reason, details=dict(info.metadata))
    return said


def run(operations, order):
    call, request, streams = operations.call(order["method"])
    message = json_format.ParseDict(order.get("request", {}), request())
    if "pulse" in order:
        times, end = [], time.monotonic() + order["pulse"]
        while time.monotonic() < end:
            begun = time.monotonic()
            call(message, timeout=PULSE_TIMEOUT)
            times.append((time.monotonic() - begun) * 1000)
            time.sleep(0.002)
        return times
    timeout = order.get("timeout", 120)
    metadata = list(order.get("metadata", {}).items())
    if not streams:
        return json_of(call(message, timeout=timeout, metadata=metadata))
    stream = call(message, timeout=timeout, metadata=metadata)
    if "leave" in order:
        threading.Timer(order["leave"], stream.cancel).start()
    if not order.get("count"):
        return [json_of(message) for message in stream]
    counted, kept = 0, []
    for message in stream:
        counted += size(message)
        if not size(message):
            kept.append(json_of(message))
    return {"bytes": counted, "others": kept}


def answer(operations, order, lock):
    said = {"id": order["id"]}
    try:
        said["response"] = run(operations, order)
    except grpc.RpcError as error:
        said.update(failure(error))
    except Exception as error:  # noqa: BLE001 (whatever it is, the other side is to hear it)
        said.update(code="CLIENT", message=repr(error), reason="", details={})
    with lock:
        print(json.dumps(said), flush=True)


def main():
    # How long a connection may take, and how long to wait after one that could not be had.
    options = [
        ("grpc.min_reconnect_backoff_ms", 2000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 100),
    ]
    operations = Operations(grpc.insecure_channel(sys.argv[1], options))
    lock = threading.Lock()
    for line in sys.stdin:
        order = json.loads(line)
        threading.Thread(target=answer, args=(operations, order, lock), daemon=True).start()


main()
