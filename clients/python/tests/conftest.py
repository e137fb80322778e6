"""What the tests share: they run below `packaging/private-service`, which starts a bus and a daemon."""

import asyncio
import inspect
import os
from pathlib import Path

import pytest
from service import Service

from op_dbus import Bus, GrpcAddress, Settings

#: No test takes so long, unless something hangs.
PATIENCE = 60

WAYS = ("grpc", "dbus")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a test that is a coroutine on an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await pyfuncitem.obj(**arguments)

    asyncio.run(bounded())
    return True


@pytest.fixture(scope="session")
def bus() -> Bus:
    """The private bus."""
    return Bus(os.environ["OPDBUS_BUS"])


@pytest.fixture
def settings(bus: Bus) -> Settings:
    """How the daemon that all tests share is reached."""
    return Settings(address=GrpcAddress.parse(os.environ["OPDBUS_GRPC"]), bus=bus, via=None)


@pytest.fixture(params=WAYS)
def over(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """The same over one way, each of them in turn."""
    return settings.having(via=request.param)


@pytest.fixture
def service(tmp_path: Path, bus: Bus):
    """A daemon of the test's own, which it may stop, kill and start again."""
    own = Service(tmp_path, bus)
    own.start()
    yield own
    own.kill()


@pytest.fixture
def other(tmp_path: Path, bus: Bus):
    """Another such daemon."""
    folder = tmp_path / "other"
    folder.mkdir()
    own = Service(folder, bus)
    own.start()
    yield own
    own.kill()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A key that no other test uses."""
    return "".join(c for c in request.node.name if c.isalnum() or c == "_") + f"-{os.getpid()}"
