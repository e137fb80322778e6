"""Client of op-dbus: calls agents over gRPC or D-Bus, and moves from one to the other as it is told.

    from op_dbus import AgentClient

    async with AgentClient() as client:
        await client.call("memory", "Remember", {"key": "build-host", "value": "atlas"})
        print(await client.call("memory", "Recall", {"key": "build-host"}))

Typed clients are in `op_dbus.agents`, the same without an event loop in `op_dbus.blocking`.
"""

from op_dbus.address import Bus, GrpcAddress
from op_dbus.breaker import BreakerState
from op_dbus.client import AgentClient
from op_dbus.credentials import Credentials
from op_dbus.errors import (
    AccessDenied,
    AlreadyExists,
    ApprovalRequired,
    Attempt,
    BackendFailed,
    BackendMissing,
    BackendUnavailable,
    Cancelled,
    Conflict,
    DeadlineExceeded,
    Error,
    ErrorKind,
    Failed,
    Internal,
    InvalidArgument,
    LimitExceeded,
    Migrated,
    NotFound,
    PathOutsideRoot,
    SandboxUnavailable,
    SettingsError,
    Unauthenticated,
    Unavailable,
    UnknownAgent,
    UnknownOperation,
    Unreachable,
)
from op_dbus.grpc_agent_client import Chunk, GrpcAgentClient
from op_dbus.metrics import AgentMetrics
from op_dbus.options import CallOptions, Way, new_request_id
from op_dbus.session import Session
from op_dbus.settings import Settings

__all__ = [
    "AccessDenied",
    "AgentClient",
    "AgentMetrics",
    "AlreadyExists",
    "ApprovalRequired",
    "Attempt",
    "BackendFailed",
    "BackendMissing",
    "BackendUnavailable",
    "BreakerState",
    "Bus",
    "CallOptions",
    "Cancelled",
    "Chunk",
    "Conflict",
    "Credentials",
    "DeadlineExceeded",
    "Error",
    "ErrorKind",
    "Failed",
    "GrpcAddress",
    "GrpcAgentClient",
    "Internal",
    "InvalidArgument",
    "LimitExceeded",
    "Migrated",
    "NotFound",
    "PathOutsideRoot",
    "SandboxUnavailable",
    "Session",
    "Settings",
    "SettingsError",
    "Unauthenticated",
    "Unavailable",
    "UnknownAgent",
    "UnknownOperation",
    "Unreachable",
    "Way",
    "new_request_id",
]
