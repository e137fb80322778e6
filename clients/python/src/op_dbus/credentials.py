"""By what a client is known to a service that does not see its process, and how it knows the service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

from op_dbus.address import GrpcAddress
from op_dbus.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client has beside an address. All of it is for gRPC; on D-Bus the bus says who calls."""

    #: The roots, as PEM, of which one must have signed the server's certificate. No others are known.
    ca: bytes | None = None
    #: The client's own certificate, as PEM.
    certificate: bytes | None = None
    #: Its key, as PEM.
    key: bytes | None = None
    #: A token, which every call then bears.
    token: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise SettingsError("a certificate needs its key, and a key its certificate")
        token = self.token
        if token is not None and (not token or not all("!" <= c <= "~" for c in token)):
            raise SettingsError("the token file holds no token")

    @classmethod
    def from_files(
        cls,
        ca: str | None = None,
        certificate: str | None = None,
        key: str | None = None,
        token: str | None = None,
    ) -> Credentials:
        """Reads them from files. Raises :class:`SettingsError` naming a file that cannot be read."""

        def read(path: str | None) -> bytes | None:
            try:
                return Path(path).read_bytes() if path else None
            except OSError as problem:
                raise SettingsError(f"{path}: {problem.strerror}") from None

        text = read(token)
        return cls(
            ca=read(ca),
            certificate=read(certificate),
            key=read(key),
            token=text.decode("ascii", "replace").strip() if text is not None else None,
        )

    def channel(self, address: GrpcAddress) -> grpc.ChannelCredentials | None:
        """What TLS needs; None for an address without it.

        Raises :class:`SettingsError` if a root is missing, or a token would travel in the open.
        """
        if not address.secured:
            if self.token is not None and not address.is_here:
                raise SettingsError(
                    "a token is not sent to another machine without TLS; use https"
                )
            return None
        if self.ca is None:
            raise SettingsError("https needs the root that signed the server's certificate (ca)")
        return grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)

    def __repr__(self) -> str:
        given = ", ".join(
            f"{name}={getattr(self, name) is not None}"
            for name in ("ca", "certificate", "key", "token")
        )
        return f"Credentials({given})"
