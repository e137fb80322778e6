"""The client in the shape that op-chat was promised."""

import pytest

from op_dbus import Chunk, Conflict, GrpcAgentClient, NotFound, Settings, UnknownAgent


async def test_a_session_from_start_to_end(settings: Settings, key: str) -> None:
    async with GrpcAgentClient(settings) as client:
        agents = await client.start_session(key, "op-chat")
        assert {"memory", "sequential_thinking", "context_manager"} <= set(agents)
        assert await client.start_session(key, "op-chat") == agents, "it is resumed"
        assert client.metrics.active_sessions == 1

        results = await client.batch_execute(
            key,
            [
                ("memory", "remember", {"key": key, "value": "op-dbus"}),
                ("memory", "recall", {"key": f"{key}-none"}),
                ("memory", "recall", '{"key": "%s"}' % key),
            ],
        )
        assert results[0].result and results[0].result["created"]
        assert isinstance(results[1].error, NotFound) and results[1].result is None
        assert results[2].result and results[2].result["value"] == "op-dbus"

        answer = await client.execute(key, "memory", "recall", {"key": key})
        assert answer["value"] == "op-dbus"

        heard: list[Chunk] = []
        last = await client.execute_stream(
            key, "memory", "bulk_recall", {"keys": [key]}, heard.append
        )
        assert last["items"][0]["entry"]["value"] == "op-dbus"
        assert [chunk.is_final for chunk in heard] == [False, True]
        assert heard[0].message == last and '"op-dbus"' in heard[0].content

        async def awaited(chunk: Chunk) -> None:
            heard.append(chunk)

        await client.execute_stream(key, "memory", "bulk_recall", {"keys": [key]}, awaited)
        assert len(heard) == 4
        await client.end_session(key)
        assert client.metrics.active_sessions == 0
        with pytest.raises(NotFound):
            await client.end_session(key)


async def test_a_build_without_its_agent_is_no_success(settings: Settings) -> None:
    async with GrpcAgentClient(settings) as client:
        agents = [agent["id"] for agent in await client.client.list_agents()]
        assert "rust_pro" not in agents, "this test is to build something now"
        await client.start_session("build", "op-chat")
        with pytest.raises((UnknownAgent, Conflict)):
            await client.cargo_build("build", ".", release=True)
        await client.end_session("build")


def test_what_a_program_prints_is_a_chunk() -> None:
    printed = {"chunk": {"stream": "STREAM_STDERR", "offset": "3", "data": "ZXJyb3IK"}}
    chunk = Chunk.of(printed)
    assert (chunk.content, chunk.stream_type) == ("error\n", "stderr")
    assert Chunk.of({"command": {}}).stream_type == "result"
