"""What can go wrong: the service was not reached, or a call failed, with what the service says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class ErrorKind(StrEnum):
    """What went wrong, for programs; the value is the reason that the service gives."""

    ACCESS_DENIED = "ACCESS_DENIED"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    APPROVAL_REQUIRED = "APPROVAL_REQUIRED"
    BACKEND_FAILED = "BACKEND_FAILED"
    BACKEND_MISSING = "BACKEND_MISSING"
    BACKEND_UNAVAILABLE = "BACKEND_UNAVAILABLE"
    CANCELLED = "CANCELLED"
    CONFLICT = "CONFLICT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    INTERNAL = "INTERNAL"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    MIGRATED = "MIGRATED"
    NOT_FOUND = "NOT_FOUND"
    PATH_OUTSIDE_ROOT = "PATH_OUTSIDE_ROOT"
    SANDBOX_UNAVAILABLE = "SANDBOX_UNAVAILABLE"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    UNAVAILABLE = "UNAVAILABLE"
    UNKNOWN_AGENT = "UNKNOWN_AGENT"
    UNKNOWN_OPERATION = "UNKNOWN_OPERATION"

    @property
    def pascal(self) -> str:
        """The name as D-Bus has it after `org.opdbus.Error.`, and that of the exception."""
        return "".join(word.capitalize() for word in self.value.split("_"))

    @property
    def is_retryable(self) -> bool:
        """True if the same call may succeed later, and had no effect this time."""
        return self in (
            ErrorKind.BACKEND_UNAVAILABLE,
            ErrorKind.LIMIT_EXCEEDED,
            ErrorKind.UNAVAILABLE,
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way that was tried in vain."""

    target: str
    problem: str


class Error(Exception):
    """Why there is no answer."""


class SettingsError(Error, ValueError):
    """A setting is wrong; the text names it."""


class Unreachable(Error):
    """The service could not be reached by any of these ways. Nothing was called."""

    def __init__(self, attempts: tuple[Attempt, ...]) -> None:
        self.attempts = attempts
        tried = "".join(f"\n  {attempt.target}: {attempt.problem}" for attempt in attempts)
        super().__init__(f"the service cannot be reached{tried}")


class Failed(Error):
    """The call failed. Each kind has an exception of its own below this one."""

    #: What went wrong, for programs.
    kind: ErrorKind = ErrorKind.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        facts: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        lost: bool = False,
    ) -> None:
        super().__init__(message)
        #: What went wrong, for people.
        self.message = message
        #: The reason as the service gave it; one that this release does not know has kind INTERNAL.
        self.reason = reason or self.kind.value
        #: The facts that belong to the kind, as `field`. Over D-Bus they are part of the text only.
        self.facts = dict(facts or {})
        #: After how many seconds trying again makes sense, if the service says so.
        self.retry_after = retry_after
        #: True if there was no answer of the service, so that nobody knows whether the call was made.
        self.lost = lost


class AccessDenied(Failed):
    """The caller may not do this."""

    kind = ErrorKind.ACCESS_DENIED


class AlreadyExists(Failed):
    """Something with this name is there already."""

    kind = ErrorKind.ALREADY_EXISTS


class ApprovalRequired(Failed):
    """Somebody must approve this first."""

    kind = ErrorKind.APPROVAL_REQUIRED


class BackendFailed(Failed):
    """A program or service ran and broke."""

    kind = ErrorKind.BACKEND_FAILED


class BackendMissing(Failed):
    """A program or service is not installed."""

    kind = ErrorKind.BACKEND_MISSING


class BackendUnavailable(Failed):
    """A program or service does not answer; trying again may help."""

    kind = ErrorKind.BACKEND_UNAVAILABLE


class Cancelled(Failed):
    """The call was given up."""

    kind = ErrorKind.CANCELLED


class Conflict(Failed):
    """The state is not the one that the caller named; the error says which it is."""

    kind = ErrorKind.CONFLICT


class DeadlineExceeded(Failed):
    """The time for the call was over."""

    kind = ErrorKind.DEADLINE_EXCEEDED


class Internal(Failed):
    """A fault of op-dbus itself."""

    kind = ErrorKind.INTERNAL


class InvalidArgument(Failed):
    """A field or argument is wrong; the error names it."""

    kind = ErrorKind.INVALID_ARGUMENT


class LimitExceeded(Failed):
    """A rate, quota, queue or size limit was reached; the error names it and its value."""

    kind = ErrorKind.LIMIT_EXCEEDED


class Migrated(Failed):
    """The operation is no longer served on D-Bus."""

    kind = ErrorKind.MIGRATED


class NotFound(Failed):
    """The object named in the request is not there."""

    kind = ErrorKind.NOT_FOUND


class PathOutsideRoot(Failed):
    """A path leads out of its root."""

    kind = ErrorKind.PATH_OUTSIDE_ROOT


class SandboxUnavailable(Failed):
    """The isolation that was asked for cannot be had here."""

    kind = ErrorKind.SANDBOX_UNAVAILABLE


class Unauthenticated(Failed):
    """Nobody vouches for the caller."""

    kind = ErrorKind.UNAUTHENTICATED


class Unavailable(Failed):
    """The service is stopping or overloaded, or the connection was lost; trying again may help."""

    kind = ErrorKind.UNAVAILABLE


class UnknownAgent(Failed):
    """There is no such agent."""

    kind = ErrorKind.UNKNOWN_AGENT


class UnknownOperation(Failed):
    """The agent has no such operation."""

    kind = ErrorKind.UNKNOWN_OPERATION


BY_KIND: dict[ErrorKind, type[Failed]] = {
    failure.kind: failure for failure in Failed.__subclasses__()
}


def failed(
    reason: str,
    message: str,
    facts: Mapping[str, str] | None = None,
    retry_after: float | None = None,
) -> Failed:
    """The exception for a reason; one that this release does not know is :class:`Internal`."""
    kind = ErrorKind(reason) if reason in ErrorKind.__members__ else ErrorKind.INTERNAL
    return BY_KIND[kind](message, reason=reason, facts=facts, retry_after=retry_after)


def invalid(field: str, problem: str) -> InvalidArgument:
    """A field or argument is wrong; the text begins with its name."""
    return InvalidArgument(f"{field}: {problem}", facts={"field": field})


def lost(problem: str) -> Unavailable:
    """The connection broke while the answer was waited for."""
    return Unavailable(
        "the connection was lost before the answer came, so that the call may or may not have been"
        f" carried out: {problem}",
        lost=True,
    )


def no_answer(timeout: float) -> DeadlineExceeded:
    """The time was over before the service said so itself."""
    return DeadlineExceeded(f"there was no answer within {timeout:g} s", lost=True)
