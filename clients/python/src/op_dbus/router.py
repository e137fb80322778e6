"""Takes each call over the way that its stage says, tries again and falls back where that is safe."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

from op_dbus import same_service
from op_dbus.breaker import BREAKER_FAILURES, Breaker
from op_dbus.call import Call, Connection
from op_dbus.errors import Attempt, Error, Failed, Unreachable
from op_dbus.follow import Follower
from op_dbus.metrics import AgentMetrics
from op_dbus.options import CallOptions, Way, new_request_id
from op_dbus.proto.opdbus.v1 import migration_pb2
from op_dbus.reports import Reports
from op_dbus.retry import Again, Budget, Verdict, pause
from op_dbus.routes import Plan
from op_dbus.same_service import SameService
from op_dbus.settings import Settings
from op_dbus.shadow import Samples, Shadow

T = TypeVar("T")

#: The longest that the service may ask a client to wait before a call is tried again, in seconds; if it asks
#: for more, the call fails with that.
LONGEST_TOLD = 30.0

#: The most attempts that an error tells of.
MAX_TOLD_ATTEMPTS = 8


class Router:
    """Carries calls over several ways."""

    def __init__(self, ways: dict[Way, Connection], settings: Settings) -> None:
        self._ways = ways
        self._settings = settings
        self._service = SameService()
        self._budget = Budget()
        self._breakers = {way: Breaker() for way in ways}
        self.metrics = AgentMetrics(self._breakers)
        self.samples = Samples()
        self.shadow = Shadow(self._reach, self.metrics, self.samples)
        self._follower = Follower(settings, ways, Reports(self.metrics, self.samples))

    async def unary(self, call: Call[T], options: CallOptions) -> T:
        """Makes a call with one request and one answer."""
        options = self._completed(call, options)
        options = options.having(timeout=options.timeout or self._settings.request_timeout)
        plan = await self._follower.plan(call, options)

        async def once(way: Way, left: CallOptions) -> T:
            return await self._ways[way].unary(call, left)

        try:
            answer = await self._tried(plan, call, options, once)
        except Error as error:
            if plan.shadow:
                self.shadow.offer(plan.way, call, options, error)
            raise
        if plan.shadow:
            self.shadow.offer(plan.way, call, options, answer)
        return answer

    async def stream(self, call: Call[T], options: CallOptions) -> AsyncGenerator[T]:
        """Makes a call with one request and many answers. It is tried again until the first has come."""
        options = self._completed(call, options)
        plan = await self._follower.plan(call, options)
        figures = self.metrics.operation(call.operation.agent, call.operation.name)
        taken = plan.way

        async def once(way: Way, left: CallOptions) -> tuple[Any, list[T]]:
            nonlocal taken
            taken = way
            messages = self._ways[way].stream(call, left)
            try:
                return messages, [await anext(messages)]
            except StopAsyncIteration:
                return messages, []

        messages, first = await self._tried(plan, call, options, once)
        async with contextlib.aclosing(messages):
            for message in first:
                figures.way(taken).streaming_chunks += 1
                yield message
            async for message in messages:
                figures.way(taken).streaming_chunks += 1
                yield message

    async def exchange(
        self, call: Call[T], requests: Any, options: CallOptions
    ) -> AsyncGenerator[T]:
        """Makes a call with many requests. They can be sent once, so that it is not tried again."""
        options = self._completed(call, options)
        plan = await self._follower.plan(call, options)
        figures = self.metrics.operation(call.operation.agent, call.operation.name)
        started = time.monotonic()
        problem: Error | None = None
        try:
            way = self._ways[plan.way].exchange(call, requests, options)
            async with contextlib.aclosing(way) as messages:
                async for message in messages:
                    figures.way(plan.way).streaming_chunks += call.operation.gives_stream
                    yield message
        except Error as error:
            problem = error
            raise
        finally:
            figures.request(plan.way, time.monotonic() - started, problem)

    async def close(self) -> None:
        """Tells the service what is still to be told, and gives up all connections and what runs on them."""
        await self.shadow.close()
        await self._follower.close()
        await asyncio.gather(*(way.close() for way in self._ways.values()))

    @property
    def stages(self) -> migration_pb2.GetRoutesResponse | None:
        """The stages as the service last told them; None if it never did."""
        return self._follower.stages

    def _completed(self, call: Call[Any], options: CallOptions) -> CallOptions:
        """The options with what the settings say for every call."""
        if options.session is None and self._settings.session is not None:
            options = options.having(session=self._settings.session)
        needs_id = not call.operation.is_idempotent and options.request_id is None
        if needs_id and self._settings.mint_request_ids:
            options = options.having(request_id=new_request_id())
        return options

    async def _reach(self, way: Way, call: Call[Any], options: CallOptions) -> Any:
        return await self._ways[way].unary(call, options)

    async def _tried(
        self,
        plan: Plan,
        call: Call[Any],
        options: CallOptions,
        once: Callable[[Way, CallOptions], Awaitable[T]],
    ) -> T:
        """Makes a call as often as that is safe and makes sense."""
        figures = self.metrics.operation(call.operation.agent, call.operation.name)
        self._budget.call()
        until = None if options.timeout is None else time.monotonic() + options.timeout
        way, retries, fell_back = plan.way, 0, False
        attempts: tuple[Attempt, ...] = ()
        needs_id = not call.operation.is_idempotent and options.request_id is not None
        asked = [self._ways[one] for one in (plan.way, plan.fallback) if one is not None]
        first = await self._service.process(asked) if needs_id else None
        may_have_effect = False
        while True:
            if needs_id and may_have_effect:
                # Only the process that the call was sent to knows its request id.
                await same_service.check(first, self._ways[way])
            try:
                return await self._once(way, call, _left(options, until), once)
            except Error as error:
                problem: Error = error
            if isinstance(problem, Unreachable):
                attempts = tuple(dict.fromkeys(attempts + problem.attempts))
                problem = Unreachable(attempts[-MAX_TOLD_ATTEMPTS:])
            verdict = Verdict.on(problem)
            if verdict.is_ways:
                self._service.forget()
                if way is Way.GRPC:
                    self._follower.lost()
            may_have_effect = may_have_effect or verdict.may_have_effect
            if not verdict.is_safe(call.operation, options.request_id is not None):
                raise _explained(problem, verdict)
            other = self._other(way, None if fell_back else plan.fallback, verdict)
            if other is not None:
                figures.fallbacks[way] += 1
                way, fell_back = other, True
                continue
            wait = self._pause(retries, verdict, problem, until)
            if wait is None:
                raise problem
            await asyncio.sleep(wait)
            retries += 1
            way, fell_back = plan.way, False
            figures.way(way).retries += 1

    def _pause(
        self, retries: int, verdict: Verdict, problem: Error, until: float | None
    ) -> float | None:
        """Seconds until the call is tried again; None if it is not."""
        told = problem.retry_after if isinstance(problem, Failed) else None
        may_help = verdict.again is Again.ANY_WAY or (
            verdict.again is Again.WHEN_TOLD and told is not None
        )
        if not may_help or retries >= self._settings.max_retries:
            return None
        wait = max(pause(retries), told or 0)
        is_in_time = until is None or time.monotonic() + wait < until
        return wait if wait <= LONGEST_TOLD and is_in_time and self._budget.take() else None

    def _other(self, way: Way, fallback: Way | None, verdict: Verdict) -> Way | None:
        """The way to fall back on; None: there is none that would help."""
        if verdict.again is Again.OVER_GRPC:
            # Where one way is set, no other is taken.
            return Way.GRPC if self._settings.via is None and way is not Way.GRPC else None
        helps = verdict.again is Again.OTHER_WAY or (
            verdict.again is Again.ANY_WAY and verdict.is_ways
        )
        return fallback if helps and fallback is not way else None

    async def _once(
        self,
        way: Way,
        call: Call[Any],
        options: CallOptions,
        once: Callable[[Way, CallOptions], Awaitable[T]],
    ) -> T:
        """Makes a call over one way, unless that is left alone, and counts it."""
        breaker = self._breakers[way]
        permit = breaker.admit()
        figures = self.metrics.operation(call.operation.agent, call.operation.name)
        if permit is None:
            figures.way(way).kept_back += 1
            problem = (
                f"{BREAKER_FAILURES} calls in a row got no answer that way, the last for the reason "
                "above, so that it is left alone for a moment"
            )
            raise Unreachable((*breaker.last, Attempt(self._ways[way].target, problem)))
        started = time.monotonic()
        try:
            answer = await once(way, options)
        except Error as error:
            figures.request(way, time.monotonic() - started, error)
            failed = Verdict.on(error).is_ways
            if permit.tries:
                self.metrics.tried(way, failed)
            if failed:
                permit.failed(_attempts(self._ways[way].target, error))
            else:
                permit.worked()
            raise
        except BaseException:
            permit.give_back()
            raise
        if permit.tries:
            self.metrics.tried(way, failed=False)
        permit.worked()
        figures.request(way, time.monotonic() - started, None)
        return answer


def _attempts(target: str, error: Error) -> tuple[Attempt, ...]:
    """What a try of a way that failed met."""
    if isinstance(error, Unreachable):
        return error.attempts
    return (Attempt(target, str(error)),)


def _left(options: CallOptions, until: float | None) -> CallOptions:
    """The options with the time that is left."""
    if until is None:
        return options
    return options.having(timeout=max(until - time.monotonic(), 0.001))


def _explained(error: Error, verdict: Verdict) -> Error:
    """The error, with why the call was not tried again."""
    if isinstance(error, Failed) and verdict.again is Again.ANY_WAY:
        error.message += (
            "; it was not tried again, since it could act a second time: a call with a request id is"
        )
        error.args = (error.message,)
    return error
