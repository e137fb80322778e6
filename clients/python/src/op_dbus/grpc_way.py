"""Calls over gRPC. Which way a call takes, and whether it is tried again, is said elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from typing import Any, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from op_dbus import grpc_status, grpc_tasks
from op_dbus.address import GrpcAddress
from op_dbus.call import MAX_ANSWER_BYTES, Call
from op_dbus.credentials import Credentials
from op_dbus.errors import Error, UnknownOperation
from op_dbus.options import CallOptions, Way
from op_dbus.proto.opdbus.v1 import agents_pb2

T = TypeVar("T")

#: The longest time that a `grpc-timeout` can say, in seconds: eight digits of hours.
_MAX_TIMEOUT = 99_999_999 * 3600.0

_CALL_JSON = "/opdbus.v1.AgentsService/CallJson"


class GrpcWay:
    """gRPC at one address. The connection is made with the first call and again when it was lost."""

    way = Way.GRPC

    def __init__(
        self,
        address: GrpcAddress,
        credentials: Credentials,
        *,
        connect_timeout: float,
        pooled: bool = True,
        client_name: str | None = None,
    ) -> None:
        self._address = address
        self._secured = credentials.channel(address)
        self._metadata = [("authorization", f"Bearer {credentials.token}")] if credentials.token else []
        self._metadata += [("opdbus-client-name", client_name)] if client_name else []
        self._connect_timeout = connect_timeout
        self._pooled = pooled
        self._channel: grpc.aio.Channel | None = None

    @property
    def target(self) -> str:
        """What it is connected to, for people."""
        return f"gRPC at {self._address}"

    async def unary(self, call: Call[T], options: CallOptions) -> T:
        """Makes a call with one request and one answer. Cancelling gives the call up."""
        if isinstance(call.request, str):
            return await self._call_json(call, options)
        return await self.message(call.operation.path, call.request, call.answer, options)

    async def _call_json(self, call: Call[T], options: CallOptions) -> T:
        request = agents_pb2.CallJsonRequest(
            agent=call.operation.agent, operation=call.operation.name, arguments=call.json
        )
        response = await self.message(_CALL_JSON, request, agents_pb2.CallJsonResponse, options)
        return call.read_json(response.result)

    async def message(self, path: str, request: Message, answer: type[T], options: CallOptions) -> T:
        """Makes a call by its path."""
        async with self._connected() as channel:
            method = channel.unary_unary(
                path,
                request_serializer=_encoded,
                response_deserializer=cast(Any, answer).FromString,
            )
            try:
                response = await method(
                    request, timeout=_time(options), metadata=self._metadata_of(options)
                )
            except grpc.aio.AioRpcError as status:
                raise self._error(status, channel, options) from None
            return cast(T, response)

    def stream(self, call: Call[T], options: CallOptions) -> AsyncGenerator[T]:
        """Makes a call with one request and many answers. Closing the iterator cancels the work. If the
        connection is lost, the rest of the messages comes over the next one.
        """
        return grpc_tasks.stream(self, call, options)

    async def messages(
        self,
        path: str,
        request: Message,
        answer: type[T],
        options: CallOptions,
        began: Callable[[str], None] = lambda task: None,
    ) -> AsyncGenerator[T]:
        """The messages of a method's own stream; `began` hears the id of its task before the first."""
        async with self._connected() as channel:
            method = channel.unary_stream(
                path,
                request_serializer=_encoded,
                response_deserializer=cast(Any, answer).FromString,
            )
            running = method(request, timeout=_time(options), metadata=self._metadata_of(options))
            try:
                metadata = await running.initial_metadata()
                began(str(grpc_status.value_of(metadata, "opdbus-task-id") or ""))
                async for message in running:
                    yield cast(T, message)
            except grpc.aio.AioRpcError as status:
                raise self._error(status, channel, options) from None
            finally:
                running.cancel()

    async def exchange(
        self, call: Call[T], requests: AsyncIterable[Message], options: CallOptions
    ) -> AsyncGenerator[T]:
        """Makes a call with many requests; it gives one answer or many."""
        if call.answer is str or not call.operation.path:
            raise UnknownOperation(f"{call.operation.label} takes a stream of messages, not JSON")
        decode = cast(Any, call.answer).FromString
        async with self._connected() as channel:
            shape: Any = channel.stream_unary
            if call.operation.gives_stream:
                shape = channel.stream_stream
            method = shape(
                call.operation.path, request_serializer=_encoded, response_deserializer=decode
            )
            running = method(
                requests, timeout=_time(options), metadata=self._metadata_of(options)
            )
            try:
                if call.operation.gives_stream:
                    async for message in running:
                        yield cast(T, message)
                else:
                    yield cast(T, await running)
            except grpc.aio.AioRpcError as status:
                raise self._error(status, channel, options) from None
            finally:
                running.cancel()

    async def close(self) -> None:
        """Gives up the connection and what runs on it."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[grpc.aio.Channel]:
        """The channel, or without pooling one for this call alone."""
        if self._pooled:
            self._channel = self._channel or self._open()
            yield self._channel
            return
        async with self._open() as channel:
            yield channel

    def _open(self) -> grpc.aio.Channel:
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
            ("grpc.min_reconnect_backoff_ms", round(self._connect_timeout * 1000)),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            # Neither a connection of another client of this process, nor a proxy from its environment.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ]
        if self._address.path is not None:
            # gRPC would send the path of the socket, which many servers refuse as an authority.
            options.append(("grpc.default_authority", "localhost"))
        if self._secured is None:
            return grpc.aio.insecure_channel(self._address.target, options)
        return grpc.aio.secure_channel(self._address.target, self._secured, options)

    def _metadata_of(self, options: CallOptions) -> list[tuple[str, str]]:
        metadata = list(self._metadata)
        for name, value in options.travelling().items():
            metadata.append((name if name == "traceparent" else f"opdbus-{name}", value))
        if options.interactive:
            metadata.append(("opdbus-interactive", "true"))
        return metadata

    def _error(
        self, status: grpc.aio.AioRpcError, channel: grpc.aio.Channel, options: CallOptions
    ) -> Error:
        is_connected = channel.get_state() is grpc.ChannelConnectivity.READY
        return grpc_status.error(status, self.target, options.timeout, is_connected)


def _encoded(message: Message) -> bytes:
    return message.SerializeToString()


def _time(options: CallOptions) -> float | None:
    return None if options.timeout is None else min(options.timeout, _MAX_TIMEOUT)
