"""The exec service answers the front alone, and starts nothing but workers of ordinary users."""

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading

import machine
from bus import Bus
from machine import COMMANDS, CallError, Client, check, processes, sh, status, uid, until

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
    ask.settimeout(120)
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
    return subprocess.run(argv, input=message, stdout=subprocess.PIPE, timeout=240, check=True).stdout


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
    return sh("journalctl", "--unit=op-dbus-exec", "--quiet", "--no-pager")[1].count(") has started")


class Watch:
    """Notes each child of the exec service for as long as it is entered: its file and its first two words."""

    def __init__(self):
        self.seen, self.stopped = set(), threading.Event()
        self.root = str(machine.main_pid("op-dbus-exec.service"))
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.stopped.wait(0.005):
            for pid in below():
                with contextlib.suppress(OSError):
                    if status(pid).get("PPid") == self.root:
                        with open(f"/proc/{pid}/cmdline", "rb") as file:
                            words = file.read().decode().split("\0")[:2]
                        self.seen.add((os.readlink(f"/proc/{pid}/exe"), *words))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()


def check_callers(alice):
    """Whatever a caller sends, only workers are started for it, and none that is not the caller's."""
    # With a worker that has to be started for the first call.
    for pid in machine.workers("alice"):
        os.kill(pid, signal.SIGKILL)
    who = machine.program("who")
    runs = [{"profile": name} for name in ("../../bin/sh", "--uid=0", "/bin/sh", "exec\n", "x" * 300)]
    runs += [{"environment": {name: "/tmp/x"}} for name in ("LD_PRELOAD", "LISTEN_FDS", "PATH", "")]
    requests = [{"argv": who, "run": run} for run in runs]
    requests += [{"argv": who, "directory": path} for path in ("/proc/1/cwd", "/root", "..", "")]
    become = ["become-worker", "--uid=0", "--gid=0", "--files=64", "--profile=exec"]
    argvs = [["/usr/sbin/op-dbusd", *become], ["/proc/self/exe", *become], ["/proc/1/exe"], [""], ["--uid=0"]]
    requests += [{"argv": argv} for argv in argvs]
    forged = ("opdbus-uid", "opdbus-gid", "opdbus-pid", "opdbus-approved-by", "opdbus-profile")
    grpc, bus, before = Client("alice"), Bus("alice"), starts()
    ran = []
    with Watch() as watch:
        for request in requests:
            for client in (grpc, bus):
                with contextlib.suppress(CallError):
                    ran.append((request, client.call(COMMANDS + "Exec", request)))
        for name in forged:
            try:
                said = grpc.call(COMMANDS + "Exec", {"argv": who}, metadata={name: "0"})
                check(f"metadata {name} is refused", False, said)
            except CallError as error:
                check(f"metadata {name} is refused", error.code == "INVALID_ARGUMENT", error)
        ran.append(({"argv": who}, grpc.call(COMMANDS + "Exec", {"argv": who})))
    grpc.close()
    printed = [said.get("stdout", {}).get("text", "") for _, said in ran]
    uids = {json.loads(text)["uid"][0] for text in printed if text.startswith("{")}
    check("what ran was the caller's", uids == {str(alice)}, ran)
    done = [request for request, said in ran if "become-worker" in request["argv"] and not failed(said)]
    check("the exec service's own words do nothing for a caller", not done, done)
    workers = {("/usr/sbin/op-dbusd", "op-dbusd", word) for word in ("become-worker", "worker")}
    check("the exec service started workers and nothing else", watch.seen and watch.seen <= workers, watch.seen)
    check("one, for all of that", starts() == before + 1, starts() - before)


def failed(said):
    """True if the program of an Exec did not end well."""
    return said["command"]["ended"].get("code", 0) != 0 or said["command"]["ended"].get("signal", "")


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
    gone = until(lambda: set(below()) <= before)
    check("and undone when the front has gone", gone is not None, below())
    check("nothing but workers is there",
          set(below().values()) <= {"/usr/sbin/op-dbusd"}, below())
    check_callers(alice)
