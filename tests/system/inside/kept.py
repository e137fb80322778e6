"""Commands that go on and shells that are kept, over both transports: they are their caller's, and another
user can neither list nor read them, nor signal, resize, feed or end them."""

import base64
import contextlib
import json
import os

import machine
from bus import Bus
from callers import all_refused, check_who
from machine import COMMANDS, CallError, Client, check, program, sh, until

WAYS = {"gRPC": Client, "D-Bus": Bus}

# Shells are for administrators, unless a rule says otherwise.
RULES = '[[policy]]\nusers = ["alice", "bob"]\nagents = ["commands"]\nrisk = ["deploy"]\ndecision = "allow"\n'

# What a shell adds to the environment, and what it is told for itself.
OF_SHELLS = {"OLDPWD", "PWD", "SHLVL", "_", "HISTFILE", "PS1", "PS2"}


def text(data):
    """Bytes as D-Bus gives them, or as the JSON of gRPC does."""
    return (data if isinstance(data, bytes) else base64.b64decode(data)).decode(errors="replace")


def in_shell(client, shell, script):
    """Runs a text in a shell; gives what it printed, and what came of it."""
    messages = client.call(COMMANDS + "RunInShell", {"id": shell, "script": script, "timeout": "60s"})
    printed = "".join(text(one["chunk"]["data"]) for one in messages if one.get("chunk"))
    return printed, messages[-1].get("done", {})


def output(client, command, **request):
    return client.call(COMMANDS + "Output", {"id": command, "wait": "60s", **request})


def start(client, *arguments, **request):
    """Starts `program.py`, with a terminal, and gives the command."""
    run = {"stdin": "STDIN_TERMINAL", "terminal": {"rows": 30, "columns": 90}}
    return client.call(COMMANDS + "Start", {"argv": program(*arguments), "run": run, **request})["command"]


def as_json(printed):
    with contextlib.suppress(ValueError):
        return json.loads(printed)
    return {"no facts": printed}


def check_identity(client, user, way):
    """A command with a terminal and a shell are their caller."""
    command = start(client, "who")
    said = output(client, command["id"], until="WAIT_UNTIL_EXIT")
    check_who(user, f"{user}'s command with a terminal over {way}", as_json(text(said.get("data", b""))))
    shell = client.call(COMMANDS + "OpenShell", {"shell": "bash"})["shell"]
    check(f"{user}'s shell over {way} begins in {user}'s home", shell["directory"] == f"/home/{user}", shell)
    line = " ".join(program("who"))
    who = as_json(in_shell(client, shell["id"], line)[0])
    check_who(user, f"what {user}'s shell over {way} starts", who, also=OF_SHELLS)
    printed, done = in_shell(client, shell["id"], "mkdir -p below; cd below; kept=$(id -u)")
    check("it goes into a folder", done.get("directory") == f"/home/{user}/below", (printed, done))
    who = as_json(in_shell(client, shell["id"], line)[0])
    check("and what it starts then stands there", who.get("cwd") == f"/home/{user}/below", who)
    printed = in_shell(client, shell["id"], "echo $kept $UID $EUID; exit")[0]
    check("its variables are kept, and its uid is the caller's",
          printed.split() == [str(machine.uid(user))] * 3, printed)


class Kept:
    """A command with a terminal, one with a pipe and a shell of alice, begun over one of the transports."""

    def __init__(self, way, client):
        self.way, self.client = way, client
        self.terminal = start(client, "answer", tag="mine")
        piped = {"argv": ["cat"], "run": {"stdin": "STDIN_PIPE"}, "tag": "mine"}
        self.piped = client.call(COMMANDS + "Start", piped)["command"]
        self.shell = client.call(COMMANDS + "OpenShell", {"shell": "bash", "tag": "mine"})["shell"]
        in_shell(client, self.shell["id"], "secret=of-alice")

    def ask(self, client, line, expected):
        """Feeds the command with the terminal, and waits for its answer."""
        before = int(output(client, self.terminal["id"], wait="0s").get("nextOffset", 0))
        data = f"{line}\n".encode()
        client.call(COMMANDS + "Input", {"id": self.terminal["id"], "data": data})
        said = output(client, self.terminal["id"], fromOffset=before, until="WAIT_UNTIL_PATTERN", pattern=expected)
        return said.get("matched", False), said

    def check_untouched(self, others):
        """Alice goes on with all of it, by whichever transport."""
        for way, client in others.items():
            what = f"what alice began over {self.way} goes on over {way}"
            there, said = self.ask(client, "are you there", "30x90: are you there")
            check(f"{what}: the command, with its terminal as it was", there, said)
            listed = client.call(COMMANDS + "List", {"tag": "mine", "runningOnly": True})["commands"]
            expected = {self.terminal["id"], self.piped["id"]}
            check(f"{what}: both are listed as running", {one["id"] for one in listed} >= expected, listed)
            opened = [one["inputOpen"] for one in listed if one["id"] in expected]
            check(f"{what}: their inputs are open", opened == [True, True], listed)
            printed = in_shell(client, self.shell["id"], "echo $secret")[0]
            check(f"{what}: the shell, with its variable", printed == "of-alice\n", printed)

    def end(self, client):
        """All that the other user was refused is done for alice."""
        client.call(COMMANDS + "Resize", {"id": self.terminal["id"], "size": {"rows": 40, "columns": 100}})
        there, said = self.ask(client, "and now", "40x100: and now")
        check(f"alice resizes what she began over {self.way}", there, said)
        client.call(COMMANDS + "Signal", {"id": self.terminal["id"], "signal": "KILL"})
        ended = client.call(COMMANDS + "Wait", {"id": self.terminal["id"], "wait": "60s"})["command"].get("ended", {})
        check("and signals it", ended.get("signal") == "KILL", ended)
        client.call(COMMANDS + "CloseInput", {"id": self.piped["id"]})
        ended = client.call(COMMANDS + "Wait", {"id": self.piped["id"], "wait": "60s"})["command"].get("ended", {})
        check("and ends an input", ended.get("code") == 0, ended)
        client.call(COMMANDS + "CloseShell", {"id": self.shell["id"]})
        shells = client.call(COMMANDS + "ListShells").get("shells", [])
        check("and closes the shell", self.shell["id"] not in [one["id"] for one in shells], shells)


def refusal(client, operation, request):
    """With what words an operation is refused, without the id that it is about; None if it is not."""
    try:
        client.call(COMMANDS + operation, request)
    except CallError as error:
        return error.code, error.message.replace(request["id"], "ID")
    return None


def check_out_of_reach(bob, way, kept):
    """To another user it is as if there were none of it."""
    what = f"bob over {way}, what alice began over {kept.way}"
    ids = {kept.terminal["id"], kept.piped["id"], kept.shell["id"]}
    for operation, field in (("List", "commands"), ("ListShells", "shells")):
        listed = {one["id"] for one in bob.call(COMMANDS + operation).get(field, [])}
        check(f"{what}: {operation} does not tell of it", not ids & listed, listed)
    size = {"rows": 1, "columns": 1}
    tries = [("Output", {}), ("Wait", {"wait": "0s"}), ("Signal", {"signal": "KILL"}), ("Signal", {})]
    tries += [("Resize", {"size": size}), ("Input", {"data": b"from bob\n"}), ("CloseInput", {}), ("Tag", {"tag": "x"})]
    tries = [(kept.terminal["id"], *one) for one in tries] + [(kept.piped["id"], *one) for one in tries]
    tries += [(kept.shell["id"], "RunInShell", {"script": "secret=of-bob"}), (kept.shell["id"], "CloseShell", {})]
    wrong = {}
    for of, operation, request in tries:
        said = refusal(bob, operation, {"id": of, **request})
        nobodys = "s" + "0" * (len(of) - 1)
        if said is None or said != refusal(bob, operation, {"id": nobodys, **request}):
            wrong[operation] = said
    check(f"{what}: {len(tries)} tries are refused as if it were not there", not wrong, wrong)


def check_kernel(kept):
    """Nor does the kernel let another user near it, whom op-dbus does not confine."""
    pids = [kept.terminal["pid"], kept.piped["pid"], kept.shell["pid"]]
    found = as_json(sh(*program("peek", *pids), user="bob")[1])
    for pid in pids:
        all_refused(f"bob's own programs cannot look into {pid}, nor signal it", found.get(str(pid), {}))
    tty = os.readlink(f"/proc/{kept.terminal['pid']}/fd/0")
    for action in ("read", "write"):
        found = as_json(sh(*program(action, tty), user="bob")[1])
        all_refused(f"nor {action} its terminal {tty}", found)


def prove():
    machine.configure("kept", RULES)
    people = {user: {way: kind(user) for way, kind in WAYS.items()} for user in ("alice", "bob")}
    # A reload is in force a moment after it was asked for.
    shells = lambda: refusal(people["alice"]["gRPC"], "CloseShell", {"id": "none"})[0] == "NOT_FOUND"
    check("a rule opens shells to both", until(shells) is not None)
    for user, ways in people.items():
        for way, client in ways.items():
            check_identity(client, user, way)
    for way, client in people["alice"].items():
        kept = Kept(way, client)
        for other, bob in people["bob"].items():
            check_out_of_reach(bob, other, kept)
        check_kernel(kept)
        kept.check_untouched(people["alice"])
        kept.end(client)
    for ways in people.values():
        for client in ways.values():
            client.close()
    machine.configure("kept")
