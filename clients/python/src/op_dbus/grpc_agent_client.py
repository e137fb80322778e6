"""The client that op-chat was promised: sessions, single calls, streams and batches over gRPC."""

from __future__ import annotations

import base64
import contextlib
import inspect
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from op_dbus.call import json_object
from op_dbus.client import AgentClient
from op_dbus.errors import Failed, failed
from op_dbus.metrics import AgentMetrics
from op_dbus.options import CallOptions, Way
from op_dbus.session import Session
from op_dbus.settings import Settings


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of the result of a stream, as it came."""

    #: What a program printed; of any other message its JSON.
    content: str
    #: `stdout` or `stderr` for what a program printed, else `result`.
    stream_type: str = "result"
    #: True for the last one, which is empty.
    is_final: bool = False
    #: The message that it was.
    message: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, message: dict[str, Any]) -> Chunk:
        """The chunk that a message is."""
        printed = message.get("chunk")
        if isinstance(printed, dict) and str(printed.get("stream")).startswith("STREAM_STD"):
            data = base64.b64decode(printed.get("data", ""))
            kind = printed["stream"].removeprefix("STREAM_").lower()
            return cls(data.decode("utf-8", "replace"), kind, message=message)
        return cls(json.dumps(message), message=message)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What came of one call of a batch: `result`, or `error` if it failed or was not made."""

    result: dict[str, Any] | None
    error: Failed | None


OnChunk = Callable[[Chunk], Awaitable[None] | None]


class GrpcAgentClient:
    """Calls agents over gRPC, each call in a session that the client names."""

    def __init__(self, settings: Settings | None = None, **changes: Any) -> None:
        #: The client that this one stands on.
        self.client = AgentClient(settings, **{"via": Way.GRPC, **changes})
        self._sessions: dict[str, Session] = {}

    @property
    def metrics(self) -> AgentMetrics:
        """What this client counts of its own calls."""
        return self.client.metrics

    async def start_session(self, session_id: str, client_name: str) -> list[str]:
        """Starts a session, or resumes one that this client started. Gives the agents that are ready."""
        known = self._sessions.get(session_id)
        session = await self.client.start_session(
            client_name, session_id, token=known.token if known else ""
        )
        if known is not None:
            self.metrics.active_sessions -= 1
        self._sessions[session.id] = session
        return session.agents

    async def end_session(self, session_id: str) -> None:
        """Ends a session, and with it what is kept for it only."""
        session = self._sessions.pop(session_id, None)
        if session is not None:
            await session.end()
        else:
            await self.client.call("sessions", "EndSession", {"session_id": session_id})

    async def execute(
        self,
        session_id: str,
        agent: str,
        operation: str,
        arguments: dict[str, Any] | str | None = None,
        options: CallOptions | None = None,
    ) -> dict[str, Any]:
        """Calls an operation in a session and gives its response."""
        within = (options or CallOptions()).having(session=session_id)
        return await self.client.call(agent, operation, arguments, within)

    async def execute_stream(
        self,
        session_id: str,
        agent: str,
        operation: str,
        arguments: dict[str, Any] | str | None = None,
        on_chunk: OnChunk | None = None,
        options: CallOptions | None = None,
    ) -> dict[str, Any]:
        """Calls an operation that gives a stream; `on_chunk`, awaited if need be, hears each message as it
        comes. Gives the last message, which says how it ended; an empty one if there was none.
        """

        async def hear(chunk: Chunk) -> None:
            heard = on_chunk(chunk) if on_chunk else None
            if inspect.isawaitable(heard):
                await heard

        within = (options or CallOptions()).having(session=session_id)
        last: dict[str, Any] = {}
        async with contextlib.aclosing(
            self.client.stream(agent, operation, arguments, within)
        ) as messages:
            async for last in messages:
                await hear(Chunk.of(last))
        await hear(Chunk("", is_final=True))
        return last

    async def batch_execute(
        self,
        session_id: str,
        calls: Iterable[tuple[str, str, dict[str, Any] | str | None]],
        parallel: bool = False,
        options: CallOptions | None = None,
    ) -> list[BatchResult]:
        """Makes several calls, each an agent, an operation and arguments, in one round trip."""
        items = [
            {"agent": agent, "operation": operation, "arguments": json_object(arguments)}
            for agent, operation, arguments in calls
        ]
        within = (options or CallOptions()).having(session=session_id)
        answer = await self.client.call(
            "calls", "BatchCall", {"items": items, "parallel": parallel}, within
        )
        return [_batch_result(result) for result in answer["results"]]

    async def cargo_build(
        self,
        session_id: str,
        path: str,
        release: bool = False,
        on_chunk: OnChunk | None = None,
        options: CallOptions | None = None,
    ) -> dict[str, Any]:
        """Builds a Rust project with the agent `rust_pro` and gives its result; fails with
        :class:`op_dbus.UnknownAgent` where the service has no such agent.
        """
        arguments = {"path": path, "release": release}
        return await self.execute_stream(
            session_id, "rust_pro", "Build", arguments, on_chunk, options
        )

    async def close(self) -> None:
        """Gives up the connections and what runs on them. Sessions live on until they are idle too long."""
        await self.client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def _batch_result(result: dict[str, Any]) -> BatchResult:
    if result["status"] == "BATCH_STATUS_OK":
        return BatchResult(json.loads(result["result"]), None)
    failure = result.get("failure", {})
    after = failure.get("retry_after")
    error = failed(
        failure.get("reason", ""),
        failure.get("message", "it was not made"),
        failure.get("facts", {}),
        float(after.removesuffix("s")) if after else None,
    )
    return BatchResult(None, error)
