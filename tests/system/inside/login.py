"""Logs a user in as display managers and sshd do, and runs a program in that login session. Needs root.

    login.py USER TYPE HOST PROGRAM...

TYPE is what the session is shown on (tty, wayland, x11); HOST is where the user comes from, or nothing.
"""

import ctypes
import os
import pwd
import subprocess
import sys

SERVICE = b"op-dbus-login"
PAM_TTY, PAM_RHOST = 3, 4


class Conversation(ctypes.Structure):
    """Who answers the questions of a module; none asks any here."""

    _fields_ = [("answer", ctypes.c_void_p), ("data", ctypes.c_void_p)]


def main():
    user, kind, host, *argv = sys.argv[1:]
    pam, handle = ctypes.CDLL("libpam.so.0"), ctypes.c_void_p()

    def must(what, status):
        if status != 0:
            sys.exit(f"login.py: {what} failed: {status}")

    must("pam_start", pam.pam_start(SERVICE, user.encode(), ctypes.byref(Conversation()), ctypes.byref(handle)))
    if host:
        must("pam_set_item", pam.pam_set_item(handle, PAM_RHOST, ctypes.c_char_p(host.encode())))
    if kind == "tty":
        must("pam_set_item", pam.pam_set_item(handle, PAM_TTY, ctypes.c_char_p(b"pts/proof")))
    must("pam_putenv", pam.pam_putenv(handle, f"XDG_SESSION_TYPE={kind}".encode()))
    must("pam_putenv", pam.pam_putenv(handle, b"XDG_SESSION_CLASS=user"))
    must("pam_open_session", pam.pam_open_session(handle, 0))
    entry = pwd.getpwnam(user)
    done = subprocess.run(
        argv, user=entry.pw_uid, group=entry.pw_gid, check=False,
        extra_groups=os.getgrouplist(user, entry.pw_gid),
    )
    pam.pam_close_session(handle, 0)
    return done.returncode


sys.exit(main())
