"""The stages of a client's calls as the service tells them, and what each stage means for a call."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from op_dbus.contract import Operation
from op_dbus.options import Way
from op_dbus.proto.opdbus.v1 import migration_pb2 as pb

#: What the choice at stage `canary` is made among.
WHOLE = 10_000

#: The largest file of kept stages that is read, in bytes.
_MAX_BYTES = 1024 * 1024


def place(salt: str, id_: str) -> int:
    """Where a session or client stands, from 0 to 9,999: it takes gRPC if that is less than the share."""
    digest = hashlib.sha256(salt.encode() + b"\0" + id_.encode()).digest()
    return int.from_bytes(digest[:8], "big") % WHOLE


@dataclass(frozen=True, slots=True)
class Plan:
    """How a call goes."""

    #: The way it takes.
    way: Way
    #: The way that it may fall back on, where that is safe.
    fallback: Way | None = None
    #: True if it is made over gRPC as well and compared.
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class Routes:
    """The stages that hold."""

    told: pb.GetRoutesResponse

    def plan(self, operation: Operation, session: str | None, old: Way) -> Plan | None:
        """How a call goes; `old` is the client's way over D-Bus. None: no stage is known for it."""
        route = next((route for route in self.told.routes if _names(route, operation)), None)
        if route is None:
            return None
        grpc = Plan(Way.GRPC, fallback=old)
        if route.stage == pb.STAGE_SHADOW:
            return Plan(old, shadow=operation.is_read)
        if route.stage == pb.STAGE_CANARY:
            taken = place(route.salt, session or self.told.client) < route.share_per_10000
            return grpc if taken else Plan(old)
        if route.stage == pb.STAGE_GRPC:
            return grpc
        if route.stage == pb.STAGE_FINAL:
            return Plan(Way.GRPC)
        # A stage that this release does not know comes from a newer service; D-Bus serves at each but the
        # last, and then says where to go.
        return Plan(old)


def _names(route: pb.Route, operation: Operation) -> bool:
    """True if the route is about the operation."""
    return (not route.agents or operation.agent in route.agents) and (
        not route.operations or operation.label in route.operations
    )


def read_kept(path: Path) -> Routes | None:
    """The last known stages in a file. One that cannot be read is no knowledge."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        return Routes(pb.GetRoutesResponse.FromString(path.read_bytes()))
    except (OSError, DecodeError):
        return None


def keep(path: Path, routes: Routes) -> bool:
    """Puts the stages into a file, whole or not at all; False if that was not possible."""
    beside = path.with_name(path.name + ".part")
    try:
        beside.write_bytes(routes.told.SerializeToString())
        os.replace(beside, path)
    except OSError:
        return False
    return True
