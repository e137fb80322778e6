"""How a client reaches the service: from the environment, the configuration file and the program itself.

Each setting comes from the first of these that says it: the environment, the files (`/etc/op-dbus/grpc.toml`
and then `grpc.toml.d/*.toml`, or the file that `OP_DBUS_CONFIG` names and what stands in the folder beside
it), the default. What a program sets has the last word. The table of the variables is in the README; it is
that of the Rust library.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from op_dbus.address import DEFAULT_ADDRESS, SERVICE_NAME, Bus, GrpcAddress
from op_dbus.credentials import Credentials
from op_dbus.errors import SettingsError
from op_dbus.options import Way

DEFAULT_CONFIG = "/etc/op-dbus/grpc.toml"

#: What a client may call itself.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")

#: The largest configuration file, in bytes. A larger one is some other file.
_MAX_FILE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """How the service is reached, and what holds for every call; times are in seconds."""

    #: The one way that calls take; None (`auto`): the way that the rollout says.
    via: Way | None = None
    #: Where gRPC is served.
    address: GrpcAddress = field(default_factory=lambda: GrpcAddress.parse(DEFAULT_ADDRESS))
    #: The message bus.
    bus: Bus = field(default_factory=Bus)
    #: The service's name on it.
    name: str = SERVICE_NAME
    #: How long connecting may take.
    connect_timeout: float = 5.0
    #: How long a call may take, unless it says so itself. Streams have no time but their own.
    request_timeout: float = 30.0
    #: How often a call that is safe to repeat is tried again.
    max_retries: int = 3
    #: Whether calls share a connection, which is then kept; else each makes its own and closes it.
    pool_connections: bool = True
    #: What the client calls itself, as `op-chat`. Nothing is permitted by it; the rollout's rules may name
    #: it, and the record of who still uses D-Bus shows it.
    client_name: str | None = None
    #: The session that calls belong to, unless they say so themselves.
    session: str | None = None
    #: By what the client is known where the service does not see its process.
    credentials: Credentials = field(default_factory=Credentials)
    #: The client's way over D-Bus; only a program sets it: `legacy` while it needs the older interface.
    old: Way = Way.DBUS
    #: Whether each call that is not idempotent gets a request id, unless it has one, so that it can be
    #: tried again safely. The service carries a call with one to its end even if
    #: it is given up.
    mint_request_ids: bool = False
    #: A file for the last known stages of the rollout, for a start without the service.
    routes_file: Path | None = None

    def __post_init__(self) -> None:
        if self.client_name is not None and not _NAME.fullmatch(self.client_name):
            raise SettingsError(
                "client_name: must be 1 to 64 letters, digits, dots, underscores and dashes"
            )
        if self.old is Way.GRPC:
            raise SettingsError("old: must be dbus or legacy")

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """The settings of this process. Raises :class:`SettingsError` naming the first that is wrong."""
        variables = dict(os.environ if environment is None else environment)
        named = variables.get("OP_DBUS_CONFIG")
        values = _from_files(Path(named or DEFAULT_CONFIG), may_be_missing=not named)
        values |= _from_variables(variables)
        ca, certificate, key, token = (
            variables.get(f"OP_DBUS_{name}") for name in ("CA", "CERT", "KEY", "TOKEN_FILE")
        )
        return cls(**values, credentials=Credentials.from_files(ca, certificate, key, token))

    def having(self, **changes: Any) -> Settings:
        """The same settings with some of them changed; a text is read as in a variable."""
        readers = {setting.field: setting for setting in SETTINGS}
        for name, value in changes.items():
            if isinstance(value, str) and name in readers:
                changes[name] = readers[name].read(value, name)
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its field, its place in the file, its variable, and how its value is read."""

    field: str
    section: str
    key: str
    variable: str
    convert: Callable[[Any], Any]

    def read(self, value: Any, where: str) -> Any:
        """The value, or a :class:`SettingsError` that names where it stands."""
        try:
            return self.convert(value)
        except (SettingsError, ValueError, TypeError) as problem:
            raise SettingsError(f"{where}: {problem}") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise SettingsError(f"must be a text, not {value!r}")
    return value


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        if isinstance(value, (bool, float)) or not least <= int(value) <= most:
            raise SettingsError(f"must be a whole number from {least} to {most}, not {value!r}")
        return int(value)

    return convert


def _seconds(most_ms: int) -> Callable[[Any], float]:
    whole = _whole(1, most_ms)
    return lambda value: whole(value) / 1000


def _boolean(value: Any) -> bool:
    if value not in (True, False, "true", "false"):
        raise SettingsError(f"must be true or false, not {value!r}")
    return value in (True, "true")


def _via(value: Any) -> Way | None:
    if value == "auto":
        return None
    if value not in list(Way):
        raise SettingsError(f"{value!r} must be grpc, dbus, legacy or auto")
    return Way(value)


#: Those with a variable; one without a key in the files has no section.
SETTINGS = (
    Setting("via", "", "", "OP_DBUS_VIA", _via),
    Setting("address", "client", "address", "OP_DBUS_ADDRESS", lambda v: GrpcAddress.parse(_text(v))),
    Setting("bus", "dbus", "bus", "OP_DBUS_BUS", lambda v: Bus(_text(v))),
    Setting("name", "dbus", "name", "OP_DBUS_NAME", _text),
    Setting(
        *("connect_timeout", "client", "connect_timeout_ms", "OP_DBUS_CONNECT_TIMEOUT_MS"),
        _seconds(600_000),
    ),
    Setting(
        *("request_timeout", "client", "request_timeout_ms", "OP_DBUS_TIMEOUT_MS"),
        _seconds(86_400_000),
    ),
    Setting("max_retries", "client", "max_retries", "OP_DBUS_MAX_RETRIES", _whole(0, 100)),
    Setting(
        *("pool_connections", "client", "pool_connections", "OP_DBUS_POOL_CONNECTIONS"), _boolean
    ),
    Setting("client_name", "", "", "OP_DBUS_CLIENT_NAME", _text),
    Setting("mint_request_ids", "", "", "OP_DBUS_MINT_REQUEST_IDS", _boolean),
    Setting("routes_file", "", "", "OP_DBUS_ROUTES_FILE", lambda v: Path(_text(v))),
    Setting("session", "", "", "OP_DBUS_SESSION", _text),
)

#: The variables that name files.
_FILES = [f"OP_DBUS_{name}" for name in ("CA", "CERT", "CONFIG", "KEY", "TOKEN_FILE")]

#: Every variable that there is.
VARIABLES = tuple(sorted([*_FILES, *(setting.variable for setting in SETTINGS)]))

_CLIENT_KEYS = [setting.key for setting in SETTINGS if setting.section == "client"]


def _from_variables(variables: dict[str, str]) -> dict[str, Any]:
    by_name = {setting.variable: setting for setting in SETTINGS}
    values = {}
    for name, value in variables.items():
        if not name.startswith("OP_DBUS_") or name.startswith("OP_DBUS_TEST_") or not value:
            continue
        if name not in VARIABLES:
            raise SettingsError(f"{name}: is not known; there are {', '.join(VARIABLES)}")
        if name in by_name:
            values[by_name[name].field] = by_name[name].read(value, name)
    return values


def _from_files(path: Path, may_be_missing: bool) -> dict[str, Any]:
    values: dict[str, Any] = {}
    unix = None
    for file in [path, *sorted(path.with_name(path.name + ".d").glob("[!.]*.toml"))]:
        table = _read(file, may_be_missing)
        unknown = [key for key in table.get("client", {}) if key not in _CLIENT_KEYS]
        if unknown:
            known = ", ".join(_CLIENT_KEYS)
            raise SettingsError(f"{file}: client.{unknown[0]}: there is no such key; there are {known}")
        for setting in SETTINGS:
            section = table.get(setting.section, {})
            if setting.section and setting.key in section:
                where = f"{file}: {setting.section}.{setting.key}"
                values[setting.field] = setting.read(section[setting.key], where)
        unix = table.get("grpc", {}).get("unix") or unix
    if unix and "address" not in values:
        values["address"] = GrpcAddress.parse(f"unix:{unix}")
    return values


def _read(file: Path, may_be_missing: bool) -> dict[str, Any]:
    """A file's content. One that is not there, or not for this user, says nothing unless it was named."""
    try:
        with file.open("rb") as opened:
            return tomllib.loads(opened.read(_MAX_FILE_BYTES).decode())
    except (FileNotFoundError, PermissionError) as problem:
        if may_be_missing:
            return {}
        raise SettingsError(f"{file}: cannot be read: {problem.strerror}") from None
    except (OSError, ValueError) as problem:
        raise SettingsError(f"{file}: {problem}") from None
