"""What a program's result says of its confinement on this kernel, with the Landlock that this kernel has:
all that is enforced, what is missing and why, and that who requires all of it is refused then.

With a release of Landlock that is too old, or with none at all, this is the report of a degraded system.
"""

import ctypes
import os

import machine
from machine import COMMANDS, CallError, Client, check, facts, note, sh, until

# The first release of Landlock at all, the first one that also refuses to cut off files, and the first one
# that closes signals and abstract sockets.
SOME_FILES, FILES, SCOPE = 1, 3, 6
DROP_IN = "/run/systemd/system/op-dbus-exec.service.d/no-landlock.conf"


def landlock():
    """The release of Landlock that this kernel has; 0: none."""
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    create_ruleset, version = 444, 1
    return max(0, syscall(create_ruleset, None, 0, version))


def report(client, confinement):
    """The state of each mechanism, by its name."""
    run = {"confinement": confinement}
    said = client.call(COMMANDS + "Exec", {"argv": ["/bin/true"], "run": run})
    return {one["name"]: (one["state"].removeprefix("MECHANISM_STATE_"), one.get("detail", ""))
            for one in said["command"]["sandbox"]}


def check_report(release):
    client = Client("alice")
    found = report(client, "CONFINEMENT_PREFER")
    for name, (state, detail) in found.items():
        note(f"Landlock {release}: {name}: {state.lower()} ({detail})")
    for name in ("capabilities", "no_new_privileges", "sockets", "system_calls"):
        check(f"Landlock {release}: {name} hold", found[name][0] == "ENFORCED", found)
    for name, since in (("files", FILES), ("scope", SCOPE)):
        expected = "ENFORCED" if release >= since else "UNAVAILABLE"
        check(f"Landlock {release}: {name} is {expected.lower()}", found[name][0] == expected, found)
    missing = [detail for state, detail in found.values() if state == "UNAVAILABLE"]
    check(f"Landlock {release}: what is missing is given a reason", all(missing), found)
    check_required(client, release, found)
    # Files are refused by Landlock if it is there; else by nothing but their owner's rights.
    own = f"/var/tmp/of-alice-{release}"
    with open(own, "w", encoding="utf-8") as file:
        file.write("mine")
    os.chown(own, machine.uid("alice"), -1)
    opened = facts(client, ["read", own]).get(own)
    expected = "EACCES" if release >= SOME_FILES else "done"
    check(f"Landlock {release}: a file outside of the profile: {expected}", opened == expected, opened)
    os.remove(own)
    client.close()


def check_required(client, release, found):
    needed = {"files": FILES, "scope": SCOPE}
    lacks = sorted(name for name, since in needed.items() if release < since)
    try:
        report(client, "CONFINEMENT_REQUIRE")
        check(f"Landlock {release}: all of it can be required", not lacks, found)
    except CallError as error:
        check(f"Landlock {release}: who requires all of it is refused, with the reason",
              lacks and error.reason == "SANDBOX_UNAVAILABLE" and lacks[0] in error.message, error)


def prove():
    release = landlock()
    check_report(release)
    # The same kernel without Landlock, as far as a program can tell: seccomp says what such a kernel would.
    os.makedirs(os.path.dirname(DROP_IN), exist_ok=True)
    calls = " ".join(f"landlock_{call}:ENOSYS" for call in ("create_ruleset", "add_rule", "restrict_self"))
    with open(DROP_IN, "w", encoding="utf-8") as file:
        file.write(f"[Service]\nSystemCallFilter=~{calls}\n")
    restart()
    check_report(0)
    os.remove(DROP_IN)
    restart()


def restart():
    sh("systemctl", "daemon-reload")
    before = set(machine.workers())
    sh("systemctl", "restart", "op-dbus-exec.service")
    until(lambda: not before & set(machine.workers()))
