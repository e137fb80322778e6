"""Retries, their budget, breakers, and what is never made twice: against a daemon that goes away."""

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest
from service import Relay, Service

from op_dbus import (
    AgentClient,
    BreakerState,
    CallOptions,
    Conflict,
    Failed,
    Unavailable,
    Unreachable,
    Way,
    contract,
    errors,
    new_request_id,
)
from op_dbus.breaker import BREAKER_FAILURES, BREAKER_FIRST_REST, BREAKER_LONGEST_REST, Breaker
from op_dbus.proto.opdbus.v1 import migration_pb2 as pb
from op_dbus.retry import FIRST_PAUSE, LONGEST_PAUSE, MAX_SAVED, Again, Budget, Verdict, pause


def test_pauses_are_spread_over_all_up_to_a_bound_that_doubles() -> None:
    for retry, most in [(0, FIRST_PAUSE), (3, 8 * FIRST_PAUSE), (90, LONGEST_PAUSE)]:
        pauses = [pause(retry) for _ in range(2000)]
        assert min(pauses) < most / 20 and most * 0.95 < max(pauses) <= most


def test_retries_are_a_tenth_of_the_calls() -> None:
    budget = Budget()
    assert [budget.take() for _ in range(MAX_SAVED + 1)] == [True] * MAX_SAVED + [False]
    for _ in range(10):
        assert not budget.take()
        budget.call()
    assert budget.take() and not budget.take()


def test_a_breaker_opens_tries_and_closes() -> None:
    now = 0.0
    breaker = Breaker(clock=lambda: now)

    def fail() -> None:
        permit = breaker.admit()
        assert permit
        permit.failed(())

    old = breaker.admit()
    for _ in range(BREAKER_FAILURES):
        assert breaker.state is BreakerState.CLOSED
        fail()
    assert (breaker.state, breaker.admit()) == (BreakerState.OPEN, None)
    now += BREAKER_FIRST_REST
    trial = breaker.admit()
    assert trial and breaker.admit() is None, "one call tries it"
    trial.give_back()
    fail()
    now += BREAKER_FIRST_REST
    assert breaker.admit() is None, "the rest is twice as long"
    for _ in range(10):
        now += BREAKER_LONGEST_REST
        fail()
    assert old
    old.worked()
    assert breaker.state is BreakerState.OPEN, "an old call says nothing of now"
    now += BREAKER_LONGEST_REST
    trial = breaker.admit()
    assert trial
    trial.worked()
    assert breaker.admit() and breaker.admit()


def test_what_each_failure_lets_a_client_do() -> None:
    recall, increment = contract.known("memory", "Recall"), contract.known("memory", "Increment")
    assert recall and increment
    away = Verdict.on(Unreachable(()))
    assert away.is_ways and away.is_safe(increment, has_request_id=False)
    cut = Verdict.on(errors.lost("reset"))
    assert cut.again is Again.ANY_WAY and cut.is_safe(recall, has_request_id=False)
    assert not cut.is_safe(increment, has_request_id=False)
    assert cut.is_safe(increment, has_request_id=True)
    assert Verdict.on(errors.no_answer(1)).again is Again.SAME
    busy = Verdict.on(Unavailable("draining"))
    assert (busy.again, busy.is_ways) == (Again.ANY_WAY, False)
    assert Verdict.on(errors.Migrated("gone")).again is Again.OVER_GRPC
    for kind, failure in errors.BY_KIND.items():
        verdict = Verdict.on(failure("x"))
        assert (verdict.again in (Again.ANY_WAY, Again.WHEN_TOLD)) == kind.is_retryable


async def test_a_read_survives_a_restart(service: Service) -> None:
    async with AgentClient(service.settings, via="grpc", max_retries=20) as client:
        await client.call("memory", "Remember", {"key": "k", "value": 1})
        service.stop()
        reading = asyncio.create_task(client.call("memory", "Recall", {"key": "k"}))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(service.start)
        assert (await reading)["value"] == 1
        figures = client.metrics.operation("memory", "Recall").ways[Way.GRPC]
        assert figures.retries > 0 and figures.errors["UNREACHABLE"] > 0


async def test_an_answer_that_was_lost_is_asked_for_again(service: Service, tmp_path: Path) -> None:
    """With a request id the work is done once; without one a call that changes something is not repeated."""
    socket = str(service.settings.address.path)
    async with (
        Relay(tmp_path / "relay", socket) as relay,
        AgentClient(service.settings, via="grpc", address=str(relay.address)) as client,
        AgentClient(service.settings, via="grpc") as straight,
    ):
        await client.ping()

        async def cut_when(count: int) -> None:
            while (await counted(straight)) < count:
                await asyncio.sleep(0.02)
            relay.cut()

        relay.lose_answers()
        cutting = asyncio.create_task(cut_when(1))
        with pytest.raises(Unavailable) as error:
            await client.call("memory", "Increment", {"key": "n"})
        assert error.value.lost and "a call with a request id is" in str(error.value)
        await cutting

        await client.ping()
        options = CallOptions(request_id=new_request_id())
        # The process is known from here on.
        await client.call("memory", "Increment", {"key": "other"}, CallOptions(request_id="x"))
        relay.lose_answers()
        cutting = asyncio.create_task(cut_when(2))
        assert (await client.call("memory", "Increment", {"key": "n"}, options))["value"] == "2"
        await cutting
        assert await counted(straight) == 2


async def counted(client: AgentClient) -> int:
    """How often the key `n` was incremented."""
    try:
        return int((await client.call("memory", "Recall", {"key": "n"}))["value"])
    except Failed:
        return 0


async def test_a_request_id_is_not_trusted_to_another_process(
    service: Service, tmp_path: Path
) -> None:
    socket = str(service.settings.address.path)
    async with (
        Relay(tmp_path / "relay", socket) as relay,
        AgentClient(
            service.settings, via="grpc", address=str(relay.address), max_retries=20
        ) as client,
    ):
        await client.call("memory", "Increment", {"key": "m"}, CallOptions(request_id="first"))
        relay.lose_answers()
        options = CallOptions(request_id="second")
        calling = asyncio.create_task(client.call("memory", "Increment", {"key": "n"}, options))
        async with AgentClient(service.settings, via="dbus") as other:
            while await counted(other) == 0:
                await asyncio.sleep(0.02)
        service.kill()
        relay.cut()
        await asyncio.to_thread(service.start)
        with pytest.raises((Conflict, Unavailable)) as error:
            await calling
        assert error.value.lost
        assert await counted(client) == 1


async def test_a_way_that_is_left_alone_says_why(service: Service) -> None:
    async with AgentClient(
        service.settings, via=Way.GRPC, address="unix:/nowhere/grpc.sock", max_retries=0
    ) as client:
        told = []
        for _ in range(BREAKER_FAILURES + 1):
            with pytest.raises(Unreachable) as error:
                await client.ping()
            told.append(error.value.attempts)
    *failed, alone = told
    assert alone[:-1] == failed[-1]
    assert f"{BREAKER_FAILURES} calls in a row" in alone[-1].problem


async def test_a_way_that_fails_is_left_alone_and_the_other_taken(service: Service) -> None:
    """At stage grpc D-Bus is fallen back on, and the breaker keeps calls from the way that is gone."""
    service.configure('[migration]\nstage = "grpc"\n')
    service.reload()
    async with AgentClient(service.settings, address="unix:/nowhere/grpc.sock") as client:
        while not client.stages or client.stages.routes[0].stage != pb.STAGE_GRPC:
            await client.status()
            await asyncio.sleep(0.05)
        started = time.monotonic()
        for _ in range(50):
            await client.ping()
        figures = client.metrics.operation("agents", "Ping")
        seen = Counter({way: ways.requests for way, ways in figures.ways.items()})
        assert seen[Way.DBUS] == 50 and figures.fallbacks[Way.GRPC] == 50
        # Once it is left alone it is tried after each rest only.
        rests = (time.monotonic() - started) / BREAKER_FIRST_REST
        assert seen[Way.GRPC] <= BREAKER_FAILURES + 1 + rests
        assert 'opdbus_client_breaker_state{way="grpc"}' in client.metrics.render()
