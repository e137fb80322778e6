"""Stands in for journald: prints what programs log to its socket, for as long as it runs.

    journal.py PATH
"""

import socket
import sys

journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.bind(sys.argv[1])
while True:
    print(journal.recv(1 << 16).decode(errors="replace"), flush=True)
