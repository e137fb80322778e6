"""Two users call over both transports: whose rights their workers and programs have, and that these reach
neither each other, nor the daemon, nor what is root's."""

import contextlib
import json
import os
import pathlib
import pwd
import re
import socket

import degraded
import machine
from bus import Bus
from machine import CallError, Client, check, facts, sh, status, until

# What a program finds in its environment if its caller adds nothing, at most.
VARIABLES = {"HOME", "LANG", "LC_ALL", "LOGNAME", "NO_COLOR", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER"}
# What `[worker]` holds a worker to, by the file of its control group.
LIMITS = {"memory.max": "4294967296", "pids.max": "1024", "cpu.weight": "100"}
NO_CAPABILITIES = "0" * 16
REFUSED = {"EACCES", "EPERM", "ENOENT", "EROFS"}


def over_dbus(user, *arguments):
    """Runs `program.py` by way of busctl; gives the JSON that it printed."""
    said = Bus(user).call("Exec", {"argv": machine.program(*arguments), "yield": "60s"})
    with contextlib.suppress(ValueError):
        return json.loads(said.get("stdout", {}).get("text", ""))
    return {"no facts": said}


def check_who(user, what, who, also=()):
    """A program is its caller, and nothing more. `also`: what else there may be in its environment."""
    entry = pwd.getpwnam(user)
    expected = [[str(entry.pw_uid)] * 4, [str(entry.pw_gid)] * 4]
    check(f"{what} has {user}'s uid and gid", [who.get("uid"), who.get("gid")] == expected, who)
    if "uid" not in who:
        return
    groups = sorted(os.getgrouplist(user, entry.pw_gid))
    check(f"{what} has {user}'s groups", who["groups"] == groups, (who["groups"], groups))
    check(
        f"{what} has no capability and gains none",
        set(who["capabilities"].values()) == {NO_CAPABILITIES} and who["no_new_privs"] == ["1"],
        who,
    )
    check(f"{what} is filtered and leaves no core file", (who["seccomp"], who["core"]) == (["2"], 0), who)
    own = f"/system.slice/op-dbus-exec.service/worker-{entry.pw_uid}-"
    check(f"{what} is in the control group of {user}'s worker", any(own in line for line in who["cgroup"]), who)
    check(f"{what} stands in {user}'s home", who["cwd"] == entry.pw_dir, who["cwd"])
    extra = set(who["environment"]) - VARIABLES - set(also)
    check(f"{what} has a clean environment", not extra, extra)
    check(f"{what} has three descriptors", set(who["descriptors"]) == {"0", "1", "2"}, who["descriptors"])


def check_worker(user):
    """A worker is its user, and nothing more."""
    entry, pids = pwd.getpwnam(user), machine.workers(user)
    check(f"{user} has one worker", len(pids) == 1, machine.processes(user))
    pid = pids[0]
    said = status(pid)
    groups = sorted(os.getgrouplist(user, entry.pw_gid))
    seen = (said["Uid"].split(), said["Gid"].split(), sorted(map(int, said["Groups"].split())))
    expected = ([str(entry.pw_uid)] * 4, [str(entry.pw_gid)] * 4, groups)
    check(f"it has {user}'s uid, gid and groups", seen == expected, said)
    capabilities = {said[name] for name in said if name.startswith("Cap")}
    check("it has no capability and gains none", (capabilities, said["NoNewPrivs"]) == ({NO_CAPABILITIES}, "1"), said)
    folder = pathlib.Path(f"/proc/{pid}")
    names = {line.split(b"=")[0].decode() for line in (folder / "environ").read_bytes().split(b"\0") if line}
    # LISTEN_FDS tells it of its socket.
    check("it has a clean environment", names <= VARIABLES | {"LISTEN_FDS"}, names)
    check("it stands in the root folder", os.readlink(folder / "cwd") == "/")
    check("it is the installed program", os.readlink(folder / "exe") == "/usr/sbin/op-dbusd")
    opened = [os.readlink(entry) for entry in (folder / "fd").iterdir()]
    wrong = [name for name in opened if not re.match(r"/dev/null$|socket:|pipe:|anon_inode:|/dev/pts/", name)]
    check("it has no file of anybody open", not wrong, opened)
    check_limits(pid)
    return pid


def check_limits(pid):
    """Its control group has the limits of `[worker]`, or the exec service says which it has not. The worker
    is in a leaf of it."""
    procs = machine.cgroup().rglob("cgroup.procs")
    groups = [path.parent for path in procs if str(pid) in path.read_text().split()]
    log = sh("journalctl", "--unit=op-dbus-exec", "--quiet", "--no-pager")[1]
    for file, value in {**LIMITS, "cpu.max": "150000 100000"}.items():
        path = groups[0].parent / file
        if path.exists():
            check(f"it is held to {file} {value}", path.read_text().strip() == value, path.read_text())
            check("which it cannot change", path.stat().st_uid == 0, path.stat())
        else:
            check(f"the log says that {file} is not to be had here", f"{file} of workers is not set" in log, log)


def all_refused(what, found, but=()):
    """Everything that was tried must have been refused."""
    got = {name: error for name, error in found.items() if name not in but and error not in REFUSED}
    check(what, found and not got, got or found)


def check_files(alice, bob):
    """What a program may open is what its caller may, within its profile."""
    folder = pathlib.Path("/srv/proof")
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    for user in ("alice", "bob"):
        secret = folder / user
        secret.write_text(f"of {user}")
        os.chown(secret, machine.uid(user), -1)
        secret.chmod(0o600)
    both = [str(folder / "alice"), str(folder / "bob")]
    # Opened to the program by the caller, so that nothing but the rights of the user is left to refuse.
    opened = {"access": [{"path": str(folder), "mode": "ACCESS_MODE_READ"}]}
    for client, own, other in ((alice, *both), (bob, *reversed(both))):
        found = facts(client, ["read", own, other], opened)
        user = pathlib.Path(own).name
        check(f"{user} reads the own 0600 file and not the other's",
              found == {own: "done", other: "EACCES"}, found)
    found = facts(alice, ["read", *both])
    check("outside of the profile's folders not even the own one is read",
          found == {path: "EACCES" for path in both}, found)

    state = ["/var/lib/op-dbus", *map(str, pathlib.Path("/var/lib/op-dbus").rglob("*"))]
    roots = ["/etc/shadow", "/root", *map(str, pathlib.Path("/run/log/journal").rglob("*.journal"))]
    opened = ("/etc", "/root", "/run/log", "/var/lib/op-dbus")
    access = {"access": [{"path": path, "mode": "ACCESS_MODE_WRITE"} for path in opened]}
    all_refused("the daemon's state is not read", facts(alice, ["read", *state]))
    all_refused("nor what is root's", facts(alice, ["read", *roots]))
    found = facts(alice, ["read", *state, *roots], access)
    all_refused("nor if the caller opens it to the program", found)
    places = ["/etc", "/etc/passwd", "/usr/bin", "/usr/sbin/op-dbusd", "/var/lib/op-dbus", "/run/op-dbus"]
    places += ["/run/systemd/system", "/boot", "/", str(machine.HERE)]
    access = {"access": [{"path": path, "mode": "ACCESS_MODE_WRITE"} for path in places if os.path.exists(path)]}
    all_refused("nothing is written there", facts(alice, ["write", *places], access))
    all_refused("no rights are gained", facts(alice, ["gain"]), but=("su",))
    check("nor by su", facts(alice, ["gain"]).get("su") == "True")


def check_others(alice, bob_worker):
    """No other process is looked into, traced or signalled."""
    front, root = machine.main_pid("op-dbus.service"), machine.main_pid("op-dbus-exec.service")
    own = machine.workers("alice")[0]
    names = {front: "the daemon", root: "the exec service", bob_worker: "the other's worker", 1: "systemd"}
    # Older kernels let a program signal whatever its user may, and the report says so.
    if degraded.landlock() >= degraded.SCOPE:
        names[own] = "the own worker"
    found = facts(alice, ["peek", *names])
    for pid, name in names.items():
        all_refused(f"{name} is neither seen into, nor traced, nor signalled", found.get(str(pid), {}))
    alive = [pid for pid in names if status(pid).get("State", "Z")[0] in "SR"]
    check("they all go on", sorted(alive) == sorted(names), (alive, names))


def check_worker_rights(alice, bob_worker):
    """What the worker itself can reach: a program of it that nothing confines has its rights, and no more."""
    machine.configure("callers", '[commands]\nprofiles = ["exec", "none"]\nconfinement = "off"\n')
    bare = {"profile": "none", "confinement": "CONFINEMENT_OFF"}

    def taken_up():
        try:
            return "uid" in facts(alice, ["who"], bare)
        except CallError:
            return False

    check("programs may run without confinement, if the configuration says so", until(taken_up) is not None)
    who, said = facts(alice, ["who"], bare), status(machine.workers("alice")[0])
    names = [name for name in said if name.startswith("Cap")]
    same = {**{name: said[name] for name in names}, "Uid": said["Uid"].split(), "Gid": said["Gid"].split()}
    found = {**who["capabilities"], "Uid": who["uid"], "Gid": who["gid"]}
    check("such a program has the worker's rights", found == same, (found, same))
    front, root = machine.main_pid("op-dbus.service"), machine.main_pid("op-dbus-exec.service")
    pids = {front: "the daemon", root: "the exec service", bob_worker: "the other's worker"}
    found = facts(alice, ["peek", *pids], bare)
    for pid, name in pids.items():
        all_refused(f"a worker cannot look into {name}, its memory and environment, nor signal it", found[str(pid)])
    state = ["/var/lib/op-dbus", *map(str, pathlib.Path("/var/lib/op-dbus").rglob("*"))]
    all_refused("nor read the daemon's databases", facts(alice, ["read", *state], bare))
    all_refused("nor write them", facts(alice, ["write", *state], bare))
    all_refused("nor ask the exec service", facts(alice, ["connect", "/run/op-dbus/exec.sock"], bare))
    all_refused("nor gain rights", facts(alice, ["gain"], bare), but=("su", "user namespace", "packet socket"))
    machine.configure("callers")


def check_network(alice):
    """The profile decides about sockets, the caller's rights about what is behind them."""
    listener = socket.create_server(("127.0.0.1", 0))
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", 0))
    tcp = "127.0.0.1:%d" % listener.getsockname()[1]
    udp = "udp:127.0.0.1:%d" % datagrams.getsockname()[1]
    paths = ["/run/op-dbus/grpc.sock", "/run/dbus/system_bus_socket", "/run/op-dbus/exec.sock"]
    for profile in ("exec", "read", "build"):
        found = facts(alice, ["connect", tcp, udp, *paths], {"profile": profile})
        all_refused(f"profile {profile} reaches no network and no socket", found)
    found = facts(alice, ["connect", tcp, udp, paths[-1]], {"profile": "network"})
    reached = {target: error for target, error in found.items() if error == "done"}
    check("profile network reaches the network", set(reached) == {tcp, udp}, found)
    check("but not the exec service", found.get(paths[-1]) in REFUSED, found)
    listener.close()
    datagrams.close()


def prove():
    # By default a worker has as much of the CPU as nobody else wants.
    machine.configure("workers", "[worker]\ncpu_percent = 150\n")
    sh("systemctl", "restart", "op-dbus-exec.service")
    alice, bob = Client("alice"), Client("bob")
    for user, client in (("alice", alice), ("bob", bob)):
        check_who(user, f"{user}'s program over gRPC", facts(client, ["who"]))
        check_who(user, f"{user}'s program over D-Bus", over_dbus(user, "who"))
    check_worker("alice")
    bob_worker = check_worker("bob")
    check_files(alice, bob)
    check_network(alice)
    check_others(alice, bob_worker)
    check_worker_rights(alice, bob_worker)
    for client in (alice, bob):
        client.close()
    machine.configure("workers")
    sh("systemctl", "restart", "op-dbus-exec.service")
