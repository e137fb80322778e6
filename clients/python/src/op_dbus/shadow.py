"""Makes some calls that D-Bus has answered over gRPC as well, and over D-Bus a second time, and compares.

The caller has his answer already and waits for none of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import Message

from op_dbus.call import Call, from_json
from op_dbus.compare import Compared, Place, Volatile, differences
from op_dbus.contract import Operation
from op_dbus.errors import Error
from op_dbus.metrics import AgentMetrics
from op_dbus.options import CallOptions, Way
from op_dbus.proto.opdbus.v1 import migration_pb2
from op_dbus.retry import Again, Verdict

#: After each comparison there is none for so many times as long as it took: comparisons take at most a
#: small part of the time of this process and of the service.
REST_FACTOR = 30

#: The longest time without a comparison, in seconds.
LONGEST_REST = 1.0

#: The most operations whose volatile fields and samples are kept. Any others are not compared.
MAX_OPERATIONS = 1000

#: The most samples of one operation, as many as one report may bear.
MAX_SAMPLES = 8

#: The longest name of a place that is told; of a longer one its begin.
_MAX_FIELD = 256

#: Makes a call over one way, once, without counting it.
Reach = Callable[[Way, Call[Any], CallOptions], Awaitable[Any]]


class Samples:
    """Some of the differences that comparisons found, until the service is told them."""

    def __init__(self) -> None:
        self._samples: dict[str, dict[str, migration_pb2.Difference]] = {}

    def add(self, operation: str, places: list[Place]) -> None:
        """Keeps some of the places at which one call of an operation, as `memory.Recall`, differed."""
        if not places or (operation not in self._samples and len(self._samples) >= MAX_OPERATIONS):
            return
        kept = self._samples.setdefault(operation, {})
        for place in places:
            field = place.field[:_MAX_FIELD]
            if field not in kept and len(kept) < MAX_SAMPLES:
                kept[field] = migration_pb2.Difference(
                    field=field, dbus=place.one, grpc=place.other
                )
                kept[field].seen.GetCurrentTime()

    def take(self, operation: str) -> list[migration_pb2.Difference]:
        """Takes those of one operation."""
        return list(self._samples.pop(operation, {}).values())


class Shadow:
    """Compares ways in the background, one call at a time."""

    def __init__(self, reach: Reach, metrics: AgentMetrics, samples: Samples) -> None:
        self._reach = reach
        self._metrics = metrics
        self._samples = samples
        self._volatile: dict[str, Volatile] = {}
        self._running: asyncio.Task[None] | None = None

    def offer(self, way: Way, call: Call[Any], options: CallOptions, first: Any) -> None:
        """Compares a call without side effects, whose answer or error over `way` was `first`, unless
        another is being compared or was just now.
        """
        operation = call.operation
        busy = self._running is not None and not self._running.done()
        known = operation.label in self._volatile or len(self._volatile) < MAX_OPERATIONS
        if busy or not known or operation.response is None:
            self._metrics.operation(operation.agent, operation.name).skipped += 1
            return
        self._running = asyncio.create_task(self._run(way, call, options, first))

    async def close(self) -> None:
        """Ends the comparison that is under way."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self, way: Way, call: Call[Any], options: CallOptions, first: Any) -> None:
        started = time.monotonic()
        await self._compare(way, call, options.having(request_id=None), first)
        took = time.monotonic() - started
        await asyncio.sleep(min(took * REST_FACTOR, LONGEST_REST))

    async def _compare(self, way: Way, call: Call[Any], options: CallOptions, first: Any) -> None:
        """gRPC comes between both answers over D-Bus, so that what changes meanwhile differs in those."""
        operation = call.operation
        figures = self._metrics.operation(operation.agent, operation.name)
        over_grpc = await self._make(Way.GRPC, call, options)
        again = await self._make(way, call, options)
        if any(_says_nothing(answer) for answer in (first, over_grpc, again)):
            figures.skipped += 1
            return
        answers = [_message(operation, answer) for answer in (first, over_grpc, again)]
        volatile = self._volatile.setdefault(operation.label, Volatile())
        volatile.learn(differences(answers[0], answers[2]))
        found = differences(answers[0], answers[1])
        found = [place for place in found if not volatile.holds(place)]
        figures.compared += 1
        figures.differed += bool(found)
        self._samples.add(operation.label, found)

    async def _make(self, way: Way, call: Call[Any], options: CallOptions) -> Any:
        """The answer over a way, or the error."""
        started = time.monotonic()
        problem: Error | None = None
        answer = None
        try:
            answer = await self._reach(way, call, options)
        except Error as error:
            problem = error
        figures = self._metrics.operation(call.operation.agent, call.operation.name)
        figures.request(way, time.monotonic() - started, problem)
        return problem or answer


def _says_nothing(answer: Any) -> bool:
    """True for an answer that says nothing of the way: nothing was reached, or it was too busy."""
    if not isinstance(answer, Error):
        return False
    verdict = Verdict.on(answer)
    return verdict.is_ways or verdict.again in (Again.ANY_WAY, Again.WHEN_TOLD)


def _message(operation: Operation, answer: Any) -> Compared:
    """An answer as a message, so that what is secret in it is known."""
    if isinstance(answer, (Error, Message)) or operation.response is None:
        return answer  # type: ignore[no-any-return]
    try:
        return from_json(answer, operation.response)
    except Error as error:
        return error
