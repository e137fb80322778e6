"""The operations of the contract that this package was built with, and of agents that came later."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.message import Message

from op_dbus.proto.files import MODULES
from op_dbus.proto.opdbus.v1 import options_pb2

_LEVELS = descriptor_pb2.MethodOptions


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of an agent."""

    #: The agent's id, as `memory`.
    agent: str
    #: The name, as `Recall`.
    name: str
    #: The method's path on gRPC; empty if it is not known.
    path: str = ""
    #: True if it changes nothing, so that it may be made twice at once.
    is_read: bool = False
    #: True if calling it again has no further effect.
    is_idempotent: bool = False
    takes_stream: bool = False
    gives_stream: bool = False
    #: True if it is one of op-dbus itself, which stands on the root object of the bus.
    is_manager: bool = False
    #: The type of the request; None if this package was built without the contract.
    request: type[Message] | None = None
    #: The type of the response, or of each message of it; None as above.
    response: type[Message] | None = None

    @property
    def label(self) -> str:
        """`memory.Recall`."""
        return f"{self.agent}.{self.name}"


def same_name(name: str) -> str:
    """What `BulkRecall`, `bulk_recall` and `bulk-recall` have in common."""
    return name.replace("_", "").replace("-", "").lower()


@cache
def _operations() -> dict[tuple[str, str], Operation]:
    found = {}
    for module in MODULES:
        descriptor: Any = importlib.import_module(module).DESCRIPTOR
        for service in descriptor.services_by_name.values():
            if not service.GetOptions().HasExtension(options_pb2.agent):
                continue
            agent = service.GetOptions().Extensions[options_pb2.agent]
            for method in service.methods:
                operation = _operation(agent, service, method)
                found[agent.id, same_name(method.name)] = operation
    return found


def _operation(agent: Any, service: Any, method: Any) -> Operation:
    from google.protobuf import message_factory

    level = method.GetOptions().idempotency_level
    return Operation(
        agent=agent.id,
        name=method.name,
        path=f"/{service.full_name}/{method.name}",
        is_read=level == _LEVELS.NO_SIDE_EFFECTS,
        is_idempotent=level in (_LEVELS.NO_SIDE_EFFECTS, _LEVELS.IDEMPOTENT),
        takes_stream=method.client_streaming,
        gives_stream=method.server_streaming,
        is_manager=agent.manager,
        request=message_factory.GetMessageClass(method.input_type),
        response=message_factory.GetMessageClass(method.output_type),
    )


def known(agent: str, name: str) -> Operation | None:
    """An operation of the contract that this package was built with."""
    return _operations().get((agent, same_name(name)))


def described(agent: str, description: dict[str, Any]) -> Operation:
    """An operation as `DescribeAgent` tells it, of an agent that this package does not know."""
    idempotent = bool(description.get("idempotent"))
    return Operation(
        agent=agent,
        name=str(description["name"]),
        path=str(description.get("grpc_path", "")),
        is_read=idempotent and description.get("risk") == "RISK_READ",
        is_idempotent=idempotent,
        takes_stream=bool(description.get("client_streaming")),
        gives_stream=bool(description.get("server_streaming")),
    )
