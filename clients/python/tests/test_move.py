"""The whole move under steady load: every stage, a reload for each, and a daemon that is killed in between."""

import asyncio
from collections import Counter

from service import Service

from op_dbus import AgentClient, Failed, Unreachable, Way

STAGES = ("dbus", "shadow", "canary", "grpc", "final")


async def test_nothing_is_counted_twice_and_nothing_is_lost(service: Service) -> None:
    outcomes: Counter[str] = Counter()
    is_over = asyncio.Event()

    async def count(client: AgentClient) -> None:
        while not is_over.is_set():
            try:
                await client.call("memory", "Increment", {"key": "n"})
                outcomes["counted"] += 1
            except Unreachable:
                outcomes["not counted"] += 1
            except Failed as error:
                assert error.lost, error
                outcomes["nobody knows"] += 1
            await asyncio.sleep(0.01)

    async with AgentClient(service.settings, mint_request_ids=True, max_retries=10) as client:
        counting = [asyncio.create_task(count(client)) for _ in range(3)]
        for stage in STAGES:
            service.configure(f'[migration]\nstage = "{stage}"\n')
            service.reload()
            while not client.stages or client.stages.routes[0].stage != STAGES.index(stage) + 1:
                await asyncio.sleep(0.02)
            if stage == "canary":
                service.kill()
                await asyncio.to_thread(service.start)
            before = outcomes["counted"]
            while outcomes["counted"] < before + 20:
                assert not any(one.done() for one in counting), counting
                await asyncio.sleep(0.02)
        is_over.set()
        await asyncio.gather(*counting)
        value = int((await client.call("memory", "Recall", {"key": "n"}))["value"])
        assert outcomes["counted"] <= value <= outcomes["counted"] + outcomes["nobody knows"]
        # At most those that were under way when the daemon was killed.
        assert outcomes["nobody knows"] <= len(counting), outcomes
        ways = client.metrics.operation("memory", "Increment").ways
        assert ways[Way.DBUS].requests >= 20 and ways[Way.GRPC].requests >= 40
