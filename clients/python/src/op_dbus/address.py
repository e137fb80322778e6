"""Where the service may be found: the texts that people write for it. Nothing is connected here."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from op_dbus.errors import SettingsError

SERVICE_NAME = "org.opdbus.Agents1"
DEFAULT_ADDRESS = "unix:/run/op-dbus/grpc.sock"


@dataclass(frozen=True, slots=True)
class GrpcAddress:
    """A gRPC address: a Unix socket's path, or a host and port with or without TLS."""

    path: str | None = None
    host: str = ""
    port: int = 0
    secured: bool = False

    @classmethod
    def parse(cls, text: str) -> GrpcAddress:
        """Reads `unix:/PATH`, `http://HOST:PORT` or `https://HOST:PORT`.

        Raises :class:`SettingsError` if the text is none of them.
        """
        if text.startswith(("http://", "https://")):
            try:
                parts = urlsplit(text)
                host, port = parts.hostname, parts.port
            except ValueError as problem:
                raise SettingsError(f"{text!r} is no address: {problem}") from None
            if not host or not port or parts.path not in ("", "/") or parts.query or "@" in parts.netloc:
                raise SettingsError(f"{text!r} must be http(s)://HOST:PORT without a path")
            return cls(host=host, port=port, secured=parts.scheme == "https")
        path = text.removeprefix("unix:")
        path = path[2:] if path.startswith("///") else path
        if not path.startswith("/"):
            raise SettingsError(
                f"{text!r} must be unix:/PATH, http://HOST:PORT or https://HOST:PORT"
            )
        return cls(path=path)

    @property
    def target(self) -> str:
        """The target as gRPC names it."""
        if self.path is not None:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_here(self) -> bool:
        """True if nobody but this machine can listen to the connection."""
        if self.path is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"{'https' if self.secured else 'http'}://{self.target}"


@dataclass(frozen=True, slots=True)
class Bus:
    """A message bus: `system`, `session` or a D-Bus address."""

    text: str = "system"

    def __post_init__(self) -> None:
        if self.text not in ("system", "session") and ":" not in self.text:
            raise SettingsError(
                f"{self.text!r} must be system, session or a D-Bus address as unix:path=/run/dbus/bus"
            )

    def __str__(self) -> str:
        if self.text in ("system", "session"):
            return f"the {self.text} bus"
        return f"the bus {self.text}"
