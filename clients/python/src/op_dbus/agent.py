"""What the generated client of each agent stands on."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterable
from typing import TypeVar

from google.protobuf.message import Message

from op_dbus import contract
from op_dbus.call import Call
from op_dbus.client import AgentClient
from op_dbus.contract import Operation
from op_dbus.errors import UnknownOperation
from op_dbus.options import CallOptions

T = TypeVar("T", bound=Message)


class Agent:
    """Calls of one agent through a client."""

    AGENT = ""

    def __init__(self, client: AgentClient, options: CallOptions | None = None) -> None:
        self._client = client
        self._options = options or CallOptions()

    async def _unary(
        self, name: str, request: Message, answer: type[T], options: CallOptions | None
    ) -> T:
        call = Call(operation_of(self.AGENT, name), request, answer)
        return await self._client.router.unary(call, options or self._options)

    def _stream(
        self, name: str, request: Message, answer: type[T], options: CallOptions | None
    ) -> AsyncGenerator[T]:
        call = Call(operation_of(self.AGENT, name), request, answer)
        return self._client.router.stream(call, options or self._options)

    def _exchange(
        self,
        name: str,
        requests: AsyncIterable[Message],
        answer: type[T],
        options: CallOptions | None,
    ) -> AsyncGenerator[T]:
        call = Call(operation_of(self.AGENT, name), "", answer)
        return self._client.router.exchange(call, requests, options or self._options)

    async def _send(
        self,
        name: str,
        requests: AsyncIterable[Message],
        answer: type[T],
        options: CallOptions | None,
    ) -> T:
        return await only(self._exchange(name, requests, answer, options), name)


async def only(messages: AsyncGenerator[T], name: str) -> T:
    """The one answer of an operation that gives one."""
    async with contextlib.aclosing(messages):
        async for message in messages:
            return message
    raise UnknownOperation(f"{name} gave no answer")


def operation_of(agent: str, name: str) -> Operation:
    """An operation that the contract of this package has."""
    operation = contract.known(agent, name)
    if operation is None:
        raise UnknownOperation(f"the contract of this package has no {agent}.{name}")
    return operation


