"""The client in the shape that chat programs know."""

import asyncio

import pytest

from op_dbus import Chunk, GrpcAgentClient, InvalidArgument, NotFound, Settings, UnknownOperation


async def test_a_session_from_start_to_end(settings: Settings, key: str) -> None:
    async with GrpcAgentClient(settings) as client:
        agents = await client.start_session(key, "op-chat")
        assert {"memory", "sequential_thinking", "context_manager"} <= set(agents)
        assert await client.start_session(key, "op-chat") == agents, "it goes on"
        assert client.metrics.active_sessions == 1

        results = await client.batch_execute(
            key,
            [
                ("memory", "store", {"key": key, "value": "op-dbus"}),
                ("memory", "recall", {"key": f"{key}-none"}),
                ("memory", "recall", '{"key": "%s"}' % key),
            ],
        )
        assert results[0]["created"] is True, "`store` is an older name of `remember`"
        assert isinstance(results[1], NotFound) and f"{key}-none" in results[1].message
        assert results[2]["value"] == "op-dbus"
        assert (await client.execute(key, "memory", "recall", {"key": key}))["value"] == "op-dbus"
        whole = await client.execute(key, "memory", "bulk_recall", {"keys": [key]})
        assert whole[0]["items"][0]["entry"]["value"] == "op-dbus"
        with pytest.raises(NotFound):
            await client.execute(key, "memory", "recall", {"key": f"{key}-none"})

        await client.end_session(key)
        assert client.metrics.active_sessions == 0
        with pytest.raises(NotFound):
            await client.end_session(key)


async def test_chunks_come_as_they_are_made(settings: Settings, key: str) -> None:
    async with GrpcAgentClient(settings) as client:
        heard: list[Chunk] = []
        arguments = {"keys": [f"{key}-none"]}
        await client.execute_stream("", "memory", "bulk_recall", arguments, heard.append)
        assert [chunk.is_final for chunk in heard] == [False, True]
        assert f"{key}-none" in heard[0].content and heard[0].stream_type == "result"

        seen = asyncio.Event()

        async def awaited(chunk: Chunk) -> None:
            if key in chunk.content:
                seen.set()

        watch = {"key": key, "current": True}
        await client.execute("", "memory", "remember", {"key": key, "value": 1})
        watching = asyncio.create_task(client.execute_stream("", "memory", "watch", watch, awaited))
        await seen.wait()
        assert not watching.done()
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
        with pytest.raises(InvalidArgument):
            await client.execute_stream("", "memory", "bulk_recall", {"keys": [""]}, heard.append)


async def test_a_build_without_its_agent_is_no_success(settings: Settings) -> None:
    async with GrpcAgentClient(settings) as client:
        agents = [agent["id"] for agent in await client.client.list_agents()]
        assert "rust_pro" not in agents, "this test is to build something from now on"
        with pytest.raises(UnknownOperation):
            await client.cargo_build("", ".", release=True)
