"""Streams over gRPC. Each is a task of the service, so that its messages outlive a lost connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, TypeVar, cast

from google.protobuf.message import Message

from op_dbus.call import Call, from_json
from op_dbus.errors import (
    Cancelled,
    Error,
    ErrorKind,
    Failed,
    Unavailable,
    Unreachable,
    failed,
    lost,
)
from op_dbus.options import CallOptions
from op_dbus.proto.opdbus.v1 import calls_pb2, failure_pb2, tasks_pb2
from op_dbus.retry import pause

if TYPE_CHECKING:
    from op_dbus.grpc_way import GrpcWay

T = TypeVar("T")

#: How long the end of a stream waits for its work to be cancelled, in seconds.
_CANCEL_TIME = 2.0

#: How often a task is looked for again after a lost connection, with no message between.
_MAX_TRIES = 8

_START_CALL = "/opdbus.v1.CallsService/StartCall"
_WATCH_TASK = "/opdbus.v1.TasksService/WatchTask"
_CANCEL_TASK = "/opdbus.v1.TasksService/CancelTask"

_ON_DISCONNECT = {
    "continue": tasks_pb2.ON_DISCONNECT_CONTINUE,
    "cancel": tasks_pb2.ON_DISCONNECT_CANCEL,
}


async def stream(way: GrpcWay, call: Call[T], options: CallOptions) -> AsyncGenerator[T]:
    """The messages of a call. Closing the generator cancels the work."""
    if isinstance(call.request, str):
        follow = started(way, call, options)
    else:
        follow = attached(way, call, call.request, options)
    # Closed by name, so that the work is cancelled at once and not when the garbage is collected.
    async with contextlib.aclosing(follow) as messages:
        async for message in messages:
            yield message


async def attached(
    way: GrpcWay, call: Call[T], request: Message, options: CallOptions
) -> AsyncGenerator[T]:
    """The method's own stream, and after a lost connection the rest of its task's messages."""
    task, came = "", 0

    def began(name: str) -> None:
        nonlocal task
        task = name

    own = way.messages(call.operation.path, request, call.answer, options, began)
    try:
        async with contextlib.aclosing(own) as messages:
            async for message in messages:
                came += 1
                yield message
        return
    except Failed as problem:
        if not task or not _may_come_back(problem):
            raise
    except (GeneratorExit, asyncio.CancelledError):
        await cancel(way, task, options)
        raise
    async with contextlib.aclosing(watched(way, task, came + 1, call.answer, options)) as rest:
        async for message in rest:
            yield message


async def started(way: GrpcWay, call: Call[T], options: CallOptions) -> AsyncGenerator[T]:
    """A task with its messages as JSON, of any agent."""
    operation, given = call.operation, options
    request = calls_pb2.StartCallRequest(
        agent=operation.agent, operation=operation.name, arguments=call.json
    )
    if options.on_disconnect is not None:
        request.on_disconnect = _ON_DISCONNECT[options.on_disconnect]
        options = options.having(on_disconnect=None)
    if options.timeout is not None:
        request.timeout.FromMicroseconds(round(options.timeout * 1e6))
    begun = await way.message(_START_CALL, request, calls_pb2.StartCallResponse, options)
    follow = watched(way, begun.task.id, 0, call.answer, given)
    async with contextlib.aclosing(follow) as rest:
        async for message in rest:
            yield message


async def watched(
    way: GrpcWay, task: str, seq: int, answer: type[T], options: CallOptions
) -> AsyncGenerator[T]:
    """The messages of a task from a number on, over further connections if one is lost."""
    tries = 0
    try:
        while True:
            problem: Error | None = lost("the service ended the stream before its end")
            try:
                async with contextlib.aclosing(_watch(way, task, seq, answer, options)) as events:
                    async for event in events:
                        tries = 0
                        if event.HasField("message"):
                            seq = event.message.seq + 1
                            yield _payload(event.message, answer)
                        elif event.HasField("gap"):
                            raise _missing(task, seq, event.gap)
                        elif event.task.HasField("ended_at"):
                            # Also the first event of a task that has ended, whose messages follow.
                            problem = outcome(event.task)
            except (Unreachable, Unavailable) as error:
                if isinstance(error, Failed) and (not error.lost or "task_id" in error.facts):
                    raise
                problem = error
            if problem is None:
                return
            tries += 1
            if tries > _MAX_TRIES or not _may_come_back(problem):
                raise problem
            await asyncio.sleep(pause(tries))
    except (GeneratorExit, asyncio.CancelledError, Unavailable):
        await cancel(way, task, options)
        raise


def _watch(
    way: GrpcWay, task: str, seq: int, answer: type[T], options: CallOptions
) -> AsyncGenerator[tasks_pb2.WatchTaskResponse]:
    request = tasks_pb2.WatchTaskRequest(id=task, from_seq=seq, json=answer is str)
    watching = options.having(request_id=None, approval_id=None, on_disconnect=None)
    return way.messages(_WATCH_TASK, request, tasks_pb2.WatchTaskResponse, watching)


async def cancel(way: GrpcWay, task: str, options: CallOptions) -> None:
    """Cancels the work of a stream that nobody reads any more. If that fails, its own time ends it."""
    if not task or options.on_disconnect == "continue":
        return
    request = tasks_pb2.CancelTaskRequest(id=task)
    in_time = CallOptions(timeout=_CANCEL_TIME)
    asked = way.message(_CANCEL_TASK, request, tasks_pb2.CancelTaskResponse, in_time)
    with contextlib.suppress(Error):
        await asyncio.shield(asked)


def failure_of(failure: failure_pb2.Failure) -> Failed:
    """A failure that stands in an answer, as an error."""
    after = None
    if failure.HasField("retry_after"):
        after = failure.retry_after.ToMicroseconds() / 1e6
    return failed(failure.reason, failure.message, failure.facts, after)


def _payload(message: tasks_pb2.TaskMessage, answer: type[T]) -> T:
    if answer is str:
        return from_json(message.json, answer)
    return cast(T, cast(Any, answer).FromString(message.payload))


def _missing(task: str, seq: int, gap: tasks_pb2.TaskGap) -> Failed:
    """That messages of a stream are missing."""
    first = getattr(gap, "from")  # A word of Python.
    return Unavailable(
        f"messages {first} to {gap.to} of task {task} are missing: the service does not keep them any more",
        facts={"task_id": task, "from": str(max(seq, 1)), "to": str(gap.to)},
        lost=True,
    )


def _may_come_back(problem: Error) -> bool:
    """True if another connection may have the rest."""
    if isinstance(problem, Failed):
        return problem.lost and problem.kind is ErrorKind.UNAVAILABLE
    return isinstance(problem, Unreachable)


def outcome(task: tasks_pb2.Task) -> Failed | None:
    """What a task that has ended has failed with; None if it completed."""
    if task.HasField("failure"):
        return failure_of(task.failure)
    if task.state != tasks_pb2.TASK_STATE_COMPLETED:
        return Cancelled("the task was cancelled")
    return None
