"""Single calls over each way: answers, errors, deadlines, cancelling, request ids, sessions."""

import asyncio
import time

import pytest

from op_dbus import (
    AgentClient,
    AlreadyExists,
    CallOptions,
    DeadlineExceeded,
    ErrorKind,
    InvalidArgument,
    NotFound,
    Settings,
    UnknownAgent,
    UnknownOperation,
    Unreachable,
    Way,
    new_request_id,
)
from op_dbus.agents import memory, tasks


async def test_json_comes_back(over: Settings, key: str) -> None:
    async with AgentClient(over) as client:
        value = {"text": "Grüße", "list": [1.5, True, None]}
        made = await client.call("memory", "Remember", {"key": key, "value": value})
        assert made["created"] is True
        recalled = await client.call("memory", "recall", {"key": key})
        assert recalled["value"] == value
        assert recalled["version"] == made["version"]
        assert client.metrics.requests_total("memory", "Recall", Way(over.via)) == 1


async def test_typed_messages_come_back(over: Settings, key: str) -> None:
    async with AgentClient(over) as client:
        agent = memory.MemoryClient(client)
        request = memory.RememberRequest(key=key, tags=["a", "b"])
        request.value.string_value = "atlas"
        made = await agent.remember(request)
        recalled = await agent.recall(memory.RecallRequest(key=key))
        assert recalled.value.string_value == "atlas"
        assert (recalled.version, list(recalled.tags)) == (made.version, ["a", "b"])


async def test_each_error_is_its_exception(over: Settings, key: str) -> None:
    async with AgentClient(over) as client:
        with pytest.raises(NotFound, match=key) as error:
            await client.call("memory", "Recall", {"key": key})
        assert (error.value.kind, error.value.reason) == (ErrorKind.NOT_FOUND, "NOT_FOUND")
        with pytest.raises(InvalidArgument, match="key"):
            await client.call("memory", "Recall", {"key": ""})
        with pytest.raises(UnknownAgent):
            await client.call("nobody", "Recall", {})
        with pytest.raises(UnknownOperation):
            await client.call("memory", "Nothing", {})
        await client.call("memory", "Remember", {"key": key, "value": 1})
        with pytest.raises(AlreadyExists):
            again = {"key": key, "value": 1, "if_absent": True}
            await client.call("memory", "Remember", again)


async def test_grpc_tells_the_facts_of_an_error(settings: Settings) -> None:
    async with AgentClient(settings, via="grpc") as client:
        with pytest.raises(InvalidArgument) as error:
            await client.call("memory", "Recall", {"key": ""})
        assert error.value.facts == {"field": "key"}


async def test_what_cannot_travel_is_refused_here(settings: Settings) -> None:
    async with AgentClient(settings, via="dbus") as client:
        with pytest.raises(InvalidArgument, match="U.0000"):
            await client.call_json("memory", "Recall", '{"key": "a\0b"}')
        with pytest.raises(InvalidArgument, match="arguments"):
            await client.call("memory", "Recall", {"key": float("nan")})
        with pytest.raises(InvalidArgument, match="arguments"):
            await client.call_json("memory", "Recall", '{"key": "\ud800"}')
        await client.ping(b"the connection still stands")
    with pytest.raises(InvalidArgument, match="request-id"):
        CallOptions(request_id="ä")


async def watch_task(client: AgentClient, key: str) -> str:
    """A task that goes on until it is cancelled."""
    arguments = {"agent": "memory", "operation": "Watch", "arguments": f'{{"key": "{key}"}}'}
    started = await client.call("calls", "StartCall", arguments)
    return str(started["task"]["id"])


async def calls(client: AgentClient, *labels: str) -> float:
    """The sum of the service's own counts of calls with these labels."""
    text = (await client.call("agents", "GetMetrics"))["text"]
    lines = [line for line in text.splitlines() if line.startswith("opdbus_calls_total")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(x in line for x in labels))


async def test_a_deadline_ends_a_call(over: Settings, key: str) -> None:
    async with AgentClient(over) as client:
        task = await watch_task(client, key)
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded) as error:
            await client.call("tasks", "WaitTask", {"id": task}, CallOptions(timeout=0.2))
        assert time.monotonic() - started < 10
        assert not error.value.lost, "the service or the library says that the time is over"
        await client.call("tasks", "CancelTask", {"id": task})


async def test_cancelling_reaches_the_service(settings: Settings, key: str) -> None:
    async with AgentClient(settings, via="grpc") as client:
        task = await watch_task(client, key)
        labels = ('operation="WaitTask"', 'outcome="cancelled"', 'transport="grpc"')
        before = await calls(client, *labels)
        for _ in range(3):
            waiting = asyncio.create_task(tasks.TasksClient(client).wait_task(tasks.WaitTaskRequest(id=task)))
            await asyncio.sleep(0.2)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        for _ in range(200):
            if await calls(client, *labels) == before + 3:
                break
            await asyncio.sleep(0.05)
        assert await calls(client, *labels) == before + 3
        await client.call("tasks", "CancelTask", {"id": task})


async def test_a_request_id_gives_the_first_result(over: Settings, key: str) -> None:
    async with AgentClient(over) as client:
        options = CallOptions(request_id=new_request_id())
        first = await client.call("memory", "Increment", {"key": key}, options)
        assert await client.call("memory", "Increment", {"key": key}, options) == first
        second = await client.call("memory", "Increment", {"key": key})
        assert int(second["value"]) == int(first["value"]) + 1


async def test_a_session_keeps_its_own(over: Settings, key: str) -> None:
    async with AgentClient(over) as client:
        async with await client.start_session("tests") as session:
            assert "memory" in session.agents
            assert client.metrics.active_sessions == 1
            mine = {"key": key, "scope": "SCOPE_SESSION"}
            await session.call("memory", "Remember", {**mine, "value": "x"})
            assert (await session.call("memory", "Recall", mine))["value"] == "x"
            typed = memory.MemoryClient(client, session.options)
            request = memory.RecallRequest(key=key, scope=memory.SCOPE_SESSION)
            assert (await typed.recall(request)).value.string_value == "x"
            with pytest.raises(InvalidArgument, match="session"):
                await client.call("memory", "Recall", mine)
        assert client.metrics.active_sessions == 0
        with pytest.raises(NotFound):
            await client.call("sessions", "GetSession", {"session_id": session.id})


async def test_without_a_pool_each_call_has_its_connection(settings: Settings) -> None:
    async with AgentClient(settings, via="grpc", pool_connections=False) as client:
        await asyncio.gather(*(client.ping(b"%d" % number) for number in range(5)))


async def test_a_service_that_is_not_there_is_unreachable(settings: Settings) -> None:
    async with AgentClient(settings, via="grpc", address="unix:/nowhere/grpc.sock") as client:
        with pytest.raises(Unreachable, match="/nowhere/grpc.sock"):
            await client.ping()
    async with AgentClient(settings, via="dbus", name="org.opdbus.Nobody") as client:
        with pytest.raises(Unreachable, match="org.opdbus.Nobody"):
            await client.ping()
    async with AgentClient(settings, via="dbus", bus="unix:path=/nowhere/bus") as client:
        with pytest.raises(Unreachable, match="/nowhere/bus"):
            await client.ping()
