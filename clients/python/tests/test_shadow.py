"""Comparing both ways: what differs, what is volatile, and what is told of it."""

import asyncio

import pytest
from service import Service

from op_dbus import AgentClient, NotFound, Way
from op_dbus.agents import memory, sessions
from op_dbus.compare import Place, Volatile, differences
from op_dbus.proto.opdbus.v1 import migration_pb2 as pb

SHADOW = '[migration]\nstage = "shadow"\n'


def recalled(text: str, version: int = 1, tags: tuple[str, ...] = ()) -> memory.RecallResponse:
    response = memory.RecallResponse(version=version, tags=tags)
    response.value.string_value = text
    return response


def test_places_are_named_and_values_are_not_told() -> None:
    assert differences(recalled("x"), recalled("x")) == []
    found = differences(recalled("secret", 1, ("a",)), recalled("public", 2, ("a", "b")))
    assert [place.field for place in found] == [
        "tags.length()",
        "tags[1]",
        "value.string_value",
        "version",
    ]
    text = found[2]
    assert text.one.startswith("text of 6 bytes, sha256 ") and text.one != text.other
    assert (found[1].one, found[3].one) == ("nothing", "number")
    assert "secret" not in str(found)
    lost = differences(NotFound("x"), recalled("x"))
    assert lost == [Place("error", "NOT_FOUND", "nothing")]
    assert differences(NotFound("one text"), NotFound("another")) == []


def test_of_a_secret_nothing_is_told() -> None:
    started = [sessions.StartSessionResponse(token=token) for token in ("a", "b")]
    assert differences(*started) == []


def test_what_differs_over_one_way_is_volatile() -> None:
    volatile = Volatile()
    volatile.learn([Place("entries[3].age", "number", "number"), Place("keys.length()", "1", "2")])
    assert volatile.holds(Place("entries[7].age", "", ""))
    assert not volatile.holds(Place("entries[7].name", "", ""))
    assert volatile.holds(Place("keys[1].name", "", ""))


async def compared(client: AgentClient, operation: str, count: int) -> None:
    """Waits until so many calls of an operation were compared."""
    agent, name = operation.split(".")
    figures = client.metrics.operation(agent, name)
    arguments = {"key": "k"} if name == "Recall" else {}
    for _ in range(400):
        await client.call(agent, name, arguments)
        if figures.compared >= count:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(figures)


async def test_answers_are_those_of_dbus_and_both_are_compared(service: Service) -> None:
    service.configure(SHADOW)
    service.reload()
    async with AgentClient(service.settings) as client:
        await client.call("memory", "Remember", {"key": "k", "value": 1})
        await compared(client, "memory.Recall", 2)
        # It says how long the service has run, which is never the same twice.
        await compared(client, "agents.GetStatus", 2)
        figures = dict(client.metrics.operations())
        assert figures["memory.Recall"].differed == 0
        assert figures["agents.GetStatus"].differed == 0
        assert Way.GRPC not in figures["memory.Remember"].ways, "what changes something is made once"
        assert 'shadow_compared_total{agent="memory",operation="Recall"}' in client.metrics.render()


async def test_a_difference_is_found_and_the_service_is_told(
    service: Service, other: Service
) -> None:
    """gRPC leads to another daemon, with other data."""
    both = [service, other]
    for number, daemon in enumerate(both):
        daemon.configure(SHADOW)
        daemon.reload()
        async with AgentClient(daemon.settings, via="grpc") as client:
            await client.call("memory", "Remember", {"key": "k", "value": f"value {number}"})
    mixed = service.settings.having(address=str(other.settings.address))
    async with AgentClient(mixed, client_name="python-tests") as client:
        await compared(client, "memory.Recall", 2)
        assert client.metrics.operation("memory", "Recall").differed >= 2
        assert (await client.call("memory", "Recall", {"key": "k"}))["value"] == "value 0"
    async with AgentClient(other.settings, via="grpc") as client:
        found = await client.call("migration", "ListDifferences", {"operation": "memory.Recall"})
    [comparison] = found["comparisons"]
    assert int(comparison["differed"]) >= 2
    fields = {sample["field"] for sample in comparison["samples"]}
    assert "value.string_value" in fields, fields
    assert "value 0" not in str(comparison)


async def test_calls_that_reached_nobody_are_told(service: Service) -> None:
    service.configure('[migration]\nstage = "grpc"\n')
    service.reload()
    settings = service.settings.having(address="unix:/nowhere/grpc.sock", client_name="cut-off")
    async with AgentClient(settings) as client:
        while not client.stages or client.stages.routes[0].stage != pb.STAGE_GRPC:
            await client.ping()
            await asyncio.sleep(0.05)
        await client.call("memory", "List", {})
        lost = client.metrics.operation("memory", "List").ways[Way.GRPC].errors["UNREACHABLE"]
        assert lost == 1
    async with AgentClient(service.settings, via="grpc") as client:
        uses = (await client.call("migration", "ListUses", {"client": "cut-off"}))["uses"]
    told = [use for use in uses if (use["operation"], use["way"]) == ("memory.List", "WAY_GRPC")]
    assert [int(use["lost"]) for use in told] == [lost], uses


@pytest.mark.parametrize("answer", [NotFound("x"), recalled("x")])
async def test_what_cannot_be_compared_is_skipped(service: Service, answer: object) -> None:
    """With no gRPC to compare with, nothing is said of it."""
    from op_dbus.call import Call
    from op_dbus.contract import known
    from op_dbus.options import CallOptions

    async with AgentClient(service.settings, address="unix:/nowhere/grpc.sock") as client:
        operation = known("memory", "Recall")
        assert operation
        call = Call(operation, memory.RecallRequest(key="k"), memory.RecallResponse)
        shadow = client.router.shadow
        shadow.offer(Way.DBUS, call, CallOptions(timeout=5), answer)
        figures = client.metrics.operation("memory", "Recall")
        while not figures.skipped:
            await asyncio.sleep(0.05)
        assert figures.compared == 0
