"""Programs that take all that they can get: the result names the limit, the daemon answers others as it
does when idle, and nothing is left behind."""

import os
import pathlib
import re
import threading
import time

import machine
from machine import COMMANDS, PING, CallError, Client, check, execute, note, percentile, until

# How much slower than when nothing else happens others may be answered: the 99th percentile.
SLOWER_MAX = 10
FLOOD_MB = 1024


class Pulse:
    """Somebody who calls all the time and notes how long that takes."""

    def __init__(self, client):
        self.client, self.times, self.stopped = client, [], threading.Event()
        self.thread = threading.Thread(target=self.beat)

    def beat(self):
        while not self.stopped.is_set():
            self.times += self.client.call(PING, pulse=0.3)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()

    @property
    def p99(self):
        return percentile(self.times, 0.99)


class Attacks:
    """What one user does, while another one only asks how it is."""

    def __init__(self):
        self.attacker, self.other = Client("alice"), Client("bob")
        # Whatever is made once, is made now: the worker and the clients' descriptors.
        execute(self.attacker, ["linger", 0])
        self.other.call(PING, pulse=0.5)
        self.worker = machine.workers("alice")[0]
        self.before = self.left()
        self.idle = self.measure_idle(4)

    def measure_idle(self, seconds):
        with Pulse(self.other) as pulse:
            time.sleep(seconds)
        note(f"echo when idle: p50 {percentile(pulse.times, 0.5):.2f} ms, p99 {pulse.p99:.2f} ms")
        return pulse.p99

    def left(self):
        """What could be left of a program. A stub that waits for the next one keeps an empty folder."""
        own = machine.processes("alice")
        others = {pid for pid, line in own.items() if "client.py" in line or "exec-stub" in line}
        folders = {folder for folder in machine.temporary() if any(pathlib.Path(folder).iterdir())}
        return {*(set(own) - others), *machine.cgroups(), *folders}

    def whatever_is_left(self):
        own = machine.processes("alice")
        return [(one, own.get(one, "")) for one in self.left() - self.before]

    def attack(self, what, action):
        """Does it, with a look at the other one and at what is left."""
        begun = time.monotonic()
        with Pulse(self.other) as pulse:
            said = action()
        seconds = time.monotonic() - begun
        note(f"{what}: {seconds:.1f} s; echo meanwhile: p99 {pulse.p99:.2f} ms, max {max(pulse.times):.2f} ms")
        # A short attack has too few calls for a percentile of its own.
        slow = pulse.p99 if len(pulse.times) >= 100 else percentile(pulse.times, 0.9)
        if slow >= SLOWER_MAX * self.idle:
            # The machine may have got busier by somebody else's doing.
            self.idle = max(self.idle, self.measure_idle(2))
        check(f"{what}: others are answered", slow < SLOWER_MAX * self.idle, (slow, self.idle))
        clean = until(lambda: self.left() <= self.before)
        check(f"{what}: nothing is left behind", clean is not None, self.whatever_is_left())
        return said

    def limited(self, what, arguments, limits, limit):
        """A program that meets a limit, which its result names."""
        run = {"limits": limits}
        said = self.attack(what, lambda: execute(self.attacker, arguments, run)[0])
        ended = said.get("command", {}).get("ended", {})
        named = re.fullmatch(limit, ended.get("limit", ""))
        check(f"{what}: the result names {limit} and its value", named and ended.get("limitValue"), said)
        return said


def flood(attacks):
    """One gigabyte, kept in part, streamed, and limited."""
    size = FLOOD_MB << 20
    said = attacks.attack("output of 1 GB", lambda: execute(attacks.attacker, ["flood", FLOOD_MB])[0])
    printed = said.get("stdout", {})
    kept = len(printed.get("text", ""))
    check("all of it is counted and little is kept",
          printed.get("totalBytes") == str(size) and 0 < kept < 1 << 20, (printed.get("totalBytes"), kept))
    call = {"argv": machine.program("flood", FLOOD_MB)}
    stream = lambda: attacks.attacker.call(COMMANDS + "ExecStream", call, count=True, timeout=600)
    said = attacks.attack("output of 1 GB as a stream", stream)
    check("a reader gets all of it", said["bytes"] == size, said)
    attacks.limited("output over its limit", ["flood", FLOOD_MB], {"outputBytes": 50 << 20}, r"limits\.output.*")


def readers(attacks):
    """The program ends with the call that reads it."""
    call = {"argv": machine.program("linger", 60)}
    stream = lambda **order: lambda: attacks.attacker.call(COMMANDS + "ExecStream", call, **order)

    # Not said, the task would go on for whoever reads on.
    going_with_client = {"opdbus-on-disconnect": "cancel"}

    def leave():
        try:
            return stream(leave=1, metadata=going_with_client)()
        except CallError as error:
            return error.code

    code = attacks.attack("a reader that leaves", leave)
    check("a reader that leaves: the call is cancelled", code == "CANCELLED", code)
    said = attacks.attack("a call with a deadline", stream(timeout=2))
    limit = said[-1]["command"]["ended"].get("limit")
    check("a call with a deadline: the result names it", limit == "deadline", said)


def many_programs(attacks):
    """A hundred programs, eight at a time; every third one does not exist."""
    calls = []
    for number in range(100):
        argv = ["/bin/true"] if number % 3 else ["/nowhere/at-all"]
        calls.append(attacks.attacker.begin(COMMANDS + "Exec", {"argv": argv}))
        if len(calls) == 8 or number == 99:
            for end in calls:
                try:
                    end()
                except CallError:
                    continue
            calls = []


def descriptors(attacks):
    """As many descriptors after many programs as before."""
    pids = {"daemon": machine.main_pid("op-dbus.service"), "exec service": machine.main_pid("op-dbus-exec.service")}
    pids["worker"] = attacks.worker
    count = lambda: {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in pids.items()}
    many_programs(attacks)
    before = count()
    many_programs(attacks)
    # A stub that waits for the next program has a socket, and there may be one more of them than before: up to
    # 16 (READY_MAX in src/process/stubs.rs). Programs that leave something leave 33 or more.
    most = {name: fds + (16 if name == "worker" else 0) for name, fds in before.items()}
    settled = until(lambda: all(after <= most[name] for name, after in count().items()))
    check("no descriptor is left open after 100 programs more", settled is not None, (before, count()))


def prove():
    attacks = Attacks()
    attacks.limited("a fork bomb", ["bomb"], {"processes": 200}, r"limits\.processes")
    # So many processes may also be too much memory.
    attacks.limited("a fork bomb with the usual limits", ["bomb"], {}, r"limits\.(processes|memory_bytes)")
    attacks.limited("a memory hog", ["hog", 2048], {"memoryBytes": 256 << 20}, r"limits\.memory.*")
    flood(attacks)
    limits = {"wall": "1s", "grace": "0.5s"}
    said = attacks.limited("a program that ignores SIGTERM", ["stubborn"], limits, r"limits\.wall")
    check("it was killed after its grace", said["command"]["ended"].get("signal") == "KILL", said)
    said = attacks.attack("double-fork daemons", lambda: execute(attacks.attacker, ["daemons", 20])[0])
    check("they are counted", said["command"]["ended"].get("leftBehind") == 20, said)
    said = attacks.attack("a closed standard input", lambda: machine.facts(attacks.attacker, ["standard_input"]))
    check("it is at its end at once", said.get("read") == 0 and said["seconds"] < 30, said)
    readers(attacks)
    descriptors(attacks)
    check("the worker is still the same", machine.workers("alice") == [attacks.worker])
    attacks.attacker.close()
    attacks.other.close()
