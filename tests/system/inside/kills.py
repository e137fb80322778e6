"""kill -9 of the daemon, the exec service and a worker in turn, while two users call: what ran has ended,
the calls that were cut off say so, and the next ones work within a second."""

import os
import signal
import threading
import time

import machine
from machine import COMMANDS, PING, CallError, Client, check, note, percentile, sh, until

# How much longer than another one the first call may take that begins after the kill: so many seconds, and
# on a slow machine so many times as long as it takes otherwise.
RECOVERY_MAX = 1.0
RECOVERY_TIMES = 8
IN_FLIGHT = 4


class Load:
    """A user who runs short programs, some at a time."""

    def __init__(self, user):
        self.user, self.client = user, Client(user)
        self.errors, self.done, self.stopped = [], [], threading.Event()
        self.threads = [threading.Thread(target=self.work) for _ in range(IN_FLIGHT)]
        for thread in self.threads:
            thread.start()

    def work(self):
        call = {"argv": ["sleep", "0.1"]}
        while not self.stopped.is_set():
            begun = time.monotonic()
            try:
                said = self.client.call(COMMANDS + "Exec", call, timeout=120)
                if said["command"]["ended"].get("code", 0) == 0:
                    self.done.append((begun, time.monotonic()))
                else:
                    self.errors.append(said)
            except CallError as error:
                self.errors.append(error)
                time.sleep(0.02)

    def usual(self):
        """How long a call takes, as far as nine of ten are concerned."""
        return percentile([end - begun for begun, end in self.done], 0.9)

    def recovered(self, killed):
        """When the first call had ended well that began after `killed`."""
        return min((end for begun, end in self.done if begun > killed), default=None)

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        self.client.close()


def of_users():
    """The processes of both users that are not their clients, nor stubs, which wait a while for the next
    program."""
    clients = ("client.py", "busctl", "exec-stub")
    return {
        pid
        for user in ("alice", "bob")
        for pid, line in machine.processes(user).items()
        if not any(name in line for name in clients)
    }


def pings(client):
    """Something that says how long the daemon itself was away, on both transports."""
    bus = ["busctl", "--timeout=120", "call", machine.NAME, "/org/opdbus/Agents1"]
    bus += ["org.freedesktop.DBus.Peer", "Ping"]

    def answers():
        try:
            client.call(PING, timeout=120)
        except CallError:
            return False
        return True

    ways = {"D-Bus": lambda: sh(*bus, user="bob")[0] == 0, "gRPC": answers}

    def ask(killed):
        found = {}

        def one(name):
            found[name] = until(ways[name]) and time.monotonic() - killed

        threads = [threading.Thread(target=one, args=[name]) for name in ways]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    return ask


def kill(what, pid, ends, loads, also=lambda killed: {}):
    """Kills `pid` and looks at all that follows. `ends`: the processes that must end with it. Gives what
    `also` finds, which begins with the kill."""
    usual = {}
    for load in loads:
        usual[load] = load.usual()
        load.errors.clear()
        load.done.clear()
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    found = {}
    beside = threading.Thread(target=lambda: found.update(also(killed)))
    beside.start()
    left = lambda: ends & set(machine.processes())
    gone = until(lambda: not left())
    check(f"{what}: what ran there has ended", gone is not None, left())
    until(lambda: all(load.recovered(killed) for load in loads))
    for load in loads:
        at = load.recovered(killed)
        took = at and at - killed
        if took:
            note(f"{what}: {load.user}'s next program had run {took:.2f} s later; else it takes {usual[load]:.2f} s")
        check(f"{what}: {load.user}'s calls work again within a second",
              took and took < max(RECOVERY_MAX, RECOVERY_TIMES * usual[load]) + usual[load], (took, usual[load]))
        wrong = [error for error in load.errors if not is_clear(error)]
        check(f"{what}: {load.user}'s {len(load.errors)} cut calls say Unavailable, and what happened",
              not wrong, [str(error) for error in wrong[:3]])
    errors = sorted({str(error) for load in loads for error in load.errors})
    for error in errors[:3]:
        note(f"{what}: as {error}")
    beside.join()
    return found


def is_clear(error):
    return isinstance(error, CallError) and error.code == "UNAVAILABLE" and bool(error.message)


def prove():
    # What this theme does is no accident.
    sh("systemctl", "reset-failed", "op-dbus.service", "op-dbus-exec.service")
    loads = [Load("alice"), Load("bob")]
    until(lambda: all(len(load.done) > 8 for load in loads))
    try:
        worker = machine.workers("alice")[0]
        bobs = machine.workers("bob")
        parent = lambda pid: machine.status(pid).get("PPid")
        below = {worker, *(pid for pid in of_users() if parent(pid) == str(worker))}
        kill("a worker", worker, below, [loads[0]])
        check("a worker: the other user's goes on", machine.workers("bob") == bobs, (bobs, machine.workers("bob")))
        check("a worker: the other user's calls, too", not loads[1].errors, loads[1].errors[:3])

        pid = machine.main_pid("op-dbus-exec.service")
        kill("the exec service", pid, of_users(), loads)

        pid = machine.main_pid("op-dbus.service")
        ends = of_users()
        asks = Client("bob")
        asks.call(PING)
        found = kill("the daemon", pid, ends, loads, pings(asks))
        asks.close()
        for over, took in found.items():
            check(f"the daemon: answers over {over} again", took, "it does not")
            note(f"the daemon: over {over} after {took or 0:.2f} s")
    finally:
        for load in loads:
            load.stop()
    log = sh("journalctl", "--unit=op-dbus-exec", "--quiet", "--no-pager")[1]
    check("the log says how the worker ended", f"(process {worker}) has gone: it was killed by signal 9" in log, log)
    # A folder is of the process whose number it bears.
    dead = lambda: [one for one in machine.temporary() if not machine.status(one.split("-")[-2])]
    check("no folder of a program that has ended is left", until(lambda: not dead()) is not None, dead())
    workers = set(machine.workers("alice")) | set(machine.workers("bob"))
    tidy = until(lambda: of_users() == workers)
    check("nothing is left but the workers", tidy is not None, of_users() - workers)
