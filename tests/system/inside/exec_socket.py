"""The exec service answers the front alone, and starts nothing but workers of ordinary users."""

import os
import struct
import subprocess
import sys

import machine
from machine import check, processes, sh, uid, until

SOCKET = "/run/op-dbus/exec.sock"
BEGIN = b"opdx\x01"
STARTED, REFUSED = 0, 1

# Connects as the user whose uid it is given, sends what is on its standard input, and prints the answer.
ASK = """
import os, socket, sys
uid = int(sys.argv[1])
message = sys.stdin.buffer.read()
os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as ask:
    ask.settimeout(10)
    try:
        ask.connect("%s")
        ask.send(message)
        answer, passed, _, _ = socket.recv_fds(ask, 2000, 4)
        sys.stdout.buffer.write(bytes([len(passed)]) + answer)
    except OSError as error:
        sys.stdout.buffer.write(b"error " + type(error).__name__.encode())
""" % SOCKET


def request(of, profile=b"exec"):
    return BEGIN + struct.pack("<I", of) + bytes([len(profile)]) + profile


def ask(user, message):
    """What a process of this user is told."""
    argv = [sys.executable, "-c", ASK, str(uid(user))]
    return subprocess.run(argv, input=message, stdout=subprocess.PIPE, timeout=30, check=True).stdout


def is_refusal(answer):
    """A refusal comes without a descriptor, and says why."""
    return answer[:1] == b"\0" and answer[1:6] == BEGIN and answer[6:7] == bytes([REFUSED])


def below():
    """What runs in the control group of the exec service besides itself: pid, and the program's file."""
    root = machine.main_pid("op-dbus-exec.service")
    found = {}
    for pid in processes():
        try:
            with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
                is_below = "op-dbus-exec.service" in file.read()
            if is_below and pid != root:
                found[pid] = os.readlink(f"/proc/{pid}/exe")
        except OSError:
            continue
    return found


def starts():
    """How many workers there have been."""
    return sh("journalctl", "--unit=op-dbus-exec", "--quiet", "--no-pager")[1].count("a worker has started")


def prove():
    alice = uid("alice")
    for user in ("alice", "nobody"):
        answer = ask(user, request(alice))
        check(f"{user} may not open the socket", answer == b"error PermissionError", answer)
    answer = ask("root", request(alice))
    check("root, who may, is refused as not being the front", is_refusal(answer) and b"not the front" in answer, answer)

    front = "op-dbus"
    before, count = set(below()), starts()
    nobodies = {"root": 0, "daemon": 1, "op-dbus": uid(front), "nobody": 65534, "who is unknown": 54321}
    for name, of in {**nobodies, "nobody at all": 2**32 - 1}.items():
        answer = ask(front, request(of))
        check(f"no worker is started for {name} (uid {of})", is_refusal(answer), answer)
    good = request(alice)
    wrong = {
        "nothing at all": b"",
        "a part of a message": good[:-1],
        "more than a message": good + b"x",
        "another version": b"opdx\x02" + good[5:],
        "a long message": good + bytes(3000),
        "a path as profile": request(alice, b"../../bin/sh"),
        "an option as profile": request(alice, b"--uid=0"),
        "a profile with a zero byte": request(alice, b"ex\0c"),
        "a shell's words": b"/bin/sh -c id",
    }
    for what, message in wrong.items():
        answer = ask(front, message)
        # An empty message is the end of a connection, and so is the answer.
        check(f"{what} is refused", is_refusal(answer) or (message == b"" and len(answer) <= 1), answer)
    started = set(below()) - before
    check("none of it started anything", not started and starts() == count, (below(), starts() - count))

    answer = ask(front, good)
    started = answer[:1] == b"\1" and answer[6:7] == bytes([STARTED])
    check("what the front says is done", started, answer)
    check("that is a worker", starts() == count + 1, starts() - count)
    gone = until(lambda: set(below()) <= before, 5)
    check("and undone when the front has gone", gone is not None, below())
    check("nothing but workers is there",
          set(below().values()) <= {"/usr/sbin/op-dbusd"}, below())
