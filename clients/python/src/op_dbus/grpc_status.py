"""What a gRPC status says, as this package's errors. It chooses nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from op_dbus.errors import (
    Attempt,
    Error,
    ErrorKind,
    Failed,
    Unreachable,
    failed,
    lost,
    no_answer,
)

_DETAILS = "grpc-status-details-bin"

#: What gRPC says when it has not even connected, so that nothing was sent.
_NOT_CONNECTED = ("failed to connect to all addresses", "DNS resolution failed")

_Code = grpc.StatusCode

#: What a code means when nothing else is said: it comes from the gRPC library or from something between.
_KIND_OF_CODE = {
    _Code.CANCELLED: ErrorKind.CANCELLED,
    _Code.INVALID_ARGUMENT: ErrorKind.INVALID_ARGUMENT,
    _Code.OUT_OF_RANGE: ErrorKind.INVALID_ARGUMENT,
    _Code.DEADLINE_EXCEEDED: ErrorKind.DEADLINE_EXCEEDED,
    _Code.NOT_FOUND: ErrorKind.NOT_FOUND,
    _Code.ALREADY_EXISTS: ErrorKind.ALREADY_EXISTS,
    _Code.PERMISSION_DENIED: ErrorKind.ACCESS_DENIED,
    _Code.RESOURCE_EXHAUSTED: ErrorKind.LIMIT_EXCEEDED,
    _Code.ABORTED: ErrorKind.CONFLICT,
    _Code.FAILED_PRECONDITION: ErrorKind.CONFLICT,
    _Code.UNIMPLEMENTED: ErrorKind.UNKNOWN_OPERATION,
    _Code.UNAVAILABLE: ErrorKind.UNAVAILABLE,
    _Code.UNAUTHENTICATED: ErrorKind.UNAUTHENTICATED,
}


def error(
    status: grpc.aio.AioRpcError, target: str, timeout: float | None, is_connected: bool
) -> Error:
    """The error for a status. `is_connected` says whether the connection still stood when it came."""
    said = details(status)
    text = status.details() or status.code().name.lower().replace("_", " ")
    if said is not None:
        return said
    code = status.code()
    if code is _Code.UNAVAILABLE and text.startswith(_NOT_CONNECTED):
        return Unreachable((Attempt(target, text.split("last error: ")[-1]),))
    if code is _Code.DEADLINE_EXCEEDED and timeout is not None:
        over = no_answer(timeout)
        # With the connection in order it is the call that took too long, not the way that failed.
        over.lost = not is_connected
        return over
    if code in (_Code.UNAVAILABLE, _Code.CANCELLED) or _is_reset(code, text):
        return lost(text)
    return failed(_KIND_OF_CODE.get(code, ErrorKind.INTERNAL), text)


def details(status: grpc.aio.AioRpcError) -> Failed | None:
    """What the service itself says of a failure; None if the status is not its own."""
    packed = value_of(status.trailing_metadata(), _DETAILS)
    if not isinstance(packed, bytes):
        return None
    reason, facts, retry_after = "", {}, None
    for detail in status_pb2.Status.FromString(packed).details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            reason, facts = info.reason, dict(info.metadata)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
            retry_after = delay.seconds + delay.nanos / 1e9
    reason = reason or _KIND_OF_CODE.get(status.code(), ErrorKind.INTERNAL)
    return failed(reason, status.details() or reason, facts, retry_after)


def value_of(metadata: Iterable[Any] | None, name: str) -> str | bytes | None:
    """The first value of that name; releases of grpcio differ in what else their metadata can do."""
    return next((value for known, value in metadata or () if known == name), None)


def _is_reset(code: grpc.StatusCode, text: str) -> bool:
    """True if the stream ended without a status of the service."""
    return code in (_Code.INTERNAL, _Code.UNKNOWN) and (
        "RST_STREAM" in text or "Stream removed" in text
    )
