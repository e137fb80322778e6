"""The older interface, for clients that still need it: the same answers and the same errors."""

import pytest

from op_dbus import (
    AgentClient,
    AlreadyExists,
    CallOptions,
    InvalidArgument,
    NotFound,
    Settings,
    UnknownOperation,
    Way,
)
from op_dbus.agents import memory


async def test_answers_and_errors_are_those_of_the_other_ways(settings: Settings, key: str) -> None:
    async with (
        AgentClient(settings, via="legacy") as older,
        AgentClient(settings, via="grpc") as client,
    ):
        made = await older.call("memory", "Remember", {"key": key, "value": "atlas"})
        assert made == {"version": made["version"], "created": True}
        recalled = await older.call("memory", "Recall", {"key": key})
        assert recalled == await client.call("memory", "Recall", {"key": key})
        typed = await memory.MemoryClient(older).recall(memory.RecallRequest(key=key))
        assert typed.value.string_value == "atlas"
        assert older.metrics.requests_total("memory", "Recall", Way.LEGACY) == 2
        for arguments, failure in [
            ({"key": key, "value": 1, "if_absent": True}, AlreadyExists),
            ({"key": key, "value": 1, "colour": "red"}, InvalidArgument),
        ]:
            with pytest.raises(failure) as first:
                await older.call("memory", "Remember", arguments)
            with pytest.raises(failure) as second:
                await client.call("memory", "Remember", arguments)
            assert first.value.reason == second.value.reason
        with pytest.raises(NotFound):
            await older.call("context_manager", "Load", {"name": f"{key}-none"})


async def test_what_is_not_there_is_an_unknown_operation(settings: Settings, key: str) -> None:
    async with AgentClient(settings, via="legacy") as older:
        with pytest.raises(UnknownOperation, match="Unsupported operation"):
            await older.call("memory", "Increment", {"key": key})
        with pytest.raises(UnknownOperation):
            await older.call("agents", "GetStatus", {})
        with pytest.raises(UnknownOperation, match="stream"):
            async for _ in older.stream("memory", "Watch", {"key": key}):
                pass


async def test_what_belongs_to_a_call_goes_with_it(settings: Settings, key: str) -> None:
    async with AgentClient(settings, via="legacy") as older:
        options = CallOptions(request_id=f"{key}-once")
        arguments = {"key": key, "value": 1}
        first = await older.call("memory", "Remember", arguments, options)
        assert await older.call("memory", "Remember", arguments, options) == first
        later = await older.call("memory", "Remember", arguments)
        assert int(later["version"]) > int(first["version"])
        with pytest.raises(NotFound):
            session = CallOptions(session="no-such-session")
            await older.call("memory", "Recall", {"key": key}, session)
