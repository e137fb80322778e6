"""Tells whether the service is still the process that a call was sent to.

What it knows of request ids ends with it, so that one started since would carry a repeated call out again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from op_dbus import contract
from op_dbus.call import Call, Connection
from op_dbus.errors import Conflict, Error
from op_dbus.options import CallOptions
from op_dbus.proto.opdbus.v1 import agents_pb2

#: How long the question may take, in seconds.
_OWN_CALL = 5.0

#: By how much two readings of the same start may differ, in seconds.
_SLACK = 0.2


@dataclass(frozen=True, slots=True)
class Process:
    """Which process the service was when it was asked."""

    pid: int
    uptime: float
    asked: float

    def is_same(self, later: Process) -> bool:
        """True if `later` is the same process."""
        passed = later.asked - self.asked
        return self.pid == later.pid and later.uptime + _SLACK >= self.uptime + passed


class SameService:
    """Knows the process that the service was last known to be."""

    def __init__(self) -> None:
        self._known: Process | None = None

    async def process(self, ways: Iterable[Connection]) -> Process | None:
        """The process that calls now reach; None if the service does not tell.

        It is asked over the first of these ways that gives an answer, since one that loses a call loses
        this question too.
        """
        for way in ways:
            if self._known is None:
                self._known = await _ask(way)
        return self._known

    def forget(self) -> None:
        """A connection broke: what is behind the next one has to be asked."""
        self._known = None


async def check(first: Process | None, way: Connection) -> None:
    """Checks that a way leads to the process that the call was first sent to, right before it is made again.

    Raises :class:`Conflict`, as a lost call, if it is another one or cannot be told.
    """
    now = await _ask(way)
    if first is None or now is None or not first.is_same(now):
        raise Conflict(
            "the connection was lost before the answer came, so that the call may or may not have been"
            " carried out; it was not tried again, since the service that knew its request id has stopped"
            " or cannot be told from another",
            lost=True,
        )


async def _ask(way: Connection) -> Process | None:
    operation = contract.known("agents", "GetStatus")
    if operation is None:
        return None
    asked = time.monotonic()
    call = Call(operation, agents_pb2.GetStatusRequest(), agents_pb2.GetStatusResponse)
    try:
        status = await way.unary(call, CallOptions(timeout=_OWN_CALL))
    except Error:
        return None
    return Process(status.pid, status.uptime.ToMicroseconds() / 1e6, asked)
