"""Compares two answers to one call field by field, and says where they differ without telling the values."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from op_dbus.errors import Error
from op_dbus.metrics import reason_of

#: The places that are compared one by one in an answer; what is beyond is compared as a whole.
MAX_PLACES = 10_000

#: The most volatile fields that are kept of one operation. Beyond them everything counts as volatile.
MAX_VOLATILE = 1000

_LENGTH = ".length()"
_ONE_VALUE = ("google.protobuf.Timestamp", "google.protobuf.Duration")
_NUMBERS = (
    *(FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64),
    *(FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64),
    *(FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE),
)

#: An answer as it is compared: the response, or why there is none.
Compared = Message | Error


@dataclass(frozen=True, slots=True)
class Place:
    """A place at which two answers differ, and what each has there, as `text of 12 bytes, sha256 3f1a9c22`."""

    #: As `entries[3].version` or `error`.
    field: str
    one: str
    other: str


class Volatile:
    """Fields that differ between two answers over one way, so that nothing follows if they differ between
    two ways: as `entries[].age`.
    """

    def __init__(self) -> None:
        self._fields: set[str] = set()

    def learn(self, places: Iterable[Place]) -> None:
        """Adds the places at which two answers over one way differ."""
        for place in places:
            if len(self._fields) < MAX_VOLATILE:
                self._fields.add(_pattern(place.field))

    def holds(self, place: Place) -> bool:
        """True for a place in a volatile field. In a list or map whose length is volatile everything is."""
        field = _pattern(place.field)
        lists = (field[: found.start()] + _LENGTH for found in re.finditer(r"\[\]", field))
        return (
            len(self._fields) >= MAX_VOLATILE
            or field in self._fields
            or any(length in self._fields for length in lists)
        )


def _pattern(place: str) -> str:
    """The field that a place is in: the same for each item of a list or map."""
    return re.sub(r"\[[^]]*\]", "[]", place)


def differences(one: Compared, other: Compared) -> list[Place]:
    """The places at which two answers differ, sorted."""
    if isinstance(one, Error) or isinstance(other, Error):
        first, second = (
            reason_of(answer) if isinstance(answer, Error) else "nothing" for answer in (one, other)
        )
        return [Place("error", first, second)] if first != second else []
    leaves = _leaves(one), _leaves(other)
    nothing = (None, "nothing")
    found = []
    for field in sorted({*leaves[0], *leaves[1]}):
        (value, told), (other_value, other_told) = (side.get(field, nothing) for side in leaves)
        if value != other_value:
            found.append(Place(field, told, other_told))
    return found


#: The value at a place in a form that is equal to itself, and what may be told of it.
_Leaf = tuple[Any, str]


def _leaves(message: Message) -> dict[str, _Leaf]:
    """Every value of an answer, by its place."""
    leaves: dict[str, _Leaf] = {}
    _walk_fields(message, "", leaves)
    return leaves


def _walk_fields(message: Message, path: str, leaves: dict[str, _Leaf]) -> None:
    for field, value in message.ListFields():
        # Of a secret nothing is told, and no digest: it would show that a short one is the same again.
        if field.GetOptions().debug_redact:
            continue
        place = f"{path}.{field.name}" if path else field.name
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            leaves[place + _LENGTH] = (len(value), f"{len(value)} items")
            of = entry.fields_by_name["value"]
            for key in value:
                _walk(of, value[key], f"{place}[{_told_key(key)}]", leaves)
        elif isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
            _walk(field, value, place, leaves)
        else:
            leaves[place + _LENGTH] = (len(value), f"{len(value)} items")
            for index, item in enumerate(value):
                _walk(field, item, f"{place}[{index}]", leaves)


def _walk(field: Any, value: Any, place: str, leaves: dict[str, _Leaf]) -> None:
    if not isinstance(value, Message):
        # The text of a number also tells what is no number apart from nothing else.
        leaves[place] = (repr(value), _told(field, value))
    elif value.DESCRIPTOR.full_name in _ONE_VALUE or len(leaves) >= MAX_PLACES:
        # A time has changed as a whole.
        leaves[place] = (value.SerializeToString(deterministic=True), "message")
    else:
        leaves[place] = ("message", "a message")
        _walk_fields(value, place, leaves)


def _told(field: Any, value: Any) -> str:
    """What may be told of a value: of what has so few values that its digest would give it away, none."""
    if isinstance(value, str):
        encoded = value.encode()
        return f"text of {len(encoded)} bytes, sha256 {_short_digest(encoded)}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes, sha256 {_short_digest(value)}"
    if field.cpp_type in _NUMBERS:
        return "number"
    return "choice" if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM else "truth value"


def _told_key(key: Any) -> str:
    """A map's key, as it may be told: it is as much the user's own as a value."""
    if isinstance(key, str):
        return f"sha256 {_short_digest(key.encode())}"
    return str(key).lower() if isinstance(key, bool) else str(key)


def _short_digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()[:8]
