"""Tells the service what only the client can see: calls without an answer, and what comparing found.

What happened since the last report is the difference between two states of the metrics.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from op_dbus.metrics import AgentMetrics, OperationMetrics
from op_dbus.options import Way
from op_dbus.proto.opdbus.v1 import migration_pb2 as pb
from op_dbus.shadow import Samples

#: The most operations in one report, and the most lost calls by operation and way.
MAX_ENTRIES = 1000

_TOLD_WAY = {Way.DBUS: pb.WAY_DBUS, Way.LEGACY: pb.WAY_LEGACY, Way.GRPC: pb.WAY_GRPC}


@dataclass(slots=True)
class _Told:
    """The counts of one operation that the service knows.

    Calls that were kept back from a way that gives no answers count as lost, or a way that is gone
    altogether would look better than one that loses some.
    """

    lost: Counter[Way] = field(default_factory=Counter)
    compared: int = 0
    differed: int = 0

    @classmethod
    def of(cls, figures: OperationMetrics) -> _Told:
        lost: Counter[Way] = Counter()
        for way, requests in figures.ways.items():
            lost[way] = requests.errors["LOST"] + requests.errors["UNREACHABLE"] + requests.forgone
        return cls(lost, figures.compared, figures.differed)


class Reports:
    """What was reported so far."""

    def __init__(self, metrics: AgentMetrics, samples: Samples) -> None:
        self._metrics = metrics
        self._samples = samples
        self._told: dict[str, _Told] = {}
        self._kept: pb.ReportCallsRequest | None = None

    def next(self, name: str) -> pb.ReportCallsRequest | None:
        """The next report; None if there is nothing to tell.

        It counts as told: were it told twice, the calls in it would count twice, so that one which got
        lost stays lost.
        """
        if self._kept is not None:
            kept, self._kept = self._kept, None
            return kept
        report = pb.ReportCallsRequest(name=name)
        for operation, figures in self._metrics.operations():
            now, before = _Told.of(figures), self._told.get(operation, _Told())
            if now == before:
                continue
            if max(len(report.comparisons), len(report.lost) + len(Way)) > MAX_ENTRIES:
                break
            for way, calls in (now.lost - before.lost).items():
                report.lost.add(operation=operation, way=_TOLD_WAY[way], calls=calls)
            if now.compared > before.compared:
                report.comparisons.add(
                    operation=operation,
                    compared=now.compared - before.compared,
                    differed=now.differed - before.differed,
                    samples=self._samples.take(operation),
                )
            self._told[operation] = now
        return report if report.lost or report.comparisons else None

    def keep(self, report: pb.ReportCallsRequest) -> None:
        """Has a report that certainly reached nobody be the next one."""
        self._kept = report
