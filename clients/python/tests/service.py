"""A daemon of a test's own on the private bus, and a relay that cuts its connections."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from op_dbus import Bus, Error, GrpcAddress, Settings
from op_dbus.blocking import AgentClient

BIN = Path(os.environ.get("OPDBUS_BIN") or Path(__file__).parents[3] / "target/debug")

_CONFIG = """
[dbus]
bus = "{bus}"
name = "{name}"
legacy = false
[grpc]
unix = "{folder}/grpc.sock"
[storage]
path = "{folder}/state"
[metrics]
unix = ""
[log]
target = "stderr"
{more}
"""


class Service:
    """A daemon with a folder and a bus name of its own."""

    def __init__(self, folder: Path, bus: Bus, more: str = "") -> None:
        self.folder = folder
        self.bus = bus
        self.name = f"org.opdbus.Test{os.getpid()}x{time.monotonic_ns()}"
        self.process: subprocess.Popen[bytes] | None = None
        (folder / "state").mkdir(mode=0o700)
        self.configure(more)

    @property
    def settings(self) -> Settings:
        """How it is reached."""
        address = GrpcAddress(path=f"{self.folder}/grpc.sock")
        return Settings(address=address, bus=self.bus, name=self.name)

    def configure(self, more: str = "") -> None:
        """Writes the configuration, with further sections."""
        text = _CONFIG.format(bus=self.bus.text, name=self.name, folder=self.folder, more=more)
        (self.folder / "grpc.toml").write_text(text)

    def start(self) -> None:
        """Starts it and waits until it answers on both transports."""
        log = (self.folder / "log").open("ab")
        command = [BIN / "op-dbusd", "--config", self.folder / "grpc.toml"]
        self.process = subprocess.Popen(command, stderr=log)
        for via in ("grpc", "dbus"):
            with AgentClient(self.settings, via=via, max_retries=0) as client:
                self._wait_for(client)

    def _wait_for(self, client: AgentClient) -> None:
        end = time.monotonic() + 20
        while True:
            try:
                return client.ping()
            except Error as problem:
                assert self.process and self.process.poll() is None, self.log()
                assert time.monotonic() < end, f"{problem}\n{self.log()}"
                time.sleep(0.05)

    def log(self) -> str:
        """What it has logged."""
        return (self.folder / "log").read_text()

    def reload(self) -> None:
        """Has it read its configuration again."""
        assert self.process
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """Stops it in order."""
        assert self.process
        self.process.terminate()
        assert self.process.wait(20) == 0, self.log()

    def kill(self) -> None:
        """Ends it at once."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Relay:
    """A Unix socket that leads to another one, and whose connections can be cut."""

    def __init__(self, path: Path, to: str) -> None:
        self.path = path
        self._to = to
        self._connections: set[asyncio.StreamWriter] = set()
        self._answers_are_lost = False

    @property
    def address(self) -> GrpcAddress:
        """Its address."""
        return GrpcAddress(path=str(self.path))

    async def __aenter__(self) -> "Relay":
        self._server = await asyncio.start_unix_server(self._accept, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Cuts every connection that there is; others may be made."""
        self._answers_are_lost = False
        for connection in self._connections:
            connection.transport.abort()

    def lose_answers(self) -> None:
        """What the service says from now on is lost, until the connections are cut."""
        self._answers_are_lost = True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(self._to)
        own = {writer, there_writer}
        self._connections |= own
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(
                self._pass(reader, there_writer, is_answer=False),
                self._pass(there_reader, writer, is_answer=True),
            )
        for connection in own:
            connection.transport.abort()
        self._connections -= own

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_answer: bool
    ) -> None:
        while data := await reader.read(65536):
            if not (is_answer and self._answers_are_lost):
                writer.write(data)
                await writer.drain()
        writer.close()
