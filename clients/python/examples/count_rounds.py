"""Counts rounds in the memory agent, whichever way the rollout has the calls take, until it is interrupted.

    OP_DBUS_CLIENT_NAME=counter python count_rounds.py [KEY]

Start it, and move it from one stage to the next beside it, with a rule for `names = ["counter"]` in
`[migration]`:

    op-dbusctl migration advance RULE

It needs no restart and loses no count. Each round has a name of its own (its request id), so that a call
whose answer was lost is made again without counting twice.
"""

import asyncio
import contextlib
import signal
import sys

from op_dbus import AgentClient, CallOptions, Failed, Unreachable, new_request_id
from op_dbus.agents.memory import IncrementRequest, MemoryClient
from op_dbus.agents.migration import Stage


def stage_of(client: AgentClient) -> str:
    """The stage of most calls, for people."""
    if client.stages is None or not client.stages.routes:
        return "no stage is known"
    return Stage.Name(client.stages.routes[-1].stage).removeprefix("STAGE_").lower()


def requests(client: AgentClient) -> dict[str, int]:
    """How many requests each way has taken."""
    ways = client.metrics.operation("memory", "Increment").ways
    return {way.value: figures.requests for way, figures in ways.items()}


async def count(key: str, every: float = 1.0) -> None:
    """Counts for ever."""
    async with AgentClient() as client:
        memory = MemoryClient(client)
        while True:
            options = CallOptions(timeout=5, request_id=new_request_id())
            try:
                answer = await memory.increment(IncrementRequest(key=key), options)
                said = f"round {answer.value}"
            except (Failed, Unreachable) as problem:
                said = f"a round was lost: {problem}"
            print(f"{stage_of(client)}: {said}; requests so far: {requests(client)}", flush=True)
            await asyncio.sleep(every)


async def main() -> None:
    """Counts until it is interrupted or told to end."""
    counting = asyncio.create_task(count(sys.argv[1] if len(sys.argv) > 1 else "rounds"))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, counting.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await counting


asyncio.run(main())
