"""A Python program under steady load: it counts in the memory agent and reads what it counted.

    count.py FROM TO

It takes a name by which it has a place from FROM to TO among the 10,000 that go over to gRPC. Each line says
how far it is, until a signal ends it: `is NAME PLACE`, then `at STEPS COUNTED UNKNOWN LOST`.
"""

import asyncio
import hashlib
import itertools
import signal
import sys

from op_dbus import AgentClient, CallOptions, Failed, Way


async def place_of(name: str) -> int:
    """Where a client of that name stands among 10,000, as it is told over gRPC."""
    async with AgentClient(via="grpc") as client:
        routes = await client.call("migration", "GetRoutes", {"name": name})
    text = f"{routes['routes'][0]['salt']}\0{routes['client']}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 10_000


async def main(places: range) -> None:
    for number in itertools.count():
        name = f"python-{number}"
        # Over D-Bus it would be another: the service takes the proxy for the program.
        if (place := await place_of(name)) in places:
            break
    print("is", name, place, flush=True)
    is_over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, is_over.set)
    steps = counted = unknown = 0
    async with AgentClient(client_name=name) as client:
        while not is_over.is_set():
            steps += 1
            options = CallOptions(request_id=f"{name}-{steps}")
            try:
                sum_ = await client.call("memory", "Increment", {"key": name}, options)
                counted += 1
                assert counted <= int(sum_["value"]) <= counted + unknown, (sum_, counted, unknown)
            except Failed as error:
                assert error.lost, error
                unknown += 1
            value = int((await client.call("memory", "Recall", {"key": name}))["value"])
            assert counted <= value <= counted + unknown, (value, counted, unknown)
            ways = [
                figures.ways[Way.GRPC]
                for operation, figures in client.metrics.operations()
                if operation.startswith("memory.") and Way.GRPC in figures.ways
            ]
            lost = sum(it.errors["LOST"] + it.errors["UNREACHABLE"] + it.forgone for it in ways)
            print("at", steps, counted, unknown, lost, flush=True)
            await asyncio.sleep(0.005)


asyncio.run(main(range(int(sys.argv[1]), int(sys.argv[2]))))
