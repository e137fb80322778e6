"""Calls over D-Bus. Requests and answers travel as JSON; streams over descriptors, which hold back the work."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import TypeVar

from dbus_fast import Variant
from google.protobuf.message import Message

from op_dbus.address import SERVICE_NAME, Bus
from op_dbus.call import MAX_ANSWER_BYTES, Call, to_json
from op_dbus.contract import Operation
from op_dbus.dbus_bus import BusConnection
from op_dbus.errors import Error, LimitExceeded, UnknownOperation
from op_dbus.grpc_tasks import outcome
from op_dbus.options import CallOptions, Way
from op_dbus.proto.opdbus.v1 import tasks_pb2

T = TypeVar("T")

_ROOT = "/org/opdbus/Agents1"
_MANAGER = ("org.opdbus.Agents1", "CallJson")
_AGENT = ("org.opdbus.Agent1", "CallJson")


class DbusWay:
    """The service's own interfaces on a message bus."""

    way = Way.DBUS

    def __init__(
        self, bus: Bus, *, connect_timeout: float, name: str = SERVICE_NAME, client_name: str | None = None
    ) -> None:
        self._service = name
        self._client_name = client_name
        self._bus = BusConnection(bus, connect_timeout=connect_timeout)
        self.target = f"{name} on {bus}"

    async def unary(self, call: Call[T], options: CallOptions) -> T:
        """Makes a call with one request and one answer.

        Cancelling stops waiting for it; D-Bus cannot take a call back, and its deadline ends it.
        """
        operation = call.operation
        body = [operation.agent, operation.name, call.json, self._reserved(options)]
        result = await self._bus.call(
            self._service, _ROOT, _MANAGER, "sssa{sv}", body, options.having(on_disconnect=None)
        )
        return call.read_json(result[0])

    async def stream(self, call: Call[T], options: CallOptions) -> AsyncGenerator[T]:
        """Makes a call with one request and many answers. Closing the generator cancels the work."""
        operation = _on_dbus(call.operation)
        async with _reading() as (reader, output):
            path = await self._bus.call(
                self._service,
                _agent_path(operation),
                _AGENT,
                "ssa{sv}",
                [operation.name, call.json, {"detach": Variant("b", True), **self._piped(options)}],
                options,
                [output.give()],
            )
            output.given()
            async with self._task(str(path[0]), options):
                async for line in _lines(reader):
                    yield call.read_json(line)

    async def exchange(
        self, call: Call[T], requests: AsyncIterable[Message], options: CallOptions
    ) -> AsyncGenerator[T]:
        """Makes a call with many requests; it gives one answer or many."""
        operation = _on_dbus(call.operation)
        pascal = "".join(part.capitalize() for part in operation.agent.split("_"))
        async with _reading() as (reader, output), _writing(requests) as given:
            piped = self._piped(options) | {
                "input-fd": Variant("h", 1),
                "input-format": Variant("s", "json"),
            }
            path = await self._bus.call(
                self._service,
                _agent_path(operation),
                (f"org.opdbus.{pascal}1", operation.name),
                "aa{sv}a{sv}",
                [[], piped],
                options,
                [output.give(), given.give()],
            )
            output.given()
            given.given()
            async with self._task(str(path[0]), options):
                async for line in _lines(reader):
                    yield call.read_json(line)

    async def close(self) -> None:
        """Leaves the bus."""
        await self._bus.close()

    def _reserved(self, options: CallOptions) -> dict[str, Variant]:
        """The options that every method takes beside its own."""
        reserved = {name: Variant("s", text) for name, text in options.travelling().items()}
        if self._client_name:
            reserved["client-name"] = Variant("s", self._client_name)
        if options.timeout is not None:
            reserved["deadline-ms"] = Variant("t", max(1, round(options.timeout * 1000)))
        return reserved

    def _piped(self, options: CallOptions) -> dict[str, Variant]:
        """The same for a call whose messages come over a pipe, which is the first descriptor."""
        # Unless something else is said, the end of the reader is the end of the work.
        return {
            "on-disconnect": Variant("s", "cancel"),
            **self._reserved(options.having(request_id=None)),
            "output-fd": Variant("h", 0),
            "output-format": Variant("s", "json"),
        }

    @contextlib.asynccontextmanager
    async def _task(self, path: str, options: CallOptions) -> AsyncIterator[None]:
        """Raises what a task has failed with, once its messages have come to their end; before that end,
        cancels it.
        """
        task = path.rsplit("/", 1)[-1]
        plain = CallOptions(session=options.session, traceparent=options.traceparent, timeout=12)
        try:
            yield
        except (GeneratorExit, asyncio.CancelledError):
            if options.on_disconnect != "continue":
                cancel = Call(Operation("tasks", "CancelTask"), f'{{"id": "{task}"}}', str)
                with contextlib.suppress(Error):
                    await asyncio.shield(self.unary(cancel, plain.having(timeout=2)))
            raise
        wait = Call(
            Operation("tasks", "WaitTask"),
            f'{{"id": "{task}", "timeout": "10s"}}',
            tasks_pb2.WaitTaskResponse,
        )
        problem = outcome((await self.unary(wait, plain)).task)
        if problem is not None:
            raise problem


def _on_dbus(operation: Operation) -> Operation:
    if operation.is_manager:
        raise UnknownOperation(f"{operation.label} is a stream of op-dbus itself, which is on gRPC only")
    return operation


def _agent_path(operation: Operation) -> str:
    return f"{_ROOT}/agent/{operation.agent}"


class _End:
    """The end of a pipe that goes to the service: ours is closed once it has its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def give(self) -> int:
        return self._descriptor

    def given(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


@contextlib.asynccontextmanager
async def _reading() -> AsyncIterator[tuple[asyncio.StreamReader, _End]]:
    """A pipe of which the service writes one end."""
    read, write = os.pipe()
    end = _End(write)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_ANSWER_BYTES)
    pipe = os.fdopen(read, "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    try:
        yield reader, end
    finally:
        end.given()
        transport.close()


@contextlib.asynccontextmanager
async def _writing(requests: AsyncIterable[Message]) -> AsyncIterator[_End]:
    """A pipe of which the service reads one end, while the requests are written to the other."""
    read, write = os.pipe()
    end = _End(read)
    loop = asyncio.get_running_loop()
    pipe = os.fdopen(write, "wb", buffering=0)
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop), pipe
    )
    writer = asyncio.StreamWriter(transport, protocol, None, loop)

    async def write_all() -> None:
        try:
            async for request in requests:
                writer.write(to_json(request).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, BrokenPipeError):
            pass  # The service has ended the call; it says why.
        finally:
            transport.close()

    writing = asyncio.create_task(write_all())
    try:
        yield end
        await writing
    finally:
        end.given()
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writing


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    try:
        while line := await reader.readline():
            yield line.decode()
    except ValueError:
        problem = f"a message of the stream has more than {MAX_ANSWER_BYTES} bytes"
        raise LimitExceeded(problem) from None


