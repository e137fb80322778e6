"""A connection to a message bus: method calls on it, and D-Bus errors as this package's. It knows no agents."""

from __future__ import annotations

import asyncio
from typing import Any

from dbus_fast import BusType, Message, MessageFlag, MessageType
from dbus_fast.aio import MessageBus

from op_dbus.address import Bus
from op_dbus.call import GRACE
from op_dbus.errors import (
    Attempt,
    Error,
    ErrorKind,
    Unreachable,
    failed,
    invalid,
    lost,
    no_answer,
)
from op_dbus.options import CallOptions

_OWN = "org.opdbus.Error."
_STANDARD = "org.freedesktop.DBus.Error."

_BY_NAME = {_OWN + kind.pascal: kind for kind in ErrorKind} | {
    _STANDARD + name: kind
    for name, kind in {
        "Timeout": ErrorKind.DEADLINE_EXCEEDED,
        "TimedOut": ErrorKind.DEADLINE_EXCEEDED,
        "AccessDenied": ErrorKind.ACCESS_DENIED,
        "AuthFailed": ErrorKind.ACCESS_DENIED,
        "InvalidArgs": ErrorKind.INVALID_ARGUMENT,
        "InvalidSignature": ErrorKind.INVALID_ARGUMENT,
        "LimitsExceeded": ErrorKind.LIMIT_EXCEEDED,
        "NoMemory": ErrorKind.LIMIT_EXCEEDED,
        "UnknownMethod": ErrorKind.UNKNOWN_OPERATION,
        "UnknownInterface": ErrorKind.UNKNOWN_OPERATION,
        "UnknownObject": ErrorKind.UNKNOWN_AGENT,
    }.items()
}


class BusConnection:
    """A message bus, connected with the first call and again when it was lost."""

    def __init__(self, bus: Bus, *, connect_timeout: float) -> None:
        self._bus = bus
        self._connect_timeout = connect_timeout
        self._connection: MessageBus | None = None
        self._connecting = asyncio.Lock()

    async def call(
        self,
        destination: str,
        path: str,
        method: tuple[str, str],
        signature: str,
        body: list[Any],
        options: CallOptions,
        descriptors: list[int] | None = None,
    ) -> list[Any]:
        """Calls a method, by its interface and name, and gives the arguments of the reply.

        Cancelling stops waiting; D-Bus cannot take a call back, and its deadline ends it.
        """
        interface, member = method
        for argument in body:
            check_text(member, argument)
        flags = MessageFlag.NONE
        if options.interactive:
            flags = MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=body,
            flags=flags,
            unix_fds=descriptors or [],
        )
        target = f"{destination} on {self._bus}"
        connection = await self._connected(target)
        wait = None if options.timeout is None else options.timeout + GRACE
        try:
            async with asyncio.timeout(wait):
                reply = await connection.call(message)
        except TimeoutError:
            raise no_answer(options.timeout or 0) from None
        except (OSError, EOFError) as problem:
            self._connection = None
            raise lost(str(problem) or "the bus closed the connection") from None
        if reply is None:
            self._connection = None
            raise lost("the bus closed the connection")
        if reply.message_type is MessageType.ERROR:
            text = reply.body[0] if reply.body and isinstance(reply.body[0], str) else ""
            raise error(str(reply.error_name), text, target)
        return list(reply.body)

    async def _connected(self, target: str) -> MessageBus:
        async with self._connecting:
            if self._connection is None or not self._connection.connected:
                self._connection = await self._connect(target)
            return self._connection

    async def _connect(self, target: str) -> MessageBus:
        text = self._bus.text
        try:
            if text == "system":
                bus = MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True)
            elif text == "session":
                bus = MessageBus(bus_type=BusType.SESSION, negotiate_unix_fd=True)
            else:
                bus = MessageBus(bus_address=text, negotiate_unix_fd=True)
            async with asyncio.timeout(self._connect_timeout):
                return await bus.connect()
        except TimeoutError:
            problem = f"no connection within {self._connect_timeout:g} s"
        except Exception as cause:  # The library has no base of its errors, and raises others as well.
            problem = str(cause) or type(cause).__name__
        raise Unreachable((Attempt(target, problem),))

    async def close(self) -> None:
        """Leaves the bus."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.connected:
            connection.disconnect()


def error(name: str, text: str, target: str) -> Error:
    """The error that the name of a D-Bus error says."""
    standard = name.removeprefix(_STANDARD)
    if standard in ("ServiceUnknown", "NameHasNoOwner") or standard.startswith("Spawn."):
        return Unreachable((Attempt(target, text or name),))
    if standard in ("NoReply", "Disconnected"):
        return lost(text or name)
    return failed(_BY_NAME.get(name, ErrorKind.INTERNAL), text or name)


def check_text(field: str, argument: Any) -> None:
    """Refuses a text that D-Bus cannot carry; the bus would close the connection over it."""
    if isinstance(argument, str) and "\0" in argument:
        raise invalid(field, "holds U+0000, which D-Bus cannot carry")

