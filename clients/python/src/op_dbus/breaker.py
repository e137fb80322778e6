"""One way's circuit breaker: after several failures in a row the way is left alone, then tried by one call."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import IntEnum

from op_dbus.errors import Attempt

#: The failures in a row, with no success between, after which a way is left alone.
BREAKER_FAILURES = 5

#: How many seconds it is left alone at first. Each time that the call which then tries it fails, it is
#: twice as long.
BREAKER_FIRST_REST = 0.5

#: The longest that it is left alone, in seconds.
BREAKER_LONGEST_REST = 15.0


class BreakerState(IntEnum):
    """How a way's breaker stands, as the metrics number it."""

    #: Calls take the way.
    CLOSED = 0
    #: One call tries it; the others do not take it.
    HALF_OPEN = 1
    #: No call takes it.
    OPEN = 2


class Permit:
    """That a call may take the way. Given back without a word it says nothing for or against the way."""

    def __init__(self, breaker: Breaker, tries: bool) -> None:
        self._breaker = breaker
        self._tries = tries

    @property
    def tries(self) -> bool:
        """True for the call that tries a way which was left alone."""
        return self._tries

    def worked(self) -> None:
        """The way gave an answer, whatever the answer was."""
        # A call that began before the way was left alone says nothing of how the way is now.
        if self._tries or self._breaker.until is None:
            self._breaker.close()
        self._tries = False

    def failed(self, how: tuple[Attempt, ...]) -> None:
        """The way failed, so."""
        self._breaker.last = how
        self._breaker.count_failure(self._tries)
        self._tries = False

    def give_back(self) -> None:
        """The call was given up; the next one tries the way instead."""
        if self._tries:
            self._breaker.is_tried = False
            self._tries = False


class Breaker:
    """A way's breaker. `clock` gives seconds that only grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._rest = BREAKER_FIRST_REST
        #: Until when it is left alone; None while calls take it.
        self.until: float | None = None
        #: How it failed the last time; empty if it never did.
        self.last: tuple[Attempt, ...] = ()
        #: True while one call tries it.
        self.is_tried = False

    def admit(self) -> Permit | None:
        """Lets a call take the way; None while it is left alone."""
        if self.until is None:
            return Permit(self, tries=False)
        if self.is_tried or self._clock() < self.until:
            return None
        self.is_tried = True
        return Permit(self, tries=True)

    @property
    def state(self) -> BreakerState:
        """How it stands."""
        if self.until is None:
            return BreakerState.CLOSED
        if self.is_tried or self.until <= self._clock():
            return BreakerState.HALF_OPEN
        return BreakerState.OPEN

    def close(self) -> None:
        """Calls take the way again."""
        self._failures, self._rest = 0, BREAKER_FIRST_REST
        self.until, self.is_tried = None, False

    def count_failure(self, tried: bool) -> None:
        """A call over the way failed; `tried` if it was the one that tried it."""
        if self.until is None:
            self._failures += 1
            if self._failures < BREAKER_FAILURES:
                return
        elif tried:
            self._rest = min(self._rest * 2, BREAKER_LONGEST_REST)
        else:
            return
        self.until, self.is_tried = self._clock() + self._rest, False
