"""Runs proofs on a machine that systemd runs and that has the package installed. Needs root.

    prove.py THEME...

Each theme is a module beside this one. Ends with 1 if anything did not hold.
"""

import importlib
import subprocess
import sys
import time
import traceback

import machine

USERS = ("alice", "bob")


def main():
    for user in USERS:
        subprocess.run(["useradd", "--create-home", "--groups", "op-dbus", user], check=False,
                       stderr=subprocess.DEVNULL)
    subprocess.run(["groupadd", "--force", "painters"], check=True)
    subprocess.run(["usermod", "--append", "--groups", "painters", "alice"], check=True)
    for theme in sys.argv[1:]:
        print(f"-- {theme}", flush=True)
        begun = time.monotonic()
        try:
            importlib.import_module(theme).prove()
        except Exception:  # noqa: BLE001 (the other themes are tried, too)
            machine.check(f"{theme} comes to its end", False, traceback.format_exc())
        machine.note(f"{theme}: {time.monotonic() - begun:.0f} s")
    for what in machine.failed:
        print(f"FAILED: {what}")
    return 1 if machine.failed else 0


sys.exit(main())
