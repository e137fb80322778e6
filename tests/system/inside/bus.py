"""A user's calls over D-Bus, made with busctl, in the form of `machine.Client`, so that one proof serves both
transports. It proves nothing."""

import json
import re

from machine import NAME, CallError, sh

PATH = "/org/opdbus/Agents1/agent/commands"
INTERFACE = "org.opdbus.Commands1"
TASK = "org.opdbus.Task1"

# The REQUIRED fields of the operations that are used here, which are arguments of their own; what else a
# request has goes into the options.
ARGUMENTS = {
    **dict.fromkeys(("Exec", "ExecStream", "Start"), ("argv",)),
    **dict.fromkeys(("Output", "Signal", "CloseInput", "Wait", "CloseShell"), ("id",)),
    **{"Input": ("id", "data"), "Resize": ("id", "size"), "Tag": ("id", "tag")},
    **{"RunInShell": ("id", "script"), "ExecShell": ("script",)},
}


# The fields that are times: text as `30s` in the JSON form of protobuf, microseconds on D-Bus.
TIMES = ("wait", "wall", "yield", "timeout")


def typed(value):
    """A value in busctl's words: its type, and what comes after it."""
    if isinstance(value, bool):
        return "b", [str(value).lower()]
    if isinstance(value, int):
        return "x", [str(value)]
    if isinstance(value, bytes):
        return "ay", [str(len(value)), *map(str, value)]
    if isinstance(value, dict):
        words = [str(len(value))]
        for name, one in value.items():
            kind, inner = typed(microseconds(one) if name in TIMES else one)
            words += [snake(name), kind, *inner]
        return "a{sv}", words
    if isinstance(value, list):
        words = [word for one in value for word in typed(one)[1]]
        return f"a{typed(value[0])[0] if value else 's'}", [str(len(value)), *words]
    return "s", [value]


def microseconds(time):
    return int(float(time.removesuffix("s")) * 10**6)


def snake(name):
    return re.sub(r"[A-Z]", lambda found: "_" + found.group().lower(), name)


def camel(name):
    return re.sub(r"_([a-z0-9])", lambda found: found.group(1).upper(), name)


def plain(value):
    """What busctl printed, without the types, and with the names of the JSON form of protobuf."""
    if isinstance(value, dict):
        if set(value) == {"type", "data"} and isinstance(value["type"], str):
            return bytes(value["data"]) if value["type"] == "ay" else plain(value["data"])
        return {camel(name): plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


class Bus:
    """A user who calls the commands agent over D-Bus."""

    def __init__(self, user):
        self.user = user

    def busctl(self, path, interface, member, signature, words, timeout):
        # A script may begin with `-`.
        argv = ["busctl", "--json=short", f"--timeout={timeout}", "--", "call", NAME, path, interface, member]
        code, said = sh(*argv, signature, *words, user=self.user, timeout=timeout + 60)
        if code:
            raise CallError({"code": "D-Bus", "reason": "", "message": said, "details": {}})
        return plain(json.loads(said)["data"])

    def call(self, method, request=None, timeout=120):
        """Calls an operation by its name on gRPC; of a stream it gives the list of messages."""
        member, request = method.rsplit("/", 1)[-1], dict(request or {})
        parts = [typed(request.pop(name)) for name in ARGUMENTS.get(member, ())] + [typed(request)]
        signature, words = "".join(kind for kind, _ in parts), [word for _, words in parts for word in words]
        said = self.busctl(PATH, INTERFACE, member, signature, words, timeout)
        # A stream gives the path of its task at first.
        return self.messages(said[0], timeout) if isinstance(said[0], str) else said[-1]

    def messages(self, task, timeout):
        """The messages of a task, once it has ended."""
        words = [str(timeout * 10**6), "0"]
        ended, state, _ = self.busctl(task, TASK, "Wait", "ta{sv}", words, timeout + 10)
        read = self.busctl(task, TASK, "ReadMessages", "tua{sv}", ["1", "1000", "0"], timeout)
        if not ended or state != "completed":
            raise CallError({"code": "TASK", "reason": state, "message": str(read), "details": {}})
        return [message for _, _, message in read[0]]

    def close(self):
        """Nothing is kept between calls."""
