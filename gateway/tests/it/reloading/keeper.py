"""Does what systemd does for a socket unit and its service: keeps one listening socket, and starts the program with it
whenever it has ended. usage: keeper.py ADDRESS PORT PROGRAM ARGUMENT..."""

import os
import signal
import socket
import sys

listener = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=4096)
child = 0


def end(*_):
    if child:
        os.kill(child, signal.SIGKILL)
    os._exit(0)


signal.signal(signal.SIGTERM, end)
while True:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.dup2(listener.fileno(), 3)
        os.set_inheritable(3, True)
        os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="public", LISTEN_PID=str(os.getpid()))
        os.execv(sys.argv[3], sys.argv[3:])
    with open("pid.next", "w") as file:
        file.write(str(child))
    os.rename("pid.next", "pid")
    _, status = os.waitpid(child, 0)
    if status != 0:
        sys.exit(f"the program ended with {status}")
