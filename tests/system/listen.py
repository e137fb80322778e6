"""Hands a listening Unix socket to a program the way systemd does.

    listen.py PATH PROGRAM [ARGUMENT...]
"""

import os
import socket
import sys

path, *command = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
os.chmod(path, 0o666)
listener.listen(64)
os.dup2(listener.fileno(), 3)
# dup2 onto itself changes nothing, not even this.
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execvp(command[0], command)
