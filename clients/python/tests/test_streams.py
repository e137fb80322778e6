"""Streams over each way: both directions, their end, cancelling, and a connection that is cut."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from service import Relay, Service

from op_dbus import AgentClient, CallOptions, Error, InvalidArgument, Settings, UnknownOperation, Way
from op_dbus.agents import memory


def value(key: str, text: str = "x") -> memory.BulkRememberRequest:
    request = memory.BulkRememberRequest()
    request.remember.key = key
    request.remember.value.string_value = text
    return request


async def values(prefix: str, count: int) -> AsyncIterator[memory.BulkRememberRequest]:
    for number in range(count):
        yield value(f"{prefix}-{number}")


async def test_messages_in_both_directions(over: Settings, key: str) -> None:
    async with AgentClient(over) as client:
        agent = memory.MemoryClient(client)
        stored = await agent.bulk_remember(values(key, 2000))
        assert stored.remembered == 2000
        keys = [f"{key}-{number}" for number in (1999, 5)] + [f"{key}-none"]
        request = memory.BulkRecallRequest(keys=keys)
        found = [item.key async for answer in agent.bulk_recall(request) for item in answer.items]
        assert found == keys
        stream = client.stream("memory", "BulkRecall", {"keys": keys})
        assert [item["key"] async for answer in stream for item in answer["items"]] == keys
        way = Way(over.via)
        assert client.metrics.operation("memory", "BulkRecall").ways[way].streaming_chunks == 2
        assert (await agent.forget(memory.ForgetRequest(key=f"{key}-*", glob=True))).count == 2000


async def test_an_error_ends_a_stream(over: Settings) -> None:
    async with AgentClient(over) as client:
        with pytest.raises(InvalidArgument, match="key"):
            async for _ in client.stream("memory", "BulkRecall", {"keys": [""]}):
                pass
        with pytest.raises(InvalidArgument, match="key"):
            async for _ in memory.MemoryClient(client).bulk_recall(memory.BulkRecallRequest(keys=[""])):
                pass


async def running(client: AgentClient) -> list[str]:
    """The ids of this user's watches that run."""
    listed = await client.call(
        "tasks", "ListTasks", {"agent": "memory", "states": ["TASK_STATE_WORKING"]}
    )
    return [task["id"] for task in listed["tasks"] if task["operation"] == "Watch"]


@pytest.mark.parametrize("typed", [False, True])
async def test_closing_a_stream_ends_its_work(over: Settings, key: str, typed: bool) -> None:
    async with AgentClient(over) as client:
        before = await running(client)
        stream = (
            memory.MemoryClient(client).watch(memory.WatchRequest(key=key))
            if typed
            else client.stream("memory", "Watch", {"key": key})
        )
        async with contextlib.aclosing(stream):
            first = asyncio.ensure_future(anext(stream))
            while len(await running(client)) == len(before):
                await asyncio.sleep(0.05)
            await client.call("memory", "Remember", {"key": key, "value": 1})
            await first
        for _ in range(200):
            if await running(client) == before:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("the watch goes on")


async def test_cancelling_the_reader_ends_the_work(over: Settings, key: str) -> None:
    async with AgentClient(over) as client:
        before = await running(client)

        async def read() -> None:
            async for _ in client.stream("memory", "Watch", {"key": key}):
                pass

        reading = asyncio.create_task(read())
        while len(await running(client)) == len(before):
            await asyncio.sleep(0.05)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        for _ in range(200):
            if await running(client) == before:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("the watch goes on")


async def test_a_stream_of_the_service_itself_is_on_grpc_only(settings: Settings) -> None:
    async with AgentClient(settings, via="dbus") as client:
        with pytest.raises(UnknownOperation, match="gRPC"):
            async for _ in client.stream("agents", "WatchAgents", {}):
                pass


@pytest.mark.parametrize("typed", [False, True])
async def test_a_stream_outlives_its_connection(
    service: Service, tmp_path: Path, typed: bool
) -> None:
    socket = str(service.settings.address.path)
    async with (
        AgentClient(service.settings, via="grpc") as writer,
        Relay(tmp_path / "relay", socket) as relay,
        AgentClient(service.settings, via="grpc", address=str(relay.address)) as reader,
    ):
        agent = memory.MemoryClient(writer)
        await agent.bulk_remember(values("first", 1))
        options = CallOptions(on_disconnect="continue")
        stream = (
            memory.MemoryClient(reader).watch(memory.WatchRequest(prefix="k"), options)
            if typed
            else reader.stream("memory", "Watch", {"prefix": "k"}, options)
        )
        seen: list[str] = []

        async def read() -> None:
            async for change in stream:
                name = change.key if typed else change["key"]
                # The other events say nothing of a key.
                seen.extend([name] if name else [])

        reading = asyncio.create_task(read())
        try:
            wanted = []
            for number in range(9):
                while not await running(writer):
                    await asyncio.sleep(0.05)
                wanted.append(f"k{number}")
                await agent.bulk_remember(values(f"k{number}", 1))
                if number % 3 == 1:
                    relay.cut()
            while len(seen) < len(wanted):
                assert not reading.done(), reading.exception()
                await asyncio.sleep(0.05)
            assert seen == [f"{key}-0" for key in wanted]
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, Error):
                await reading
