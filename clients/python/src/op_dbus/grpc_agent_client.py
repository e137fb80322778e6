"""The client in the shape that chat programs know: sessions, executions by name with JSON, chunks, batches.

It speaks the contract `op_chat.agents`, so that agents and operations may have the names of older programs.
"""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from op_dbus.agents.op_chat import OpChatClient
from op_dbus.agents.op_chat_rust_pro import OpChatRustProClient
from op_dbus.call import json_object
from op_dbus.client import AgentClient
from op_dbus.errors import Failed, Internal, failed
from op_dbus.metrics import AgentMetrics
from op_dbus.options import CallOptions, Way
from op_dbus.proto.compat.op_chat import agents_pb2 as pb
from op_dbus.settings import Settings

#: What the last chunk of a stream that failed is called.
_ERROR_CHUNK = "error"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of what an execution gives, as it comes."""

    #: The text: a message of the operation as JSON, or a line of a program's output.
    content: str
    #: What it is: `result` for a message, `stdout` or `stderr` for a program's output.
    stream_type: str
    #: True for the last one, which may be empty.
    is_final: bool
    #: With what the program ended; 0 until the last one.
    exit_code: int


#: Hears a chunk; what it gives is awaited if need be, and the next chunk is read after that.
OnChunk = Callable[[Chunk], Awaitable[None] | None]

Arguments = dict[str, Any] | str | None


class GrpcAgentClient:
    """A client for chat programs, over gRPC. An empty `session_id` is no session."""

    def __init__(self, settings: Settings | None = None, **changes: Any) -> None:
        #: The client that this one stands on.
        self.client = AgentClient(settings, **{"via": Way.GRPC, **changes})
        self._executions = OpChatClient(self.client)
        self._rust_pro = OpChatRustProClient(self.client)
        self._sessions: set[str] = set()

    @property
    def metrics(self) -> AgentMetrics:
        """What this client counts of its own calls."""
        return self.client.metrics

    async def start_session(
        self, session_id: str, client_name: str, options: CallOptions | None = None
    ) -> list[str]:
        """Starts a session, or goes on with it if it is there, and gives the agents that are ready in it."""
        request = pb.StartSessionRequest(session_id=session_id, client_name=client_name)
        started = await self._executions.start_session(request, options)
        if not started.success:
            raise _failure(started.message)
        self._sessions.add(session_id)
        self.metrics.active_sessions = len(self._sessions)
        return list(started.started_agents)

    async def end_session(self, session_id: str, options: CallOptions | None = None) -> None:
        """Ends a session, and with it what is kept for it only."""
        request = pb.EndSessionRequest(session_id=session_id)
        ended = await self._executions.end_session(request, options)
        if not ended.success:
            raise Internal("the session was not ended")
        self._sessions.discard(session_id)
        self.metrics.active_sessions = len(self._sessions)

    async def execute(
        self,
        session_id: str,
        agent_id: str,
        operation: str,
        arguments: Arguments = None,
        options: CallOptions | None = None,
    ) -> Any:
        """Executes an operation and gives its result as a whole; that of a stream is a list."""
        request = _execution(session_id, agent_id, operation, arguments)
        result = _result(await self._executions.execute(request, options))
        if isinstance(result, Failed):
            raise result
        return result

    async def execute_stream(
        self,
        session_id: str,
        agent_id: str,
        operation: str,
        arguments: Arguments = None,
        on_chunk: OnChunk | None = None,
        options: CallOptions | None = None,
    ) -> None:
        """Executes an operation and gives each chunk to `on_chunk` as it comes."""
        request = _execution(session_id, agent_id, operation, arguments)
        chunks = self._executions.execute_stream(request, options)
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                if chunk.stream_type == _ERROR_CHUNK:
                    raise _failure(chunk.chunk)
                await _hear(
                    on_chunk,
                    Chunk(chunk.chunk, chunk.stream_type, chunk.is_final, chunk.exit_code),
                )

    async def batch_execute(
        self,
        session_id: str,
        calls: Iterable[tuple[str, str, Arguments]],
        parallel: bool = False,
        options: CallOptions | None = None,
    ) -> list[Any]:
        """Executes several operations in one round trip, side by side if `parallel`.

        The results are in the order of the calls, each as :meth:`execute` would give it, or the
        :class:`op_dbus.Failed` that it would raise.
        """
        requests = [_execution(session_id, *call) for call in calls]
        request = pb.BatchExecuteRequest(
            session_id=session_id, requests=requests, parallel=parallel
        )
        responses = self._executions.batch_execute(request, options)
        async with contextlib.aclosing(responses):
            results = [_result(response) async for response in responses]
        if len(results) != len(requests):
            raise Internal(f"{len(requests)} calls have {len(results)} results")
        return results

    async def cargo_build(
        self,
        session_id: str,
        path: str,
        release: bool = False,
        on_chunk: OnChunk | None = None,
        options: CallOptions | None = None,
    ) -> int:
        """Builds the package at `path` and gives each line of cargo's output to `on_chunk` as it comes; the
        number is what cargo ended with.

        Raises :class:`op_dbus.UnknownOperation` if the service has no agent for Rust.
        """
        request = pb.CargoRequest(session_id=session_id, path=path, release=release)
        exit_code = 0
        lines = self._rust_pro.build(request, options)
        async with contextlib.aclosing(lines):
            async for line in lines:
                exit_code = line.exit_code
                await _hear(on_chunk, Chunk(line.line, line.stream, line.is_final, exit_code))
        return exit_code

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


async def _hear(on_chunk: OnChunk | None, chunk: Chunk) -> None:
    heard = on_chunk(chunk) if on_chunk else None
    if inspect.isawaitable(heard):
        await heard


def _execution(
    session_id: str, agent_id: str, operation: str, arguments: Arguments
) -> pb.ExecuteRequest:
    return pb.ExecuteRequest(
        session_id=session_id,
        agent_id=agent_id,
        operation=operation,
        arguments_json=json_object(arguments),
    )


def _result(response: pb.ExecuteResponse) -> Any:
    """The result of an execution, or the error that it failed with."""
    if not response.success:
        return _failure(response.error)
    try:
        return json.loads(response.result_json)
    except ValueError as problem:
        return Internal(f"the service's answer cannot be read: {problem}")


def _failure(text: str) -> Failed:
    """A failure as the contract writes it: the reason, a colon, the text for people."""
    reason, _, message = text.partition(": ")
    return failed(reason, message) if message else Internal(text)
