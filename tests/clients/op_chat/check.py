"""Drives op-chat's contract with stubs that grpcio-tools makes from `agents.proto` beside this file.

The target comes by the environment: OPDBUS_GRPC=unix:/run/op-dbus/grpc.sock python check.py
Each check that holds prints a line `ok WHAT`; the first that does not ends the program.
"""

import importlib
import json
import os
import pathlib
import queue
import sys
import tempfile
import uuid

import grpc
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_tools import protoc

HERE = pathlib.Path(__file__).resolve().parent


def compile_stubs(folder):
    arguments = ["", f"-I{HERE}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    assert protoc.main([*arguments, "agents.proto"]) == 0
    sys.path.insert(0, folder)
    return importlib.import_module("agents_pb2"), importlib.import_module("agents_pb2_grpc")


def ok(what):
    print(f"ok op-chat: {what}", flush=True)


def fails(code, call):
    """The call must fail with this status; gives its text."""
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, error
        return error.details()
    raise AssertionError(f"the call must fail with {code}")


class Session:
    """One session of one client."""

    def __init__(self, pb, rpc, channel):
        self.pb = pb
        self.agent = rpc.AgentServiceStub(channel)
        self.memory = rpc.MemoryAgentStub(channel)
        self.thinking = rpc.SequentialThinkingAgentStub(channel)
        self.contexts = rpc.ContextManagerAgentStub(channel)
        self.rust = rpc.RustProAgentStub(channel)
        self.architect = rpc.BackendArchitectAgentStub(channel)
        self.id = f"op-chat-{uuid.uuid4()}"
        self.prefix = f"op-chat/{uuid.uuid4()}/"

    def execution(self, agent, operation, arguments=None, timeout_ms=0):
        return self.pb.ExecuteRequest(
            session_id=self.id,
            agent_id=agent,
            operation=operation,
            arguments_json=json.dumps(arguments) if arguments is not None else "",
            timeout_ms=timeout_ms,
        )

    def execute(self, agent, operation, arguments=None, timeout_ms=0):
        return self.agent.Execute(self.execution(agent, operation, arguments, timeout_ms))


def check_contract(pb, channel):
    """What the server says of the contract by reflection is what clients were compiled with."""
    served = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))

    def fields(message):
        return {
            (f.name, f.number, f.type, f.is_repeated, f.message_type and f.message_type.full_name,
             f.containing_oneof and f.containing_oneof.name)
            for f in message.fields
        }

    for name, message in pb.DESCRIPTOR.message_types_by_name.items():
        assert fields(message) == fields(served.FindMessageTypeByName(message.full_name)), name
    calls = 0
    for name, service in pb.DESCRIPTOR.services_by_name.items():
        found = served.FindServiceByName(service.full_name)
        methods = [
            {
                (m.name, m.input_type.full_name, m.output_type.full_name,
                 m.client_streaming, m.server_streaming)
                for m in one.methods
            }
            for one in (service, found)
        ]
        assert methods[0] == methods[1], name
        calls += len(methods[0])
    assert calls == 36, calls
    ok("the contract has the same names, numbers and types")


def check_sessions(s):
    started = s.agent.StartSession(
        s.pb.StartSessionRequest(session_id=s.id, client_name="cursor", metadata={"editor": "yes"})
    )
    assert started.success, started
    assert {"memory", "context_manager", "sequential_thinking"} <= set(started.started_agents), started
    again = s.agent.StartSession(s.pb.StartSessionRequest(session_id=s.id, client_name="cursor"))
    assert again.success and "goes on" in again.message, again
    fails(
        grpc.StatusCode.INVALID_ARGUMENT,
        lambda: s.agent.StartSession(s.pb.StartSessionRequest(client_name="cursor")),
    )
    ok("StartSession warms the agents, and is answered again for a session that is there")


def check_execute(s):
    key = s.prefix + "execute"
    stored = s.execute("memory", "remember", {"key": key, "value": "rust"})
    assert stored.success and not stored.error, stored
    assert json.loads(stored.result_json)["created"] is True, stored
    assert (stored.agent_id, stored.operation) == ("memory", "remember")
    assert 0 <= stored.execution_time_ms < 10_000
    for operation in ("recall", "retrieve", "Recall"):
        assert json.loads(s.execute("agent_memory", operation, {"key": key}).result_json)["value"] == "rust"
    for agent in ("context-manager", "ContextManager", "context_manager"):
        missing = s.execute(agent, "restore", {"name": s.prefix + "none"})
        assert not missing.success and missing.error.startswith("NOT_FOUND: "), missing
        assert missing.result_json == "", missing
    thought = s.execute("sequential_thinking", "think", {"thought": "one", "step": 1, "total_steps": 2})
    assert json.loads(thought.result_json)["next_thought_needed"] is True, thought
    for agent, operation, arguments, reason in (
        ("nobody", "remember", {}, "UNKNOWN_AGENT"),
        ("memory", "explode", {}, "UNKNOWN_OPERATION"),
        ("memory", "remember", {"unknown": 1}, "INVALID_ARGUMENT"),
        ("sessions", "list_sessions", {}, "UNKNOWN_AGENT"),
    ):
        refused = s.execute(agent, operation, arguments)
        assert not refused.success and refused.error.startswith(reason + ": "), refused
    strange = s.pb.ExecuteRequest(session_id="nobody-started-this", agent_id="memory", operation="list")
    assert "nobody-started-this" in fails(grpc.StatusCode.NOT_FOUND, lambda: s.agent.Execute(strange))
    ok("Execute knows agents and operations by all their names, and says why it fails")


def check_execute_stream(s):
    key = s.prefix + "execute"
    chunks = list(s.agent.ExecuteStream(s.execution("memory", "recall", {"key": key})))
    assert [chunk.is_final for chunk in chunks] == [False, True], chunks
    assert json.loads(chunks[0].chunk)["value"] == "rust" and chunks[0].stream_type == "result"
    assert chunks[1].exit_code == 0
    failed = list(s.agent.ExecuteStream(s.execution("memory", "recall", {"key": s.prefix + "none"})))
    assert len(failed) == 1 and failed[0].is_final and failed[0].exit_code == 1, failed
    assert failed[0].stream_type == "error" and failed[0].chunk.startswith("NOT_FOUND: "), failed
    s.execute("context_manager", "save", {"name": s.prefix + "streamed", "content": "text"})
    exported = list(
        s.agent.ExecuteStream(s.execution("context_manager", "export", {"names": [s.prefix + "streamed"]}))
    )
    assert len(exported) >= 2 and exported[-1].is_final and exported[-1].exit_code == 0, exported
    ok("ExecuteStream gives chunks and says how it ended")


def check_batch(s):
    name = s.prefix + "session-context"
    s.contexts.Save(s.pb.SaveContextRequest(session_id=s.id, name=name, content="hello", tags=["chat"]))
    for parallel in (True, False):
        batch = s.pb.BatchExecuteRequest(
            session_id=s.id,
            parallel=parallel,
            requests=[
                s.execution("memory", "remember", {"key": s.prefix + "project", "value": "op-dbus-v2"}),
                s.execution("memory", "remember", {"key": s.prefix + "language", "value": "rust"}),
                s.execution("context_manager", "load", {"name": name}),
            ],
        )
        results = list(s.agent.BatchExecute(batch))
        assert [r.operation for r in results] == ["remember", "remember", "load"], results
        assert all(r.success for r in results), results
        assert name not in results[2].error and "hello" in results[2].result_json, results[2]
    mixed = s.pb.BatchExecuteRequest(
        session_id=s.id,
        requests=[
            s.execution("nobody", "x"),
            s.execution("memory", "recall", {"key": s.prefix + "language"}),
            s.execution("memory", "recall", {"key": s.prefix + "none"}),
        ],
    )
    results = list(s.agent.BatchExecute(mixed))
    assert [r.success for r in results] == [False, True, False], results
    assert results[0].error.startswith("UNKNOWN_AGENT"), results
    ok("BatchExecute gives one result for each request, in order")


def check_session_stream(s):
    outgoing = queue.Queue()
    messages = s.agent.Session(iter(outgoing.get, None))

    def send(**content):
        outgoing.put(s.pb.SessionMessage(session_id=s.id, **content))

    send(heartbeat=s.pb.HeartbeatMessage(timestamp=1))
    beat = next(messages)
    assert beat.WhichOneof("content") == "heartbeat" and beat.heartbeat.timestamp > 1_700_000_000, beat
    send(execute=s.execution("memory", "remember", {"key": s.prefix + "stream", "value": 1}))
    first = next(messages)
    assert first.session_id == s.id and first.result.success, first
    send(execute=s.execution("memory", "recall", {"key": s.prefix + "stream"}))
    send(execute=s.execution("memory", "recall", {"key": s.prefix + "none"}))
    second, third = next(messages), next(messages)
    assert json.loads(second.result.result_json)["value"] == 1, second
    assert not third.result.success, third
    outgoing.put(s.pb.SessionMessage(session_id="none", heartbeat=s.pb.HeartbeatMessage(timestamp=1)))
    assert next(messages).error.code == "NOT_FOUND"
    send(result=s.pb.ExecuteResponse())
    assert next(messages).error.code == "INVALID_ARGUMENT"
    outgoing.put(None)
    assert list(messages) == []
    ok("Session answers heartbeats and executions on one stream")


def check_memory(s):
    pb, key = s.pb, s.prefix + "key"
    remember = pb.RememberRequest(session_id=s.id, key=key, value="atlas builds", ttl_secs=3600, tags=["host"])
    assert s.memory.Remember(remember) == pb.RememberResponse(success=True, key=key)
    recalled = s.memory.Recall(pb.RecallRequest(session_id=s.id, key=key))
    assert recalled.found and recalled.value == "atlas builds" and list(recalled.tags) == ["host"], recalled
    assert recalled.created_at > 1_700_000_000 and recalled.accessed_at >= recalled.created_at
    assert not s.memory.Recall(pb.RecallRequest(session_id=s.id, key=key + "-none")).found
    bulk = [pb.RememberRequest(session_id=s.id, key=f"{key}/{n}", value=str(n)) for n in range(5)]
    bulk.append(pb.RememberRequest(session_id=s.id, key="", value="no key"))
    done = s.memory.BulkRemember(iter(bulk))
    assert (done.success_count, done.failure_count) == (5, 1) and len(done.errors) == 1, done
    keys = [f"{key}/{n}" for n in (4, 0, 9)]
    answers = list(s.memory.BulkRecall(pb.BulkRecallRequest(session_id=s.id, keys=keys)))
    assert [(a.key, a.found) for a in answers] == list(zip(keys, (True, True, False))), answers
    listed = s.memory.List(pb.ListRequest(session_id=s.id, pattern=f"{key}/*", limit=2))
    assert len(listed.keys) == 2 and listed.total == 5, listed
    found = s.memory.Search(pb.SearchRequest(session_id=s.id, query="atlas", limit=10))
    assert any(e.key == key and e.value == "atlas builds" for e in found.entries), found
    assert s.memory.Forget(pb.ForgetRequest(session_id=s.id, key=key)).success
    assert not s.memory.Forget(pb.ForgetRequest(session_id=s.id, key=key)).success
    fails(grpc.StatusCode.INVALID_ARGUMENT, lambda: s.memory.Remember(pb.RememberRequest(value="x")))
    ok("MemoryAgent: all seven")


def check_thinking(s):
    pb = s.pb
    chain = s.thinking.StartChain(
        pb.StartChainRequest(session_id=s.id, problem="why is it slow", max_steps=5, context="a build")
    )
    assert chain.started and chain.chain_id
    for step in (1, 2):
        thought = pb.ThinkRequest(session_id=s.id, chain_id=chain.chain_id, thought=f"thought {step}", step=step)
        answer = s.thinking.Think(thought)
        assert (answer.step, answer.thought, answer.is_final) == (step, f"thought {step}", False), answer
    fails(
        grpc.StatusCode.ABORTED,
        lambda: s.thinking.Think(
            pb.ThinkRequest(session_id=s.id, chain_id=chain.chain_id, thought="again", step=2)
        ),
    )
    whole = s.thinking.GetChain(pb.GetChainRequest(session_id=s.id, chain_id=chain.chain_id))
    assert whole.problem == "why is it slow" and whole.status == "open" and len(whole.thoughts) == 2, whole
    end = s.thinking.Conclude(pb.ConcludeRequest(session_id=s.id, chain_id=chain.chain_id))
    assert end.conclusion == "thought 2" and list(end.steps) == ["thought 1", "thought 2"], end
    assert end.total_steps == 2
    stream = s.thinking.ThinkStream(pb.StartChainRequest(session_id=s.id, problem="streamed"))
    started = next(stream)
    assert started.status == "started" and started.chain_id, started
    s.thinking.Think(pb.ThinkRequest(session_id=s.id, chain_id=started.chain_id, thought="seen"))
    assert next(stream).thought == "seen"
    s.thinking.Conclude(pb.ConcludeRequest(session_id=s.id, chain_id=started.chain_id))
    rest = list(stream)
    assert rest and rest[-1].is_final and rest[-1].status == "concluded", rest
    ok("SequentialThinkingAgent: all five")


def check_contexts(s):
    pb, name = s.pb, s.prefix + "plan"
    saved = s.contexts.Save(pb.SaveContextRequest(session_id=s.id, name=name, content="the plan", tags=["a"]))
    assert saved.success and saved.name == name and saved.size_bytes > 0, saved
    loaded = s.contexts.Load(pb.LoadContextRequest(session_id=s.id, name=name))
    assert loaded.found and loaded.content == "the plan" and list(loaded.tags) == ["a"], loaded
    assert loaded.updated_at >= loaded.created_at > 1_700_000_000
    assert not s.contexts.Load(pb.LoadContextRequest(session_id=s.id, name=name + "-none")).found
    listed = s.contexts.List(pb.ListContextsRequest(session_id=s.id, tag_filter="a"))
    assert name in [c.name for c in listed.contexts], listed
    chunks = list(s.contexts.Export(pb.ExportRequest(session_id=s.id, names=[name], format="json")))
    assert chunks and chunks[-1].is_final and not any(c.is_final for c in chunks[:-1]), chunks
    data = b"".join(chunk.data for chunk in chunks)
    assert b"the plan" in data
    assert s.contexts.Delete(pb.DeleteContextRequest(session_id=s.id, name=name)).success
    assert not s.contexts.Delete(pb.DeleteContextRequest(session_id=s.id, name=name)).success
    pieces = [pb.ImportChunk(data=data[at : at + 7], format="json") for at in range(0, len(data), 7)]
    pieces.append(pb.ImportChunk(is_final=True, format="json"))
    done = s.contexts.Import(iter(pieces))
    assert done.imported_count == 1 and not done.errors, done
    assert s.contexts.Load(pb.LoadContextRequest(session_id=s.id, name=name)).content == "the plan"
    ok("ContextManagerAgent: all six")


def check_unserved(s):
    pb = s.pb
    calls = [(getattr(s.rust, name), pb.CargoRequest(path=".")) for name in
             ("Check", "Fmt", "Build", "Test", "Clippy", "Run", "Doc")]
    calls += [
        (s.architect.Analyze, pb.AnalyzeRequest()),
        (s.architect.Design, pb.DesignRequest()),
        (s.architect.Review, pb.ReviewRequest()),
        (s.architect.Suggest, pb.SuggestRequest()),
        (s.architect.Document, pb.DocumentRequest()),
    ]
    for call, request in calls:
        is_stream = isinstance(call, grpc.UnaryStreamMultiCallable)
        text = fails(
            grpc.StatusCode.UNIMPLEMENTED,
            lambda: list(call(request)) if is_stream else call(request),
        )
        assert "planned for release" in text, text
    ok("RustProAgent and BackendArchitectAgent say that they come later")


def main():
    with tempfile.TemporaryDirectory() as folder:
        pb, rpc = compile_stubs(folder)
    with grpc.insecure_channel(os.environ["OPDBUS_GRPC"]) as channel:
        check_contract(pb, channel)
        s = Session(pb, rpc, channel)
        check_sessions(s)
        check_execute(s)
        check_execute_stream(s)
        check_batch(s)
        check_session_stream(s)
        check_memory(s)
        check_thinking(s)
        check_contexts(s)
        check_unserved(s)
        assert s.agent.EndSession(pb.EndSessionRequest(session_id=s.id)).success
        ended = pb.EndSessionRequest(session_id=s.id)
        fails(grpc.StatusCode.NOT_FOUND, lambda: s.agent.EndSession(ended))
        ok("EndSession ends it once")


main()
