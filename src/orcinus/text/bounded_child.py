"""The inside of a process whose time and memory the kernel bounds.

`BoundedProcesses` starts it, with both limits as arguments. It answers requests on a socket, one at a time, inherits no
environment, and ends soon after its parent. This module needs the standard library alone.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Container

READY = 0  # the first status; those of answers are the program's own
FRAME = struct.Struct("!BQ")  # status (0 in requests) and bytes that follow
WATCH_S = 5.0  # seconds between an idle process's checks of its parent
Answer = Callable[[bytes], tuple[int, bytes]]  # status and text of a request


def bound_memory(size: int) -> None:
    """Limit this process to `size` more bytes, and write no core file.

    If the system runs out of memory, it ends this process first.
    """
    try:
        with open("/proc/self/statm", encoding="ascii") as numbers:
            size += int(numbers.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
            score.write("1000")
    except OSError:  # no Linux: addresses are bounded, where the system does that at all
        size += 2**30
    for bound, most in ((resource.RLIMIT_AS, size), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(bound, (most, most))


def _receive(connection: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes. Raises `EOFError` if the parent is gone."""
    parts = []
    while size:
        part = connection.recv(min(size, 2**20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def serve(connection: socket.socket, limit_s: float, answer: Answer, last: Container[int] = ()) -> None:
    """Answer requests until the parent is gone, or an answer has one of the `last` statuses.

    A request that takes longer than `limit_s` ends the process.
    """
    parent = os.getppid()
    connection.sendall(FRAME.pack(READY, 0))
    while True:
        while not select.select([connection], [], [], WATCH_S)[0]:
            if os.getppid() != parent:  # and another process still holds the other end
                return
        signal.setitimer(signal.ITIMER_REAL, limit_s)  # the kernel's timer: no Python operation can delay it
        _, size = FRAME.unpack(_receive(connection, FRAME.size))
        status, text = answer(_receive(connection, size))
        connection.sendall(FRAME.pack(status, len(text)) + text)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if status in last:
            return


def run(answer: Answer, last: Container[int] = ()) -> None:
    """Serve on standard input, which is a socket, within the limits of the command line.

    Signals to a whole process group are ignored: the parent decides what they mean.
    """
    for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sent, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    bound_memory(int(sys.argv[2]))
    with contextlib.suppress(EOFError, ConnectionError), socket.socket(fileno=0) as connection:
        serve(connection, float(sys.argv[1]), answer, last)
