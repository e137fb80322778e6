"""What belongs to a call but not to its request, and the ways that a call can take."""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass
from enum import StrEnum

from op_dbus.errors import invalid

MAX_ID_BYTES = 128

#: The ids that a call may bear, and their names as options on D-Bus.
IDS = {"request_id": "request-id", "session": "session-id", "approval_id": "approval-id"}


class Way(StrEnum):
    """A way for calls to reach the service."""

    #: The interfaces of op-dbus on D-Bus.
    DBUS = "dbus"
    #: The older interface on D-Bus, `org.dbusmcp.Agent`.
    LEGACY = "legacy"
    #: gRPC.
    GRPC = "grpc"


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What belongs to a call but not to its request."""

    #: How many seconds the call may take with all that is tried; that of the settings if None.
    timeout: float | None = None
    #: The name of the request: a second call with the same name gets the first one's result.
    request_id: str | None = None
    #: The session that the call belongs to.
    session: str | None = None
    #: The approval that the call has, from the error of the same call made before.
    approval_id: str | None = None
    #: The W3C trace context that the call belongs to.
    traceparent: str | None = None
    #: What becomes of a stream's work when the client goes away or gives the stream up: `continue` or
    #: `cancel`. If it is not said, it is cancelled when it is given up, and goes on while the connection is
    #: lost.
    on_disconnect: str | None = None
    #: Whether the user may be asked to authenticate for the call, which then waits for him.
    interactive: bool = False

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise invalid("timeout", "must be more than 0 s")
        if self.on_disconnect not in (None, "continue", "cancel"):
            raise invalid("on-disconnect", "must be continue or cancel")
        for name in IDS:
            text = getattr(self, name)
            if text is None:
                continue
            visible = all(" " <= character <= "~" for character in text)
            if not visible or not 0 < len(text) <= MAX_ID_BYTES:
                raise invalid(IDS[name], f"must be 1 to {MAX_ID_BYTES} visible ASCII characters")

    def travelling(self) -> dict[str, str]:
        """The texts that travel with a call, by their names on D-Bus; on gRPC see :mod:`grpc_way`."""
        named = {**IDS, "traceparent": "traceparent", "on_disconnect": "on-disconnect"}
        return {
            option: value for name, option in named.items() if (value := getattr(self, name)) is not None
        }

    def having(self, **changes: object) -> CallOptions:
        """The same options with some of them changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def new_request_id() -> str:
    """A name for a request that no other has."""
    return str(uuid.uuid4())
