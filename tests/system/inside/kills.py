"""kill -9 of the daemon, the exec service and a worker in turn, while two users call: what ran has ended,
the calls that were cut off say so, and the next ones work within a second."""

import os
import signal
import threading
import time

import machine
from machine import COMMANDS, PING, CallError, Client, check, note, sh, until

# How long it may take until a call succeeds that began after the kill, in seconds.
RECOVERY_MAX = 1.0
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
                said = self.client.call(COMMANDS + "Exec", call, timeout=20)
                if said["command"]["ended"].get("code", 0) == 0:
                    self.done.append((begun, time.monotonic()))
                else:
                    self.errors.append(said)
            except CallError as error:
                self.errors.append(error)
                time.sleep(0.02)

    def recovered(self, killed):
        """When the first call had ended well that began after `killed`."""
        return min((end for begun, end in self.done if begun > killed), default=None)

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        self.client.close()


def of_users():
    """The processes of both users that are not their clients."""
    clients = ("client.py", "busctl")
    return {
        pid
        for user in ("alice", "bob")
        for pid, line in machine.processes(user).items()
        if not any(name in line for name in clients)
    }


def first_ping(killed, over):
    """Calls again and again until an answer comes: seconds since the kill."""
    while time.monotonic() - killed < 20:
        if over():
            return time.monotonic() - killed
    return None


def pings(killed):
    """How long the daemon itself was away, on both transports."""
    bus = ["busctl", "--timeout=1", "call", machine.NAME, "/org/opdbus/Agents1", "org.freedesktop.DBus.Peer", "Ping"]
    found = {}

    def over_grpc():
        client = Client("bob")
        answered = False
        try:
            client.call(PING, timeout=5)
            answered = True
        except CallError:
            pass
        client.close()
        return answered

    ways = {"D-Bus": lambda: sh(*bus, user="bob")[0] == 0, "gRPC": over_grpc}
    threads = [
        threading.Thread(target=lambda name=name, over=over: found.update({name: first_ping(killed, over)}))
        for name, over in ways.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def kill(what, pid, ends, loads, also=lambda killed: {}):
    """Kills `pid` and looks at all that follows. `ends`: the processes that must end with it. Gives what
    `also` finds, which begins with the kill."""
    for load in loads:
        load.errors.clear()
        load.done.clear()
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    found = {}
    beside = threading.Thread(target=lambda: found.update(also(killed)))
    beside.start()
    left = lambda: ends & set(machine.processes())
    gone = until(lambda: not left(), 5)
    check(f"{what}: what ran there has ended", gone is not None, left())
    until(lambda: all(load.recovered(killed) for load in loads), 10)
    for load in loads:
        at = load.recovered(killed)
        took = at - killed if at else None
        note(f"{what}: {load.user}'s next program had run {took:.2f} s later" if at else f"{what}: no recovery")
        # The program itself takes a tenth of a second.
        check(f"{what}: {load.user}'s calls work again within a second", at and took < RECOVERY_MAX + 0.1, took)
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
    until(lambda: all(len(load.done) > 8 for load in loads), 20)
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
        found = kill("the daemon", pid, ends, loads, pings)
        for over, took in found.items():
            note(f"the daemon: answers over {over} again after {took:.2f} s" if took else f"no {over}")
            check(f"the daemon: answers over {over} again within a second", took and took < RECOVERY_MAX, took)
    finally:
        for load in loads:
            load.stop()
    workers = set(machine.workers("alice")) | set(machine.workers("bob"))
    tidy = until(lambda: of_users() == workers, 5)
    check("nothing is left but the workers", tidy is not None, of_users() - workers)
