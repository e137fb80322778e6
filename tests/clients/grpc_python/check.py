"""Checks a running op-dbus with Python's grpcio, which is given no option at all.

The target comes by the environment: OPDBUS_GRPC=unix:/run/op-dbus/grpc.sock python check.py
Ends with 0 if every check holds; otherwise it says which does not. Install requirements.txt first.
"""

import importlib
import os
import pathlib
import queue
import sys
import tempfile
import time
import uuid

import grpc
import grpc_tools
from google.protobuf import descriptor_pool, message_factory
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status
from grpc_tools import protoc

PROTO = pathlib.Path(__file__).resolve().parents[3] / "proto"
FILES = ["opdbus/v1/agents.proto", "opdbus/v1/options.proto"]
SERVICE = "opdbus.v1.AgentsService"


def compile_stubs(folder):
    """Generates the stubs of op-dbus's own service, as any client's build would."""
    well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["", f"-I{PROTO}", f"-I{well_known}", f"--python_out={folder}"]
    assert protoc.main([*arguments, f"--grpc_python_out={folder}", *FILES]) == 0
    sys.path.insert(0, folder)
    return (
        importlib.import_module("opdbus.v1.agents_pb2"),
        importlib.import_module("opdbus.v1.agents_pb2_grpc"),
    )


def check_error(call, code, reason):
    """The call must fail with this code and reason; gives the details by type."""
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, error
        details = {}
        for detail in rpc_status.from_call(error).details:
            for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest):
                if detail.Is(kind.DESCRIPTOR):
                    details[kind.__name__] = kind()
                    detail.Unpack(details[kind.__name__])
        assert details["ErrorInfo"].reason == reason, details
        assert details["ErrorInfo"].domain == "org.opdbus", details
        return details
    raise AssertionError(f"the call must fail with {code}")


def check_calls(pb, stub):
    assert stub.Ping(pb.PingRequest(payload=b"hello")).payload == b"hello"
    big = os.urandom(500_000)
    assert stub.Ping(pb.PingRequest(payload=big)).payload == big
    agents = stub.ListAgents(pb.ListAgentsRequest()).agents
    assert agents, "there are no agents"
    described = stub.DescribeAgent(pb.DescribeAgentRequest(agent=agents[0].id))
    assert [o.name for o in described.operations] == list(agents[0].operations)
    assert "opdbus_calls_total" in stub.GetMetrics(pb.GetMetricsRequest()).text
    json = pb.CallJsonRequest(agent="agents", operation="ping", arguments='{"payload": "aGk="}')
    assert "aGk=" in stub.CallJson(json).result

    # Many headers, each new to the connection's header table.
    for number in range(300):
        metadata = [(f"x-number-{number}", str(number) * 20)]
        assert stub.Ping(pb.PingRequest(payload=b"x"), metadata=metadata).payload == b"x"
    futures = [stub.Ping.future(pb.PingRequest(payload=b"%d" % n)) for n in range(200)]
    assert [f.result().payload for f in futures] == [b"%d" % n for n in range(200)]
    return [agent.id for agent in agents]


def check_errors(channel, pb, stub):
    none = lambda: stub.DescribeAgent(pb.DescribeAgentRequest(agent="none"))
    check_error(none, grpc.StatusCode.NOT_FOUND, "UNKNOWN_AGENT")
    wrong = lambda: stub.Ping(pb.PingRequest(), metadata=[("opdbus-detach", "1")])
    details = check_error(wrong, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert details["BadRequest"].field_violations[0].field == "opdbus-detach"
    nothing = channel.unary_unary(f"/{SERVICE}/Nothing")
    check_error(lambda: nothing(b""), grpc.StatusCode.UNIMPLEMENTED, "UNKNOWN_OPERATION")
    garbage = channel.unary_unary(f"/{SERVICE}/Ping")
    check_error(lambda: garbage(b"\x0a\x05x"), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    too_long = channel.unary_unary(f"/{SERVICE}/Ping")
    details = check_error(
        lambda: too_long(bytes(100 * 1024 * 1024)),
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "LIMIT_EXCEEDED",
    )
    assert details["ErrorInfo"].metadata["limit"] == "grpc.max_request_bytes"
    try:
        stub.Ping(pb.PingRequest(payload=b"x" * 1000), compression=grpc.Compression.Gzip)
        raise AssertionError("a compressed call must fail")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
    assert stub.Ping(pb.PingRequest(payload=b"still there")).payload == b"still there"


def check_standard(channel):
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", SERVICE):
        response = health.Check(health_pb2.HealthCheckRequest(service=service))
        assert response.status == health_pb2.HealthCheckResponse.SERVING
    watch = health.Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()

    database = ProtoReflectionDescriptorDatabase(channel)
    services = database.get_services()
    assert SERVICE in services and "grpc.health.v1.Health" in services, services
    # A client that has no stubs at all.
    pool = descriptor_pool.DescriptorPool(database)
    method = pool.FindServiceByName(SERVICE).FindMethodByName("Ping")
    request = message_factory.GetMessageClass(method.input_type)(payload=b"reflected")
    answer = channel.unary_unary(
        f"/{SERVICE}/Ping",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )(request)
    assert answer.payload == b"reflected"


def check_agents(channel):
    """The main job of the context manager and of sequential thinking, by stubs made of reflection."""
    pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))

    def call(agent, operation, **fields):
        package = f"opdbus.agent.{agent}.v1"
        service = "".join(part.capitalize() for part in agent.split("_")) + "Service"
        method = pool.FindServiceByName(f"{package}.{service}").FindMethodByName(operation)
        return channel.unary_unary(
            f"/{package}.{service}/{operation}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )(message_factory.GetMessageClass(method.input_type)(**fields))

    name = f"grpc-python-{uuid.uuid4()}"
    saved = call("context_manager", "Save", name=name, items=[{"text": "Grüße"}, {"text": "x"}])
    assert saved.created and saved.items == 2 and not saved.tokens_exact, saved
    loaded = call("context_manager", "Load", name=name)
    assert [item.text for item in loaded.items] == ["Grüße", "x"], loaded
    session = lambda: call("context_manager", "Load", name=name, scope=2)
    details = check_error(session, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert details["BadRequest"].field_violations[0].field == "session-id", details
    call("context_manager", "Delete", name=name, permanent=True)
    gone = lambda: call("context_manager", "Load", name=name)
    check_error(gone, grpc.StatusCode.NOT_FOUND, "NOT_FOUND")

    chain = call("sequential_thinking", "StartChain", problem="Why?").chain_id
    step = call("sequential_thinking", "Think", chain_id=chain, thought="Perhaps.", kind=2).step
    conclude = lambda: call("sequential_thinking", "Conclude", chain_id=chain)
    details = check_error(conclude, grpc.StatusCode.ABORTED, "CONFLICT")
    assert details["ErrorInfo"].metadata["open_steps"] == str(step), details
    ended = call("sequential_thinking", "Conclude", chain_id=chain, force=True)
    assert ended.conclusion == "Perhaps." and list(ended.open_items) == [step], ended
    call("sequential_thinking", "DeleteChain", chain_id=chain)


class Probe:
    """The probe agent, which only builds for tests have, without stubs."""

    def __init__(self, channel):
        self.channel = channel
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        self.service = pool.FindServiceByName("opdbus.agent.probe.v1.ProbeService")

    def operation(self, shape, name):
        """The type of the request, and what calls the operation."""
        method = self.service.FindMethodByName(name)
        call = getattr(self.channel, shape)(
            f"/{self.service.full_name}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        return message_factory.GetMessageClass(method.input_type), call


def check_streams(probe):
    generate_type, generate = probe.operation("unary_stream", "Generate")
    call = generate(generate_type(count=5000))
    assert len(dict(call.initial_metadata())["opdbus-task-id"]) > 8
    assert [reply.number for reply in call] == list(range(1, 5001))
    assert call.code() == grpc.StatusCode.OK
    blocks_type, blocks = probe.operation("unary_stream", "Blocks")
    sizes = [len(reply.block) for reply in blocks(blocks_type(count=100, size_bytes=65536))]
    assert sizes == [65536] * 100

    sum_type, total = probe.operation("stream_unary", "Sum")
    assert total(sum_type(number=n) for n in range(5001)).sum == 12_502_500
    chat_type, chat = probe.operation("stream_stream", "Chat")
    texts = [f"{n}" * 50 for n in range(500)]
    assert [reply.text for reply in chat(chat_type(text=text) for text in texts)] == texts

    # Each message only after the answer to the one before, then a time that is over.
    said = queue.SimpleQueue()
    call = chat(iter(said.get, None), timeout=1)
    for text in ("a", "b", "c"):
        said.put(chat_type(text=text))
        assert next(call).text == text
    check_code(lambda: next(call), grpc.StatusCode.DEADLINE_EXCEEDED)
    said.put(None)

    details = check_error(
        lambda: total(iter([sum_type(number=1)]), metadata=[("opdbus-on-disconnect", "no")]),
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_ARGUMENT",
    )
    assert details["BadRequest"].field_violations[0].field == "opdbus-on-disconnect"
    call = blocks(blocks_type(count=2, size_bytes=100 * 1024 * 1024))
    check_code(lambda: next(call), grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert rpc_status.from_call(call).details, "a broken stream has details"

    # A client that gives a stream up can go on with others.
    call = blocks(blocks_type(count=100_000, size_bytes=65536))
    next(call)
    call.cancel()
    assert total(iter([sum_type(number=7)])).sum == 7


def check_code(call, code):
    """The call must fail with this code."""
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, error
        return
    raise AssertionError(f"the call must fail with {code}")


def check_time(probe):
    request_type, sleep = probe.operation("unary_unary", "Sleep")
    minute, moment = request_type(), request_type()
    minute.duration.seconds = 60
    moment.duration.nanos = 1000
    before = sleep(moment).cancelled
    for _ in range(5):
        try:
            sleep(minute, timeout=0.05)
            raise AssertionError("the call must run out of time")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    for _ in range(5):
        call = sleep.future(minute)
        time.sleep(0.02)
        call.cancel()
    for _ in range(500):
        if sleep(moment).cancelled == before + 10:
            return
        time.sleep(0.01)
    raise AssertionError(f"not all waits were cancelled: {sleep(moment)}")


def main():
    target = os.environ["OPDBUS_GRPC"]
    with tempfile.TemporaryDirectory() as folder:
        pb, pb_grpc = compile_stubs(folder)
        with grpc.insecure_channel(target) as channel:
            stub = pb_grpc.AgentsServiceStub(channel)
            agents = check_calls(pb, stub)
            check_errors(channel, pb, stub)
            check_standard(channel)
            check_agents(channel)
            if "probe" in agents:
                probe = Probe(channel)
                check_streams(probe)
                check_time(probe)
    print(f"grpcio {grpc.__version__}: every check holds on {target}")


if __name__ == "__main__":
    main()
