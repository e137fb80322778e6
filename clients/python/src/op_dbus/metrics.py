"""What a client counts of its own calls, and how that is written down for Prometheus."""

from __future__ import annotations

import bisect
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from op_dbus.breaker import Breaker
from op_dbus.errors import Error, Failed, Unreachable
from op_dbus.options import Way

#: The most operations that are counted apart; the calls of any others are counted together, as operation
#: `other` of agent `other`.
MAX_OPERATIONS = 1000

#: The upper bounds of the classes of `request_duration_seconds`; there is one more without a bound.
BOUNDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 5.0, 30.0),
)

_OTHER = ("other", "other")
_PREFIX = "opdbus_client_"


def reason_of(error: Error) -> str:
    """The reason of `errors_total`: one of the service's, `UNREACHABLE` or `LOST`."""
    if isinstance(error, Failed):
        return "LOST" if error.lost else error.kind.value
    return "UNREACHABLE" if isinstance(error, Unreachable) else "INTERNAL"


@dataclass(slots=True)
class RequestMetrics:
    """The figures of one operation over one way."""

    requests: int = 0
    retries: int = 0
    #: Requests that the breaker kept back, and of which the next one that is tried says whether they would
    #: have failed.
    kept_back: int = 0
    #: Those that would have.
    forgone: int = 0
    streaming_chunks: int = 0
    #: The time of all requests together, in seconds.
    duration: float = 0.0
    #: How many requests fall into each class of :data:`BOUNDS`.
    classes: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    errors: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class OperationMetrics:
    """The figures of one operation."""

    ways: dict[Way, RequestMetrics] = field(default_factory=dict)
    #: How often calls fell back from a way on another.
    fallbacks: Counter[Way] = field(default_factory=Counter)
    compared: int = 0
    differed: int = 0
    #: Calls that were not compared, since too many comparisons were under way.
    skipped: int = 0

    def way(self, way: Way) -> RequestMetrics:
        """The figures over one way."""
        return self.ways.setdefault(way, RequestMetrics())

    def request(self, way: Way, seconds: float, error: Error | None) -> None:
        """A request went over `way` and this came of it after so many seconds."""
        figures = self.way(way)
        figures.requests += 1
        figures.duration += seconds
        figures.classes[bisect.bisect_left(BOUNDS, seconds)] += 1
        if error is not None:
            figures.errors[reason_of(error)] += 1


class AgentMetrics:
    """What a client counts: requests are those that went over a way, so that a call which is tried again
    counts as two. It is written on one thread and may be rendered on any.
    """

    def __init__(self, breakers: dict[Way, Breaker] | None = None) -> None:
        self._lock = threading.Lock()
        self._breakers = breakers or {}
        self._operations: dict[tuple[str, str], OperationMetrics] = {}
        #: The sessions that the client has begun and not ended.
        self.active_sessions = 0

    def operation(self, agent: str, operation: str) -> OperationMetrics:
        """The figures of an operation."""
        key = (agent, operation)
        figures = self._operations.get(key)
        if figures is None:
            with self._lock:
                key = key if len(self._operations) < MAX_OPERATIONS else _OTHER
                figures = self._operations.setdefault(key, OperationMetrics())
        return figures

    def tried(self, way: Way, failed: bool) -> None:
        """A request over `way` has shown whether those that were kept back before it would have failed."""
        for _, figures in self.operations():
            if one := figures.ways.get(way):
                one.forgone += one.kept_back if failed else 0
                one.kept_back = 0

    def operations(self) -> list[tuple[str, OperationMetrics]]:
        """The figures of each operation, by its name as `memory.Recall`."""
        with self._lock:
            return [(".".join(key), figures) for key, figures in self._operations.items()]

    def requests_total(self, agent: str, operation: str, way: Way) -> int:
        """How many requests of an operation went over a way."""
        figures = self._operations.get((agent, operation))
        return figures.ways[way].requests if figures and way in figures.ways else 0

    def render(self) -> str:
        """The figures in Prometheus' text format."""
        with self._lock:
            operations = sorted(self._operations.items())
        lines: list[str] = []

        def family(name: str, kind: str, help_: str) -> None:
            lines.append(f"# HELP {_PREFIX}{name} {help_}\n# TYPE {_PREFIX}{name} {kind}")

        def ways(name: str, help_: str, value: Callable[[RequestMetrics], int]) -> None:
            family(name, "counter", help_)
            for labels, figures in _ways(operations):
                lines.append(f"{_PREFIX}{name}{{{labels}}} {value(figures)}")

        ways("requests_total", "Requests over a way, retries included.", lambda way: way.requests)
        family("request_duration_seconds", "histogram", "The time of requests over a way.")
        for labels, figures in _ways(operations):
            lines.extend(_histogram(labels, figures))
        family("active_sessions", "gauge", "Sessions begun and not ended.")
        lines.append(f"{_PREFIX}active_sessions {self.active_sessions}")
        ways(
            "streaming_chunks_total",
            "Messages of streams that came.",
            lambda way: way.streaming_chunks,
        )
        family("errors_total", "counter", "Requests that failed, by reason.")
        for labels, figures in _ways(operations):
            for reason, count in sorted(figures.errors.items()):
                lines.append(f'{_PREFIX}errors_total{{{labels},reason="{reason}"}} {count}')
        ways("retries_total", "Requests sent again after one that failed.", lambda way: way.retries)
        ways(
            "forgone_total", "Requests kept back that would have failed.", lambda way: way.forgone
        )
        family("fallbacks_total", "counter", "Calls that fell back from this way on another.")
        for key, operation in operations:
            for way, count in sorted(operation.fallbacks.items()):
                lines.append(f"{_PREFIX}fallbacks_total{{{_labels(key, way)}}} {count}")
        family("breaker_state", "gauge", "0: calls take the way; 1: one tries it; 2: none does.")
        for way, breaker in self._breakers.items():
            lines.append(f'{_PREFIX}breaker_state{{way="{way}"}} {int(breaker.state)}')
        for what, help_ in _SHADOW.items():
            family(f"shadow_{what}_total", "counter", help_)
            for key, operation in operations:
                if operation.compared + operation.skipped > 0:
                    count = getattr(operation, what)
                    lines.append(f"{_PREFIX}shadow_{what}_total{{{_labels(key)}}} {count}")
        return "\n".join(lines) + "\n"


_SHADOW = {
    "compared": "Calls compared over both ways.",
    "differed": "Compared calls that differed.",
    "skipped": "Calls not compared for want of a place.",
}

_Operations = list[tuple[tuple[str, str], OperationMetrics]]


def _ways(operations: _Operations) -> Iterator[tuple[str, RequestMetrics]]:
    for key, operation in operations:
        for way, figures in sorted(operation.ways.items()):
            yield _labels(key, way), figures


def _labels(key: tuple[str, str], way: Way | None = None) -> str:
    agent, operation = (
        text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for text in key
    )
    return f'agent="{agent}",operation="{operation}"' + (f',way="{way}"' if way else "")


def _histogram(labels: str, figures: RequestMetrics) -> Iterator[str]:
    name, count = f"{_PREFIX}request_duration_seconds", 0
    for bound, below in zip((*(f"{b:g}" for b in BOUNDS), "+Inf"), figures.classes, strict=True):
        count += below
        yield f'{name}_bucket{{{labels},le="{bound}"}} {count}'
    yield f"{name}_sum{{{labels}}} {figures.duration}"
    yield f"{name}_count{{{labels}}} {count}"
