"""Calls over the older interface, `org.dbusmcp.Agent`, for a client that still needs it. It has no streams."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any, TypeVar

from google.protobuf.message import Message

from op_dbus.address import Bus
from op_dbus.call import Call
from op_dbus.dbus_bus import BusConnection
from op_dbus.errors import Failed, Internal, InvalidArgument, UnknownOperation, failed, invalid
from op_dbus.options import CallOptions, Way

T = TypeVar("T")

_EXECUTE = ("org.dbusmcp.Agent", "Execute")

#: The older words for what has another name there.
_AGENTS = {"commands": "executor"}
_OPERATIONS = {("commands", "Exec"): "execute"}

#: The text of a call that failed, as it stands in the errors of the older interface.
_FAILED = re.compile(r"Execution failed: ([A-Z_]+): (.*)", re.DOTALL)


class LegacyWay:
    """The older interface on a message bus."""

    way = Way.LEGACY

    def __init__(self, bus: Bus, *, connect_timeout: float) -> None:
        self._bus = BusConnection(bus, connect_timeout=connect_timeout)
        self.target = f"org.dbusmcp.Agent on {bus}"

    async def unary(self, call: Call[T], options: CallOptions) -> T:
        """Makes a call with one request and one answer. Cancelling stops waiting for it."""
        operation = call.operation
        if operation.is_manager:
            raise UnknownOperation(f"{operation.label} is not on the older interface")
        agent = _AGENTS.get(operation.agent, operation.agent)
        pascal = "".join(part.capitalize() for part in agent.split("_"))
        word = re.sub(r"(?<!^)(?=[A-Z])", "_", operation.name).lower()
        task = {
            "type": agent.replace("_", "-"),
            "operation": _OPERATIONS.get((operation.agent, operation.name), word),
            "config": {**_arguments(call.json), **_configured(options)},
        }
        try:
            reply = await self._bus.call(
                f"org.dbusmcp.Agent.{pascal}",
                f"/org/dbusmcp/Agent/{pascal}",
                _EXECUTE,
                "s",
                [json.dumps(task)],
                options,
            )
        except Failed as error:
            raise _meant(error) from None
        return call.read_json(_response(reply[0]))

    async def stream(self, call: Call[T], options: CallOptions) -> AsyncGenerator[T]:
        """The older interface gives no streams."""
        raise UnknownOperation(f"{call.operation.label} is a stream, not on the older interface")
        yield

    async def exchange(
        self, call: Call[T], requests: AsyncIterable[Message], options: CallOptions
    ) -> AsyncGenerator[T]:
        """The older interface takes no streams."""
        raise UnknownOperation(f"{call.operation.label} is a stream, not on the older interface")
        yield

    async def close(self) -> None:
        """Leaves the bus."""
        await self._bus.close()


def _arguments(text: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text or "{}")
    except ValueError as problem:
        raise invalid("arguments", str(problem)) from None
    if not isinstance(arguments, dict):
        raise invalid("arguments", "must be a JSON object")
    return arguments


def _configured(options: CallOptions) -> dict[str, Any]:
    """What belongs to the call; its names have hyphens, which no argument has."""
    configured: dict[str, Any] = dict(options.having(on_disconnect=None).travelling())
    if options.timeout is not None:
        configured["deadline-ms"] = max(1, round(options.timeout * 1000))
    return configured


def _response(text: str) -> str:
    """The response in the result of a task, or the reason why there is none."""
    try:
        result: dict[str, Any] = json.loads(text)
        metadata = result["metadata"]
        if "response" in metadata:
            return json.dumps(metadata["response"])
        after, reason = metadata.get("retry_after_ms"), str(metadata["reason"])
        error = failed(
            reason,
            str(result["data"]).removeprefix(f"{reason}: "),
            metadata.get("facts"),
            int(after) / 1000 if after else None,
        )
    except (ValueError, TypeError, KeyError):
        raise Internal("the service's answer is no result of a task") from None
    raise error


def _meant(error: Failed) -> Failed:
    """What an error of the older interface means, which has two names for all of them."""
    if isinstance(error, InvalidArgument) and error.message.startswith("Unsupported operation"):
        return UnknownOperation(error.message)
    found = _FAILED.fullmatch(error.message)
    return failed(found[1], found[2]) if found else error
