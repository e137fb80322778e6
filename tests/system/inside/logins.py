"""Rules for login sessions mean those that the system's own logind has: a user is refused in just the one that
a rule names, over both transports."""

import pathlib
import sys

import machine
from machine import HERE, check, sh

USER = "alice"
# What logs in asks logind for a session, and nothing else.
PAM = "account required pam_permit.so\nsession required pam_systemd.so\n"
CALL = ("call", "memory", "Remember", "key=login", "value.string_value=seen")


# A program that the user's manager runs.
UNIT = "op-dbus-login.service"


def login(shown_on, host, *argv):
    """Runs a program in a session of its own; gives its status and all that it printed."""
    return sh(sys.executable, str(HERE / "login.py"), USER, shown_on, host, *argv)


def by_manager(*argv):
    """The same by the user's manager, which belongs to no session."""
    runtime = pathlib.Path(f"/run/user/{machine.uid(USER)}")
    said = runtime / "said"
    said.unlink(missing_ok=True)
    pathlib.Path("/run/systemd/user").mkdir(parents=True, exist_ok=True)
    pathlib.Path("/run/systemd/user", UNIT).write_text(
        f"[Service]\nType=oneshot\nExecStart={' '.join(argv)}\n"
        f"StandardOutput=file:{said}\nStandardError=inherit\n"
    )
    manager = ("runuser", "-u", USER, "--", "env", f"XDG_RUNTIME_DIR={runtime}", "systemctl", "--user")
    sh(*manager, "daemon-reload")
    status, problem = sh(*manager, "start", UNIT)
    return status, said.read_text() if said.exists() else problem


# How a program is run in a session of each kind.
KINDS = {
    "graphical": lambda *argv: login("wayland", "", *argv),
    "terminal": lambda *argv: login("tty", "", *argv),
    "remote": lambda *argv: login("tty", "elsewhere.example", *argv),
    "user-manager": by_manager,
    "background": lambda *argv: sh(*argv, user=USER),
}


def call(kind, via):
    """Calls in a session of this kind: true, false if that is refused, or what else was said."""
    status, said = KINDS[kind]("/usr/bin/op-dbusctl", "--via", via, *CALL)
    if status == 0:
        return True
    return False if "AccessDenied" in said or "ACCESS_DENIED" in said else said


def prove():
    service = pathlib.Path("/etc/pam.d/op-dbus-login")
    service.write_text(PAM)
    manager = pathlib.Path(f"/run/user/{machine.uid(USER)}/systemd/private")
    check("logind keeps a manager for the user", sh("loginctl", "enable-linger", USER)[0] == 0
          and machine.until(manager.exists) is not None, sh("systemctl", "status", "systemd-logind"))
    for refused in KINDS:
        machine.configure("logins", '[[policy]]\nagents = ["memory"]\ndecision = "deny"\n'
                          f'users = ["{USER}"]\nlogin_sessions = ["{refused}"]\n')
        found = {(kind, via): call(kind, via) for kind in KINDS for via in ("grpc", "dbus")}
        expected = {(kind, via): kind != refused for kind, via in found}
        check(f"a rule for {refused} holds for that session, over both transports, and for no other",
              found == expected, found)
    machine.configure("logins")
    sh("loginctl", "disable-linger", USER)
    service.unlink()
