"""What the proofs share: users and their clients, what the machine runs, and checks. It proves nothing."""

import base64
import itertools
import json
import os
import pathlib
import pwd
import queue
import re
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
SOCKET = "/run/op-dbus/grpc.sock"
NAME = "org.opdbus.Agents1"
# How long something may take that must happen at all, on whatever machine, in seconds.
PATIENCE = 120

COMMANDS = "opdbus.agent.commands.v1.CommandsService/"
PING = "opdbus.v1.AgentsService/Ping"

failed = []


def check(what, holds, saw=""):
    """Prints whether something holds, and what was seen if it does not."""
    print(f"ok {what}" if holds else f"not ok {what}\n  saw: {saw}", flush=True)
    if not holds:
        failed.append(what)


def note(text):
    """Prints what was measured."""
    print(f"   {text}", flush=True)


def sh(*argv, user=None, timeout=2 * PATIENCE):
    """Runs a program, as a user if one is given; gives its status and all that it printed."""
    if user:
        argv = ["runuser", "-u", user, "--", *argv]
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False
    )
    return done.returncode, done.stdout.decode(errors="replace").strip()


def until(holds, seconds=PATIENCE):
    """Waits until `holds()` is true: after how many seconds it was, or None."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        if holds():
            return time.monotonic() - begun
        time.sleep(0.01)
    return None


class CallError(Exception):
    """A call that failed."""

    def __init__(self, said):
        super().__init__(f"{said['code']} {said['reason']}: {said['message']} {said['details']}")
        self.code, self.reason = said["code"], said["reason"]
        self.message, self.details = said["message"], said["details"]


class Client:
    """A user's gRPC client, in a process with that user's rights."""

    def __init__(self, user):
        argv = ["runuser", "-u", user, "--", sys.executable, str(HERE / "client.py"), f"unix:{SOCKET}"]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        self.ids, self.lock, self.waiting = itertools.count(), threading.Lock(), {}
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            said = json.loads(line)
            self.waiting.pop(said["id"]).put(said)

    def begin(self, method, request=None, **order):
        """Begins a call; what it gives waits for the response."""
        answer = queue.Queue()
        with self.lock:
            number = next(self.ids)
            self.waiting[number] = answer
            order = {"id": number, "method": method, "request": request or {}, **order}
            # The JSON form of protobuf has bytes in base 64.
            line = json.dumps(order, default=lambda data: base64.b64encode(data).decode())
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

        def end(timeout=5 * PATIENCE):
            said = answer.get(timeout=timeout)
            if "response" not in said:
                raise CallError(said)
            return said["response"]

        return end

    def call(self, method, request=None, **order):
        return self.begin(method, request, **order)()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def program(*arguments):
    """The command line of `program.py`, which is what users run here."""
    return ["python3", str(HERE / "program.py"), *map(str, arguments)]


def execute(client, arguments, run=None, wait=PATIENCE, **request):
    """Runs `program.py` as the client's user; gives the response and what the program printed."""
    request = {"argv": program(*arguments), "run": run or {}, "yield": f"{wait}s", **request}
    said = client.call(COMMANDS + "Exec", request, timeout=wait + 10)
    return said, said.get("stdout", {}).get("text", "")


def facts(client, arguments, run=None, **request):
    """The same for one that prints JSON."""
    said, text = execute(client, arguments, run, **request)
    try:
        return json.loads(text)
    except ValueError:
        return {"no facts": said}


def configure(name, text=None):
    """Puts a drop-in into the configuration, or takes it away. The service takes that up a moment later."""
    file = pathlib.Path("/etc/op-dbus/grpc.toml.d", f"60-{name}.toml")
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    status, said = sh("systemctl", "reload", "op-dbus.service")
    check(f"the configuration of {name} is taken up", status == 0, said)


def uid(user):
    return pwd.getpwnam(user).pw_uid


def status(pid):
    """The lines of /proc/PID/status by their names; nothing if the process has gone."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def processes(of=None):
    """The processes that have not ended, those of one user if one is given: pid and command line."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            said = status(entry.name)
            if said and said["State"][0] not in "ZX":
                if of is None or int(said["Uid"].split()[0]) == uid(of):
                    try:
                        line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                    except OSError:
                        continue
                    found[int(entry.name)] = line
    return found


def workers(of=None):
    """The pids of the workers."""
    return [pid for pid, line in processes(of).items() if re.match(r"op-dbusd worker\b", line)]


def unit(name, what):
    return sh("systemctl", "show", name, f"--property={what}", "--value")[1]


def main_pid(name):
    return int(unit(name, "MainPID") or 0)


def cgroup():
    """The folder of the exec service's control group (version 2)."""
    roots = [pathlib.Path("/sys/fs/cgroup", root) for root in ("unified", "")]
    found = (root / "system.slice/op-dbus-exec.service" for root in roots)
    return next(own for own in found if (own / "cgroup.procs").exists())


def cgroups():
    """The control groups below the exec service's."""
    return {str(path) for path in cgroup().rglob("*") if path.is_dir()}


def temporary():
    """The temporary folders of programs."""
    return {str(path) for path in pathlib.Path("/tmp").glob("op-dbus-*")}


def percentile(times, part):
    times = sorted(times)
    return times[min(len(times) - 1, int(len(times) * part))]
