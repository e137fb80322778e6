"""What each stage of the rollout means for a call, and that a client follows the service from one to the next."""

import asyncio
import time
from pathlib import Path

import pytest
from service import Service

from op_dbus import AgentClient, CallOptions, Migrated, Settings, Way, contract
from op_dbus.contract import Operation
from op_dbus.proto.opdbus.v1 import migration_pb2 as pb
from op_dbus.routes import Plan, Routes, keep, place, read_kept

VECTORS = Path(__file__).parents[3] / "tests/data/canary.txt"


def operation(name: str) -> Operation:
    found = contract.known("memory", name)
    assert found
    return found


READ, WRITE = operation("Recall"), operation("Increment")


def routes(*stages: pb.Route) -> Routes:
    return Routes(pb.GetRoutesResponse(routes=stages, version="1", client="desk"))


def test_the_choice_is_the_one_that_everybody_makes() -> None:
    lines = [line for line in VECTORS.read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 10
    for line in lines:
        salt, session, expected = line.split("\t")
        assert str(place(salt, session)) == expected, line


def test_each_stage_is_its_way() -> None:
    dbus, grpc = Plan(Way.DBUS), Plan(Way.GRPC, fallback=Way.DBUS)
    for stage, plan in [
        (pb.STAGE_UNSPECIFIED, dbus),
        (pb.STAGE_DBUS, dbus),
        (pb.STAGE_SHADOW, Plan(Way.DBUS, shadow=True)),
        (pb.STAGE_CANARY, dbus),
        (pb.STAGE_GRPC, grpc),
        (pb.STAGE_FINAL, Plan(Way.GRPC)),
    ]:
        assert routes(pb.Route(stage=stage)).plan(READ, None, Way.DBUS) == plan
    shadow = routes(pb.Route(stage=pb.STAGE_SHADOW))
    assert shadow.plan(WRITE, None, Way.DBUS) == dbus, "only what changes nothing is made twice"
    old = routes(pb.Route(stage=pb.STAGE_GRPC)).plan(READ, None, Way.LEGACY)
    assert old == Plan(Way.GRPC, fallback=Way.LEGACY)
    assert routes().plan(READ, None, Way.DBUS) is None


def test_the_first_route_that_names_an_operation_holds() -> None:
    several = routes(
        pb.Route(agents=["memory"], operations=["memory.Increment"], stage=pb.STAGE_FINAL),
        pb.Route(agents=["memory"], stage=pb.STAGE_GRPC),
        pb.Route(stage=pb.STAGE_DBUS),
    )
    assert several.plan(WRITE, None, Way.DBUS) == Plan(Way.GRPC)
    assert several.plan(READ, None, Way.DBUS) == Plan(Way.GRPC, fallback=Way.DBUS)
    ping = contract.known("agents", "Ping")
    assert ping and several.plan(ping, None, Way.DBUS) == Plan(Way.DBUS)


def test_a_canary_goes_by_session_or_else_by_client() -> None:
    def way(share: int, session: str | None) -> Way:
        canary = pb.Route(stage=pb.STAGE_CANARY, salt="default", share_per_10000=share)
        plan = routes(canary).plan(WRITE, session, Way.DBUS)
        assert plan
        return plan.way

    # tests/data/canary.txt: s-3 is at 4, s-2 at 6739.
    assert (way(5, "s-3"), way(4, "s-3"), way(5, "s-2")) == (Way.GRPC, Way.DBUS, Way.DBUS)
    desk = place("default", "desk")
    assert (way(desk + 1, None), way(desk, None)) == (Way.GRPC, Way.DBUS)


def test_the_last_known_stages_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "routes"
    assert read_kept(file) is None
    told = routes(pb.Route(stage=pb.STAGE_GRPC))
    assert keep(file, told) and read_kept(file) == told
    file.write_bytes(b"\xff\xff")
    assert read_kept(file) is None
    assert not keep(tmp_path / "nowhere" / "routes", told)


async def taken(client: AgentClient, options: CallOptions | None = None) -> Way:
    """The way that gives a call its answer."""

    def answered() -> dict[Way, int]:
        ways = client.metrics.operation("agents", "Ping").ways
        return {way: figures.requests - figures.errors.total() for way, figures in ways.items()}

    before = answered()
    await client.ping(b"x", options)
    [way] = [way for way, count in answered().items() if count > before.get(way, 0)]
    return way


async def reaches(client: AgentClient, stage: int, way: Way) -> float:
    """Waits until calls take a way because of a stage; gives the seconds that it took."""
    started = time.monotonic()
    while True:
        assert time.monotonic() - started < 20, client.stages
        now = client.stages.routes[0].stage if client.stages else None
        if await taken(client) is way and now == stage:
            return time.monotonic() - started
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("reached", ["over gRPC", "over D-Bus"])
async def test_a_change_of_stage_holds_without_reconnecting(service: Service, reached: str) -> None:
    settings = service.settings.having(client_name="python-tests")
    if reached == "over D-Bus":
        settings = settings.having(address="unix:/nowhere/grpc.sock")
    async with AgentClient(settings) as client:
        assert await taken(client) is Way.DBUS
        assert client.stages and client.stages.routes[0].stage == pb.STAGE_DBUS
        service.configure('[migration]\nstage = "grpc"\n')
        service.reload()
        await reaches(client, pb.STAGE_GRPC, Way.GRPC if reached == "over gRPC" else Way.DBUS)
        service.configure('[migration]\nstage = "dbus"\n')
        service.reload()
        await reaches(client, pb.STAGE_DBUS, Way.DBUS)


async def test_a_rule_is_about_the_client_that_it_names(service: Service) -> None:
    rule = '[[migration.rule]]\nname = "us"\nnames = ["python-tests"]\nstage = "final"\n'
    service.configure(rule)
    service.reload()
    async with (
        AgentClient(service.settings, client_name="python-tests") as named,
        AgentClient(service.settings) as nameless,
    ):
        await reaches(named, pb.STAGE_FINAL, Way.GRPC)
        assert await taken(nameless) is Way.DBUS
    async with AgentClient(service.settings, via="dbus", client_name="python-tests") as late:
        with pytest.raises(Migrated, match="grpc"):
            await late.call("memory", "List", {})


async def test_a_canary_takes_its_share_of_the_sessions(service: Service) -> None:
    service.configure('[migration]\nstage = "canary"\npercent = 50\n')
    service.reload()
    async with AgentClient(service.settings) as client:
        while not client.stages or client.stages.routes[0].stage != pb.STAGE_CANARY:
            await client.ping()
            await asyncio.sleep(0.02)
        route = client.stages.routes[0]
        ways = []
        for _ in range(12):
            async with await client.start_session("tests") as session:
                way = await taken(client, session.options)
                expected = place(route.salt, session.id) < route.share_per_10000
                assert (way is Way.GRPC) == expected
                assert await taken(client, session.options) is way
                ways.append(way)
        assert len(ways) == 12


async def test_the_last_known_stage_holds_while_the_service_is_away(
    service: Service, tmp_path: Path
) -> None:
    service.configure('[migration]\nstage = "grpc"\n')
    service.reload()
    file = tmp_path / "routes"
    settings = service.settings.having(routes_file=file)
    async with AgentClient(settings) as client:
        await reaches(client, pb.STAGE_GRPC, Way.GRPC)
        service.kill()
        await asyncio.to_thread(service.start)
        assert await taken(client) in (Way.GRPC, Way.DBUS)
        await reaches(client, pb.STAGE_GRPC, Way.GRPC)
    kept = read_kept(file)
    assert kept and kept.told.routes[0].stage == pb.STAGE_GRPC


async def test_a_pinned_way_is_taken_whatever_the_stage(settings: Settings) -> None:
    for via in ("grpc", "dbus"):
        async with AgentClient(settings, via=via) as client:
            assert await taken(client) is Way(via)
            assert client.stages is None, "nobody asked"
