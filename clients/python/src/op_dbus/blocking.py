"""The same client without an event loop: each method waits for its answer. It may be used by several threads.

    from op_dbus.blocking import AgentClient

    with AgentClient() as client:
        print(client.call("memory", "Recall", {"key": "build-host"}))
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Coroutine, Iterable, Iterator
from functools import cache
from types import TracebackType
from typing import Any, Self, TypeVar

from google.protobuf.message import Message

from op_dbus import agent, client
from op_dbus.call import Call
from op_dbus.metrics import AgentMetrics
from op_dbus.options import CallOptions
from op_dbus.proto.opdbus.v1 import migration_pb2
from op_dbus.session import Session as _Session
from op_dbus.settings import Settings

T = TypeVar("T")
M = TypeVar("M", bound=Message)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One event loop for all blocking clients of the process, on a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="op-dbus", daemon=True).start()
    return loop


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Waits for work on that loop. If the wait is interrupted, as by Ctrl-C, the work is cancelled."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def iterate(generator: AsyncGenerator[T]) -> Iterator[T]:
    """The messages of a stream. Closing the iterator cancels the work."""
    end = object()

    async def following() -> Any:
        return await anext(generator, end)

    try:
        while (message := wait(following())) is not end:
            yield message
    finally:
        wait(generator.aclose())


async def _fed(requests: Iterable[Message]) -> AsyncIterator[Message]:
    """Requests that are made on a thread of their own, so that making them holds up nothing else."""
    iterator, end = iter(requests), object()
    while (request := await asyncio.to_thread(next, iterator, end)) is not end:
        yield request  # type: ignore[misc]


class AgentClient:
    """:class:`op_dbus.AgentClient`, waiting for each answer."""

    def __init__(self, settings: Settings | None = None, **changes: Any) -> None:
        async def made() -> client.AgentClient:
            return client.AgentClient(settings, **changes)

        #: The client that this one stands on.
        self.awaited = wait(made())

    @property
    def metrics(self) -> AgentMetrics:
        """What this client counts of its own calls."""
        return self.awaited.metrics

    @property
    def stages(self) -> migration_pb2.GetRoutesResponse | None:
        """The stages of this client's calls as the service last told them; None if it never did."""
        return self.awaited.stages

    def call(
        self,
        agent: str,
        operation: str,
        arguments: dict[str, Any] | str | None = None,
        options: CallOptions | None = None,
    ) -> dict[str, Any]:
        """See :meth:`op_dbus.AgentClient.call`."""
        return wait(self.awaited.call(agent, operation, arguments, options))

    def call_json(
        self, agent: str, operation: str, arguments: str, options: CallOptions | None = None
    ) -> str:
        """See :meth:`op_dbus.AgentClient.call_json`."""
        return wait(self.awaited.call_json(agent, operation, arguments, options))

    def stream(
        self,
        agent: str,
        operation: str,
        arguments: dict[str, Any] | str | None = None,
        options: CallOptions | None = None,
    ) -> Iterator[dict[str, Any]]:
        """See :meth:`op_dbus.AgentClient.stream`."""
        return iterate(self.awaited.stream(agent, operation, arguments, options))

    def ping(self, payload: bytes = b"", options: CallOptions | None = None) -> None:
        """See :meth:`op_dbus.AgentClient.ping`."""
        wait(self.awaited.ping(payload, options))

    def list_agents(self, options: CallOptions | None = None) -> list[dict[str, Any]]:
        """See :meth:`op_dbus.AgentClient.list_agents`."""
        return wait(self.awaited.list_agents(options))

    def describe_agent(
        self, agent: str, operation: str = "", options: CallOptions | None = None
    ) -> dict[str, Any]:
        """See :meth:`op_dbus.AgentClient.describe_agent`."""
        return wait(self.awaited.describe_agent(agent, operation, options))

    def batch(
        self, items: list[dict[str, Any]], options: CallOptions | None = None, **batch: Any
    ) -> dict[str, Any]:
        """See :meth:`op_dbus.AgentClient.batch`."""
        return wait(self.awaited.batch(items, options, **batch))

    def status(self, options: CallOptions | None = None) -> dict[str, Any]:
        """See :meth:`op_dbus.AgentClient.status`."""
        return wait(self.awaited.status(options))

    def start_session(
        self,
        client_name: str,
        session_id: str = "",
        *,
        token: str = "",
        metadata: dict[str, str] | None = None,
        options: CallOptions | None = None,
    ) -> Session:
        """See :meth:`op_dbus.AgentClient.start_session`."""
        started = self.awaited.start_session(
            client_name, session_id, token=token, metadata=metadata, options=options
        )
        return Session(wait(started))

    def close(self) -> None:
        """Gives up the connections and what runs on them."""
        wait(self.awaited.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Session:
    """:class:`op_dbus.Session`, waiting for each answer."""

    def __init__(self, awaited: _Session) -> None:
        #: The session that this one stands on.
        self.awaited = awaited
        self.id, self.token, self.agents = awaited.id, awaited.token, awaited.agents
        self.options = awaited.options

    def call(
        self,
        agent: str,
        operation: str,
        arguments: dict[str, Any] | str | None = None,
        options: CallOptions | None = None,
    ) -> dict[str, Any]:
        """See :meth:`op_dbus.AgentClient.call`."""
        return wait(self.awaited.call(agent, operation, arguments, options))

    def stream(
        self,
        agent: str,
        operation: str,
        arguments: dict[str, Any] | str | None = None,
        options: CallOptions | None = None,
    ) -> Iterator[dict[str, Any]]:
        """See :meth:`op_dbus.AgentClient.stream`."""
        return iterate(self.awaited.stream(agent, operation, arguments, options))

    def end(self) -> None:
        """Ends it. One that has ended already is no error."""
        wait(self.awaited.end())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        wait(self.awaited.__aexit__(kind, error, trace))


class BlockingAgent:
    """What the generated blocking client of each agent stands on."""

    AGENT = ""

    def __init__(self, client: AgentClient, options: CallOptions | None = None) -> None:
        self._router = client.awaited.router
        self._options = options or CallOptions()

    def _unary(
        self, name: str, request: Message, answer: type[M], options: CallOptions | None
    ) -> M:
        call = Call(agent.operation_of(self.AGENT, name), request, answer)
        return wait(self._router.unary(call, options or self._options))

    def _stream(
        self, name: str, request: Message, answer: type[M], options: CallOptions | None
    ) -> Iterator[M]:
        call = Call(agent.operation_of(self.AGENT, name), request, answer)
        return iterate(self._router.stream(call, options or self._options))

    def _exchange(
        self, name: str, requests: Iterable[Message], answer: type[M], options: CallOptions | None
    ) -> Iterator[M]:
        return iterate(self._exchanged(name, _fed(requests), answer, options))

    def _send(
        self, name: str, requests: Iterable[Message], answer: type[M], options: CallOptions | None
    ) -> M:
        return wait(agent.only(self._exchanged(name, _fed(requests), answer, options), name))

    def _exchanged(
        self,
        name: str,
        requests: AsyncIterable[Message],
        answer: type[M],
        options: CallOptions | None,
    ) -> AsyncGenerator[M]:
        call = Call(agent.operation_of(self.AGENT, name), "", answer)
        return self._router.exchange(call, requests, options or self._options)
