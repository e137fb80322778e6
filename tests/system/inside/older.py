"""Programs that were written for the older agents call them by their names, with busctl, as ordinary users:
they have their caller's rights, and reach their caller's files and memory and nobody else's."""

import json
import os
import pathlib

import machine
from callers import all_refused, check_who
from machine import check, sh

# A user who is in no group of op-dbus.
STRANGER = "carol"


def older(user, agent, *words, first=False):
    """Calls an older agent; gives the JSON that it answers, or what busctl says."""
    name = f"org.dbusmcp.Agent.{agent}"
    interface = name if first else "org.dbusmcp.Agent"
    path = f"/org/dbusmcp/Agent/{agent}"
    argv = ["busctl", "--json=short", "--timeout=60", "--", "call", name, path, interface, *words]
    code, said = sh(*argv, user=user, timeout=120)
    try:
        return json.loads(json.loads(said)["data"][0])
    except ValueError:
        return {"busctl": code, "said": said}


def of_generations(user, *arguments):
    """Runs `program.py` as either generation's Executor; what came of each."""
    command, *args = machine.program(*arguments)
    first = {"type": "execute", "command": command, "args": args}
    second = {"type": "executor", "operation": "execute", "config": {"command": command, "args": args}}
    return {
        "the first generation": older(user, "Executor", "Execute", "s", json.dumps(first), first=True),
        "the second one": older(user, "Executor", "Execute", "s", json.dumps(second)),
    }


def facts(said):
    """What the program printed, wherever the generation has it."""
    printed = said.get("stdout") or said.get("metadata", {}).get("response", {}).get("stdout", {}).get("text", "")
    try:
        return json.loads(printed)
    except ValueError:
        return {"no facts": said}


def check_programs(users):
    folder = pathlib.Path("/srv/older")
    folder.mkdir(exist_ok=True)
    for user in users:
        for generation, said in of_generations(user, "who").items():
            check(f"{generation} runs {user}'s program", said.get("success") is True, said)
            check_who(user, f"{user}'s program by {generation}", facts(said))
        home = pathlib.Path(f"/home/{user}/own")
        home.write_text(f"of {user}")
        os.chown(home, machine.uid(user), -1)
        home.chmod(0o600)
    own, other = (f"/home/{user}/own" for user in users)
    closed = [other, "/etc/shadow", "/root", "/var/lib/op-dbus", "/run/op-dbus"]
    for generation, said in of_generations(users[0], "read", own, *closed).items():
        found = facts(said)
        check(f"{users[0]}'s program by {generation} reads the own file", found.pop(own, "") == "done", said)
        all_refused("and neither another user's nor what is root's", found)
    front, root = machine.main_pid("op-dbus.service"), machine.main_pid("op-dbus-exec.service")
    for generation, said in of_generations(users[0], "peek", front, root).items():
        for pid, found in facts(said).items():
            all_refused(f"by {generation} nobody looks into {pid}, nor signals it", found)
    for generation, said in of_generations(users[0], "gain").items():
        all_refused(f"by {generation} no rights are gained", facts(said), but=("su",))


def check_memory(users):
    """Each user has a memory, the one that the newer interface shows."""
    for user in users:
        said = older(user, "Memory", "RunOperation", "sss", "remember", "whose", f"of {user}")
        check(f"{user} remembers", said.get("success") is True, said)
    for user in users:
        said = older(user, "Memory", "RunOperation", "sss", "recall", "whose", "")
        check(f"{user} recalls the own value", f"of {user}" in said.get("data", ""), said)
        said = sh("op-dbusctl", "--via", "dbus", "--json", "call", "memory", "Recall", "key=whose", user=user)[1]
        check(f"{user} has it by the newer interface, too", f"of {user}" in said, said)


def prove():
    sh("useradd", "--create-home", STRANGER)
    users = (STRANGER, "alice")
    check_programs(users)
    check_memory(users)
    log = sh("op-dbusctl", "audit", "search", "--uid", str(machine.uid(STRANGER)), "--json")[1]
    check("the audit log has them as the caller's", "Exec" in log, log)
