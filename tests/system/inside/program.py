"""What users run by the commands agent to see, and to try, how far they get. Prints JSON, or answers, floods,
hogs, bombs and lingers.

    program.py WHAT [ARGUMENT...]
"""

import ctypes
import json
import os
import resource
import signal
import socket
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206


def tried(action):
    """`done`, or the name of the error with which the action was refused."""
    try:
        action()
    except OSError as error:
        import errno

        return errno.errorcode.get(error.errno, str(error))
    return "done"


def checked(result):
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def who():
    """What this process is to the system."""
    lines = open("/proc/self/status").read().splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    return {
        "uid": status["Uid"],
        "gid": status["Gid"],
        "groups": sorted(os.getgroups()),
        "capabilities": {name: status[name][0] for name in status if name.startswith("Cap")},
        "no_new_privs": status["NoNewPrivs"],
        "seccomp": status["Seccomp"],
        "cgroup": open("/proc/self/cgroup").read().splitlines(),
        "cwd": os.getcwd(),
        "environment": dict(os.environ),
        "descriptors": descriptors(),
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
    }


def descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            # The one that listed the folder.
            continue
    return found


def read(*paths):
    """Tries to read files and to list folders."""

    def open_one(path):
        if os.path.isdir(path):
            os.listdir(path)
        else:
            with open(path, "rb") as file:
                file.read(1)

    return {path: tried(lambda path=path: open_one(path)) for path in paths}


def write(*paths):
    """Tries to write files, and to make them in folders."""

    def write_one(path):
        if os.path.isdir(path):
            path = os.path.join(path, "made-by-a-program")
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))

    return {path: tried(lambda path=path: write_one(path)) for path in paths}


def peek(*pids):
    """Tries all that a debugger or a killer would."""

    def remote_read(pid):
        local = ctypes.create_string_buffer(8)
        vector = (ctypes.c_void_p * 2)(ctypes.addressof(local), 8)
        checked(LIBC.process_vm_readv(int(pid), vector, 1, vector, 1, 0))

    found = {}
    for pid in pids:
        folder = f"/proc/{pid}"
        ways = {name: (lambda path=f"{folder}/{name}": open(path, "rb").read(1)) for name in (
            "mem", "environ", "maps", "auxv", "pagemap", "syscall", "stack")}
        ways |= {name: (lambda path=f"{folder}/{name}": os.readlink(path)) for name in ("exe", "cwd", "root")}
        ways["fd"] = lambda: [os.readlink(entry.path) for entry in os.scandir(f"{folder}/fd")]
        ways["attach"] = lambda: checked(LIBC.ptrace(PTRACE_ATTACH, int(pid), None, None))
        ways["seize"] = lambda: checked(LIBC.ptrace(PTRACE_SEIZE, int(pid), None, None))
        ways["remote_read"] = lambda: remote_read(pid)
        for number in (0, signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP):
            ways[f"signal_{int(number)}"] = lambda number=number: os.kill(int(pid), number)
        found[pid] = {name: tried(way) for name, way in ways.items()}
    return found


def connect(*targets):
    """Tries to connect: `HOST:PORT`, `udp:HOST:PORT`, or a path."""

    def one(target):
        if target.startswith("/"):
            kind, address = (socket.AF_UNIX, socket.SOCK_STREAM), target
            if target.endswith("exec.sock"):
                kind = (socket.AF_UNIX, socket.SOCK_SEQPACKET)
        else:
            host, port = target.removeprefix("udp:").rsplit(":", 1)
            datagrams = socket.SOCK_DGRAM if target.startswith("udp:") else socket.SOCK_STREAM
            kind, address = (socket.AF_INET6 if ":" in host else socket.AF_INET, datagrams), (host, int(port))
        with socket.socket(*kind) as connection:
            connection.settimeout(60)
            connection.connect(address)
            connection.send(b"hello")

    return {target: tried(lambda target=target: one(target)) for target in targets}


def gain():
    """Tries to become more than the caller."""
    return {
        "setuid": tried(lambda: os.setuid(0)),
        "setgid": tried(lambda: os.setgid(0)),
        "setgroups": tried(lambda: os.setgroups([0])),
        "chown": tried(lambda: os.chown("/etc/passwd", os.getuid(), -1)),
        "user namespace": tried(lambda: checked(LIBC.unshare(0x10000000))),
        "network namespace": tried(lambda: checked(LIBC.unshare(0x40000000))),
        "mount": tried(lambda: checked(LIBC.mount(b"none", b"/mnt", b"tmpfs", 0, None))),
        "packet socket": tried(lambda: socket.socket(17, socket.SOCK_RAW).close()),
        # mount and su are set-user-id; without their rights they say so.
        "su": str(os.spawnlp(os.P_WAIT, "su", "su", "-c", "true") != 0),
    }


def standard_input():
    """Reads standard input to its end."""
    begun = time.monotonic()
    return {"read": len(sys.stdin.buffer.read()), "seconds": time.monotonic() - begun}


def bomb():
    """Forks until it cannot, in all of its children."""
    # Against a machine that does not hold it: no more generations than these.
    for _ in range(14):
        try:
            os.fork()
        except OSError:
            pass
    time.sleep(60)


def hog(megabytes):
    """Takes memory and uses it."""
    held = []
    for _ in range(int(megabytes)):
        held.append(os.urandom(4096) * 256)
    print("it was given all of it")


def flood(megabytes):
    """Prints so much."""
    block = b"x" * 65536
    for _ in range(int(megabytes) * 16):
        os.write(1, block)


def stubborn():
    """Hears no signal that can be ignored, and stays."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    print("it ignores them", flush=True)
    time.sleep(120)


def daemons(count):
    """Leaves daemons behind that have no session, no parent and no descriptor of this one."""
    for _ in range(int(count)):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.closerange(0, 256)
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(120)
            os._exit(0)
    print("they are there", flush=True)


def answer():
    """Repeats each line of its terminal, after the terminal's size."""
    for line in sys.stdin:
        size = os.get_terminal_size(0)
        print(f"{size.lines}x{size.columns}: {line}", end="", flush=True)


def linger(seconds):
    print("here", flush=True)
    time.sleep(float(seconds))


ACTIONS = {
    action.__name__: action
    for action in (answer, bomb, connect, daemons, flood, gain, hog, linger, peek, read, standard_input, stubborn)
    + (who, write)
}
result = ACTIONS[sys.argv[1]](*sys.argv[2:])
if result is not None:
    print(json.dumps(result))
