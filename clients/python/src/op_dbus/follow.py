"""Keeps the stages of the rollout up to date, and tells the service what the client saw."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

from op_dbus import contract, routes
from op_dbus.call import Call, Connection
from op_dbus.contract import Operation
from op_dbus.errors import Error, Unreachable
from op_dbus.options import CallOptions, Way
from op_dbus.proto.opdbus.v1 import migration_pb2 as pb
from op_dbus.reports import Reports
from op_dbus.retry import Again, Verdict
from op_dbus.routes import Plan, Routes
from op_dbus.settings import Settings

#: How long until the stages are asked for again where they cannot be watched, in seconds: so short that a
#: change holds within a second.
ASK_EVERY = 0.8

#: The same where the service does not know them.
UNKNOWN_EVERY = 30.0

#: How long the first call waits to be told the stages, in seconds. Until they are known, calls go as
#: without knowledge.
PATIENCE = 1.0

#: How often the service is told what only the client sees, in seconds.
REPORT_EVERY = 5.0

#: How long at most until it is told after gRPC lost a call, and for how long at least half of that other
#: losses are waited for, in seconds: by these the service knows of a canary that it has to take back.
REPORT_LOSS_WITHIN = 1.0

#: How long an own call of the client may take, in seconds.
_OWN_CALL = 5.0


def _operation(name: str) -> Operation:
    operation = contract.known("migration", name)
    if operation is None:
        raise RuntimeError(f"the contract of this package lacks migration.{name}")
    return operation


class Follower:
    """Knows the stages. It asks by gRPC, where it hears of each change, or else over D-Bus."""

    def __init__(
        self, settings: Settings, ways: dict[Way, Connection], reports: Reports
    ) -> None:
        self._settings = settings
        self._ways = ways
        self._reports = reports
        self._client_name = settings.client_name or ""
        self._file = settings.routes_file
        self._routes = routes.read_kept(self._file) if self._file else None
        self._first = asyncio.Event()
        self._loss = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def stages(self) -> pb.GetRoutesResponse | None:
        """The stages as the service last told them; None if it never did."""
        return self._routes.told if self._routes else None

    async def plan(self, call: Call[Any], options: CallOptions) -> Plan:
        """The way of a call. The first one waits until the service has been asked for the stages."""
        settings = self._settings
        if settings.via is not None:
            return Plan(settings.via)
        if not self._tasks:
            following = self._follow(), self._report()
            self._tasks = [asyncio.create_task(task) for task in following]
        if not self._first.is_set() and self._routes is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._first.wait()
        plan = self._routes and self._routes.plan(call.operation, options.session, settings.old)
        # Without any knowledge over D-Bus, falling back on gRPC where D-Bus is not there.
        return plan or Plan(settings.old, fallback=Way.GRPC)

    def lost(self) -> None:
        """Has the service told soon that gRPC lost a call."""
        self._loss.set()

    async def close(self) -> None:
        """Stops following, and tells what was not told."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks:
            with contextlib.suppress(Error):
                await self._tell()

    async def _follow(self) -> None:
        while True:
            rest = ASK_EVERY
            try:
                await self._watch()
            except Error:
                try:
                    await self._ask()
                except Error as problem:
                    # A service that does not know stages, or none, changes nothing of what is known.
                    if Verdict.on(problem).again in (Again.OTHER_WAY, Again.SAME):
                        rest = UNKNOWN_EVERY
            self._first.set()
            await asyncio.sleep(rest)

    async def _watch(self) -> None:
        """Takes in each change over gRPC until the stream ends."""
        version = self._routes.told.version if self._routes else ""
        request = pb.WatchRoutesRequest(name=self._client_name, version=version)
        call = Call(_operation("WatchRoutes"), request, pb.WatchRoutesResponse)
        changes = self._ways[Way.GRPC].stream(call, CallOptions())
        async with contextlib.aclosing(changes):
            async for change in changes:
                self._take(change.routes)

    async def _ask(self) -> None:
        """Asks once over D-Bus; the older interface does not tell stages."""
        request = pb.GetRoutesRequest(name=self._client_name)
        call = Call(_operation("GetRoutes"), request, pb.GetRoutesResponse)
        self._take(await self._ways[Way.DBUS].unary(call, CallOptions(timeout=_OWN_CALL)))

    def _take(self, told: pb.GetRoutesResponse) -> None:
        self._first.set()
        if self._routes is not None and self._routes.told == told:
            return
        self._routes = Routes(told)
        if self._file is not None:
            routes.keep(self._file, self._routes)

    async def _report(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._loss.wait(), REPORT_EVERY)
                # What breaks, breaks for many clients at once; they do not report in one moment.
                await asyncio.sleep(REPORT_LOSS_WITHIN * random.uniform(0.5, 1))
            self._loss.clear()
            with contextlib.suppress(Error):
                await self._tell()

    async def _tell(self) -> None:
        """Tells what happened since the last report, over the first way on which the service is reached.

        What gRPC lost is told over D-Bus first: the report would be lost as the calls were.
        """
        # Without stages there is nobody to tell.
        report = self._reports.next(self._client_name) if self._routes else None
        if report is None:
            return
        call = Call(_operation("ReportCalls"), report, pb.ReportCallsResponse)
        ways = (Way.GRPC, Way.DBUS)
        if any(lost.way == pb.WAY_GRPC for lost in report.lost):
            ways = (Way.DBUS, Way.GRPC)
        for way in ways:
            with contextlib.suppress(Unreachable):
                await self._ways[way].unary(call, CallOptions(timeout=_OWN_CALL))
                return
        self._reports.keep(report)
