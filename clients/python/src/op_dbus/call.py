"""A call as the ways take it: which operation, with what, and what kind of answer is wanted."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

from google.protobuf import json_format
from google.protobuf.message import Message

from op_dbus.contract import Operation
from op_dbus.errors import Internal, invalid
from op_dbus.options import CallOptions, Way

T = TypeVar("T")

#: How much longer than the call's own time an answer is waited for, in seconds, so that the service's own
#: error, which says more, comes first.
GRACE = 2.0

#: The largest answer that is taken, in bytes: the most that fits into one D-Bus message.
MAX_ANSWER_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A call with its request as a message or as the text of a JSON object. The answer, or each message of
    it, comes as `answer`: a type of message, or `str` for JSON.
    """

    operation: Operation
    request: Message | str
    answer: type[T]

    @property
    def json(self) -> str:
        """The request as JSON."""
        return self.request if isinstance(self.request, str) else to_json(self.request)

    def read_json(self, text: str) -> T:
        """An answer, or a message of it, that came as JSON."""
        return from_json(text, self.answer)


class Connection(Protocol):
    """One way to the service. Each is safe for calls side by side on one event loop."""

    @property
    def way(self) -> Way:
        """Which way it is."""

    @property
    def target(self) -> str:
        """What it is connected to, for people."""

    async def unary(self, call: Call[T], options: CallOptions) -> T:
        """Makes a call with one request and one answer. Cancelling gives the call up."""

    def stream(self, call: Call[T], options: CallOptions) -> AsyncGenerator[T]:
        """Makes a call with one request and many answers. Closing the iterator cancels the work."""

    def exchange(
        self, call: Call[T], requests: AsyncIterable[Message], options: CallOptions
    ) -> AsyncGenerator[T]:
        """Makes a call with many requests; it gives one answer or many. `call.request` is not used."""

    async def close(self) -> None:
        """Gives up the connection and what runs on it."""


def to_json(message: Message) -> str:
    """A message in protobuf's JSON form with the contract's names, on one line."""
    return json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None)


def from_json(text: str, answer: type[T]) -> T:
    """A message from its JSON form, or the text itself. Fields of a newer service are left out."""
    if answer is str:
        return cast(T, text)
    message = cast(Message, answer())
    try:
        json_format.Parse(text, message, ignore_unknown_fields=True)
    except json_format.ParseError as problem:
        raise Internal(f"the service's answer cannot be read: {problem}") from None
    return cast(T, message)


def json_object(arguments: dict[str, Any] | str | None) -> str:
    """Arguments as the text of a JSON object. A text is taken as it is; whether it is one, the service
    checks.
    """
    try:
        if isinstance(arguments, str):
            arguments.encode()
            return arguments
        return json.dumps(arguments or {}, allow_nan=False)
    except (TypeError, ValueError) as problem:
        raise invalid("arguments", str(problem)) from None
