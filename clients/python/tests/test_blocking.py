"""The client without an event loop, and from several threads."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from op_dbus import CallOptions, NotFound, Settings
from op_dbus.agents import memory
from op_dbus.blocking import AgentClient


def test_calls_streams_and_sessions(over: Settings, key: str) -> None:
    with AgentClient(over) as client:
        client.ping(b"x")
        assert "memory" in [agent["id"] for agent in client.list_agents()]
        client.call("memory", "Remember", {"key": key, "value": "x"})
        agent = memory.BlockingMemoryClient(client)
        assert agent.recall(memory.RecallRequest(key=key)).value.string_value == "x"
        with pytest.raises(NotFound):
            client.call("memory", "Recall", {"key": f"{key}-none"})

        def requests():
            for number in range(100):
                request = memory.BulkRememberRequest()
                request.remember.key = f"{key}-{number}"
                request.remember.value.number_value = number
                yield request

        assert agent.bulk_remember(requests()).remembered == 100
        found = agent.bulk_recall(memory.BulkRecallRequest(keys=[f"{key}-7"]))
        assert [item.entry.value.number_value for answer in found for item in answer.items] == [7]
        for message in client.stream("memory", "Watch", {"key": key, "current": True}):
            assert message["key"] == key
            break
        with client.start_session("tests") as session:
            assert session.call("agents", "Ping", {"payload": "eA=="}) == {"payload": "eA=="}


def test_threads_share_a_client(settings: Settings, key: str) -> None:
    with AgentClient(settings, via="grpc") as client, ThreadPoolExecutor(8) as pool:
        options = CallOptions(timeout=20)
        done = pool.map(
            lambda _: client.call("memory", "Increment", {"key": key}, options), range(200)
        )
        assert sorted(int(one["value"]) for one in done) == list(range(1, 201))
