"""When a call is tried again: what a failure says of that, after which pause, and how many may be."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum

from op_dbus.contract import Operation
from op_dbus.errors import Error, ErrorKind, Failed, Unreachable

#: The longest that the first pause can be, in seconds.
FIRST_PAUSE = 0.05

#: The longest that any pause can be, in seconds.
LONGEST_PAUSE = 10.0

#: The most retries that can be saved up, and how many there are at the start.
MAX_SAVED = 10

#: What each call that is made brings: a tenth of a retry.
_RETRY, _CALL = 1000, 100


def pause(retry: int) -> float:
    """Seconds before the retry with this number, counted from 0.

    It is anything up to twice as much as the one before could be, so that clients that failed together do
    not come back together.
    """
    return random.uniform(0, min(FIRST_PAUSE * 2 ** min(retry, 32), LONGEST_PAUSE))


class Budget:
    """The share of calls that may be retries, so that clients of a service that is down do not keep it down.

    Over any time there are no more of them than a tenth of the calls made in it and :data:`MAX_SAVED`.
    """

    def __init__(self) -> None:
        self._saved = MAX_SAVED * _RETRY

    def call(self) -> None:
        """Counts a call, retries apart."""
        self._saved = min(self._saved + _CALL, MAX_SAVED * _RETRY)

    def take(self) -> bool:
        """Takes a retry, if there is one."""
        if self._saved < _RETRY:
            return False
        self._saved -= _RETRY
        return True


class Again(Enum):
    """What may come of another try."""

    #: Another outcome, the same way or another.
    ANY_WAY = "any way"
    #: Another outcome, but only after the time that the service names.
    WHEN_TOLD = "when told"
    #: Another outcome, but only over another way.
    OTHER_WAY = "other way"
    #: Another outcome, over gRPC alone: D-Bus has nothing more to give.
    OVER_GRPC = "over grpc"
    #: The same.
    SAME = "same"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failure says."""

    again: Again
    #: False if the call was surely not carried out.
    may_have_effect: bool
    #: True if it is the way that failed, rather than the call.
    is_ways: bool

    @classmethod
    def on(cls, error: Error) -> Verdict:
        """The verdict on an error."""
        if isinstance(error, Unreachable):
            return cls(Again.ANY_WAY, may_have_effect=False, is_ways=True)
        if not isinstance(error, Failed):
            return cls(Again.SAME, may_have_effect=True, is_ways=False)
        if error.lost:
            # The time is over for every way.
            over = error.kind is ErrorKind.DEADLINE_EXCEEDED
            again = Again.SAME if over else Again.ANY_WAY
            return cls(again, may_have_effect=True, is_ways=True)
        again, may_have_effect = _SAID.get(error.kind, (Again.SAME, True))
        return cls(again, may_have_effect, is_ways=False)

    def is_safe(self, operation: Operation, has_request_id: bool) -> bool:
        """True if making the call a second time has no effect that making it once has not."""
        return not self.may_have_effect or operation.is_idempotent or has_request_id


#: What the service itself said: what may come of another try, and whether there may have been an effect.
#: Every other kind: the same, and perhaps.
_SAID = {
    ErrorKind.UNAVAILABLE: (Again.ANY_WAY, False),
    ErrorKind.BACKEND_UNAVAILABLE: (Again.ANY_WAY, False),
    # A quota or size does not go away by waiting; where waiting helps, the service says so.
    ErrorKind.LIMIT_EXCEEDED: (Again.WHEN_TOLD, False),
    ErrorKind.UNKNOWN_AGENT: (Again.OTHER_WAY, False),
    ErrorKind.UNKNOWN_OPERATION: (Again.OTHER_WAY, False),
    ErrorKind.MIGRATED: (Again.OVER_GRPC, False),
    ErrorKind.ACCESS_DENIED: (Again.SAME, False),
    ErrorKind.UNAUTHENTICATED: (Again.SAME, False),
    ErrorKind.APPROVAL_REQUIRED: (Again.SAME, False),
    ErrorKind.INVALID_ARGUMENT: (Again.SAME, False),
}
