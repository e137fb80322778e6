"""One interface to the agents of op-dbus, whichever way the calls take."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any, Self

from op_dbus import contract
from op_dbus.call import Call, Connection, json_object
from op_dbus.contract import Operation
from op_dbus.dbus_way import DbusWay
from op_dbus.errors import Error, Internal
from op_dbus.grpc_way import GrpcWay
from op_dbus.legacy_way import LegacyWay
from op_dbus.metrics import AgentMetrics
from op_dbus.options import CallOptions, Way
from op_dbus.proto.opdbus.v1 import migration_pb2
from op_dbus.router import Router
from op_dbus.session import Session
from op_dbus.settings import Settings

#: The most agents of which the operations are remembered that this package was not built with.
_MAX_DESCRIBED = 256


class AgentClient:
    """A client of op-dbus for one event loop. Connections are made with the first call.

    Without arguments it is set up by `OP_DBUS_*` variables and `[client]` of `/etc/op-dbus/grpc.toml`; an
    argument has the last word, as `AgentClient(via="grpc", client_name="op-chat")`. Calls may be made side
    by side. :mod:`op_dbus.blocking` has the same without an event loop.
    """

    def __init__(self, settings: Settings | None = None, **changes: Any) -> None:
        """Raises :class:`op_dbus.SettingsError` if a setting is wrong."""
        self.settings = (settings or Settings.load()).having(**changes)
        self._described: dict[str, dict[str, Operation]] = {}
        self.router = Router(_ways(self.settings), self.settings)

    @property
    def metrics(self) -> AgentMetrics:
        """What this client counts of its own calls."""
        return self.router.metrics

    @property
    def stages(self) -> migration_pb2.GetRoutesResponse | None:
        """The stages of this client's calls as the service last told them; None if it never did."""
        return self.router.stages

    async def call(
        self,
        agent: str,
        operation: str,
        arguments: dict[str, Any] | str | None = None,
        options: CallOptions | None = None,
    ) -> dict[str, Any]:
        """Calls an operation with its request as a JSON object, and gives the response as one.

        Raises :class:`op_dbus.Failed` with the service's error, :class:`op_dbus.Unreachable` if there is
        no service. Cancelling gives the call up, which the service notices on gRPC.
        """
        text = await self._call_json(agent, operation, arguments, options)
        result: dict[str, Any] = json.loads(text)
        return result

    async def call_json(
        self, agent: str, operation: str, arguments: str, options: CallOptions | None = None
    ) -> str:
        """The same with the texts of JSON objects, which are passed on as they are."""
        return await self._call_json(agent, operation, arguments, options)

    async def _call_json(
        self,
        agent: str,
        operation: str,
        arguments: dict[str, Any] | str | None,
        options: CallOptions | None,
    ) -> str:
        found = await self.operation(agent, operation)
        return await self.router.unary(Call(found, json_object(arguments), str), options or CallOptions())

    async def stream(
        self,
        agent: str,
        operation: str,
        arguments: dict[str, Any] | str | None = None,
        options: CallOptions | None = None,
    ) -> AsyncGenerator[dict[str, Any]]:
        """Calls an operation that gives a stream, and gives its messages as JSON objects.

        Closing the iterator or cancelling cancels the work. A lost connection is made again, and the
        messages go on where they were.
        """
        found = await self.operation(agent, operation)
        call = Call(found, json_object(arguments), str)
        messages = self.router.stream(call, options or CallOptions())
        async with contextlib.aclosing(messages):
            async for message in messages:
                yield json.loads(message)

    async def ping(self, payload: bytes = b"", options: CallOptions | None = None) -> None:
        """Sends `payload` through every stage that any call passes, and checks that it comes back."""
        text = base64.b64encode(payload).decode()
        answer = await self.call("agents", "Ping", {"payload": text}, options)
        if answer.get("payload", "") != text:
            raise Internal("the ping came back changed")

    async def list_agents(self, options: CallOptions | None = None) -> list[dict[str, Any]]:
        """The agents that are served."""
        answer = await self.call("agents", "ListAgents", {}, options)
        agents: list[dict[str, Any]] = answer["agents"]
        return agents

    async def describe_agent(
        self, agent: str, operation: str = "", options: CallOptions | None = None
    ) -> dict[str, Any]:
        """One agent with its operations, or with the one operation named."""
        arguments = {"agent": agent, "operation": operation}
        return await self.call("agents", "DescribeAgent", arguments, options)

    async def batch(
        self, items: list[dict[str, Any]], options: CallOptions | None = None, **batch: Any
    ) -> dict[str, Any]:
        """Makes several calls in one round trip; `items` and the rest are fields of `BatchCallRequest`."""
        return await self.call("calls", "BatchCall", {"items": items, **batch}, options)

    async def status(self, options: CallOptions | None = None) -> dict[str, Any]:
        """How the service is doing."""
        return await self.call("agents", "GetStatus", {}, options)

    async def start_session(
        self,
        client_name: str,
        session_id: str = "",
        *,
        token: str = "",
        metadata: dict[str, str] | None = None,
        options: CallOptions | None = None,
    ) -> Session:
        """Starts a session, or resumes the one that the id and its token name.

        A session is a context manager that ends it: `async with await client.start_session(...) as s`.
        """
        arguments = {
            "client_name": client_name,
            "session_id": session_id,
            "token": token,
            "metadata": metadata or {},
        }
        started = await self.call("sessions", "StartSession", arguments, options)
        self.metrics.active_sessions += 1
        return Session(self, started)

    async def operation(self, agent: str, name: str) -> Operation:
        """What is known of an operation, which says how safe it is to make it twice.

        Of an agent that this package was not built with, the service is asked once.
        """
        found = contract.known(agent, name)
        if found is not None:
            return found
        if agent not in self._described:
            with contextlib.suppress(Error):
                described = await self.describe_agent(agent)
                if len(self._described) >= _MAX_DESCRIBED:
                    self._described.clear()
                self._described[agent] = {
                    contract.same_name(one["name"]): contract.described(agent, one)
                    for one in described["operations"]
                }
        # One that is not there is the service's to refuse.
        unknown = Operation(agent, name)
        return self._described.get(agent, {}).get(contract.same_name(name), unknown)

    async def close(self) -> None:
        """Gives up the connections and what runs on them."""
        await self.router.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def _ways(settings: Settings) -> dict[Way, Connection]:
    """The ways that the settings name. None of them is connected yet."""
    grpc = GrpcWay(
        settings.address,
        settings.credentials,
        connect_timeout=settings.connect_timeout,
        pooled=settings.pool_connections,
        client_name=settings.client_name,
    )
    dbus = DbusWay(
        settings.bus,
        connect_timeout=settings.connect_timeout,
        name=settings.name,
        client_name=settings.client_name,
    )
    legacy = LegacyWay(settings.bus, connect_timeout=settings.connect_timeout)
    return {Way.DBUS: dbus, Way.LEGACY: legacy, Way.GRPC: grpc}


