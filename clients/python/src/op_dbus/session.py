"""The scope of a client's work: what agents keep for it only goes when it ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from op_dbus.errors import Error, NotFound
from op_dbus.options import CallOptions

if TYPE_CHECKING:
    from op_dbus.client import AgentClient

#: States of an agent that can take a call at once.
_READY = ("AGENT_STATE_RUNNING", "AGENT_STATE_BUSY")


class Session:
    """A session that was started."""

    def __init__(self, client: AgentClient, started: dict[str, Any]) -> None:
        self._client = client
        self._has_ended = False
        #: Its id.
        self.id: str = started["session"]["id"]
        #: The secret with which it can be resumed.
        self.token: str = started["token"]
        #: The agents that are ready with it.
        self.agents: list[str] = [
            agent["agent"] for agent in started["agents"] if agent["state"] in _READY
        ]

    @property
    def options(self) -> CallOptions:
        """The options of a call in it, for typed clients as well."""
        return CallOptions(session=self.id)

    async def call(
        self,
        agent: str,
        operation: str,
        arguments: dict[str, Any] | str | None = None,
        options: CallOptions | None = None,
    ) -> dict[str, Any]:
        """:meth:`op_dbus.AgentClient.call` in the session."""
        return await self._client.call(agent, operation, arguments, self._within(options))

    def stream(
        self,
        agent: str,
        operation: str,
        arguments: dict[str, Any] | str | None = None,
        options: CallOptions | None = None,
    ) -> AsyncGenerator[dict[str, Any]]:
        """:meth:`op_dbus.AgentClient.stream` in the session."""
        return self._client.stream(agent, operation, arguments, self._within(options))

    async def end(self) -> None:
        """Ends it. One that has ended already is no error."""
        if not self._has_ended:
            try:
                await self._client.call("sessions", "EndSession", {"session_id": self.id})
            except NotFound:
                pass
            self._has_ended = True
            self._client.metrics.active_sessions -= 1

    def _within(self, options: CallOptions | None) -> CallOptions:
        return (options or CallOptions()).having(session=self.id)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.end()
        except Error:
            # What went wrong within says more; the service ends a session that is not used by itself.
            if error is None:
                raise
