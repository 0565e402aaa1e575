"""Processes with bounded time and memory, which answer requests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Container
from dataclasses import dataclass

from orcinus.parent import python_module, signals_held
from orcinus.text import bounded_child as child

START_S = 60.0  # seconds until a new process answers, on a busy machine
GRACE_S = 2.0  # seconds beyond a request's limit until the process is killed
KEPT = ("TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME")  # environment variables that the processes may see


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """The limits of processes of one program."""

    seconds: float  # of one request
    memory: int  # bytes beyond what the process has at its start
    answer: int  # most bytes of an answer
    processes: int  # at once


class ProcessEnded(Exception):
    """A process ended instead of answering; `status` is negative for a signal."""

    def __init__(self, status: int, *, started: bool = True) -> None:
        super().__init__(f"status {status}")
        self.status, self.started = status, started

    @property
    def took_too_long(self) -> bool:
        """Whether its time was up."""
        return self.status == -signal.SIGALRM


class BoundedProcesses:
    """Processes of one program, started on demand and kept.

    May be used from several threads; a thread waits while others have all of them.
    """

    def __init__(self, program: str, limits: ProcessLimits, last: Container[int] = ()) -> None:
        self.program, self.limits = program, limits
        self.last = last  # statuses after which a process is not used again
        self._begin()

    def _begin(self) -> None:
        self._owner = os.getpid()
        self.idle: list[BoundedProcess] = []
        self._places = threading.BoundedSemaphore(self.limits.processes)
        self._end = weakref.finalize(self, _close_all, self.idle)

    def ask(self, *requests: bytes) -> tuple[int, str]:
        """The answer to the last of the requests, all to the same process; to an earlier one if that is not READY.

        Raises `ProcessEnded`.
        """
        if self._owner != os.getpid():  # after a fork: those processes are the parent's
            self._end.detach()
            for inherited in self.idle:
                inherited.connection.close()
            self._begin()
        with self._places:
            process = self._take()
            try:
                for request in requests:
                    status, text = process.ask(request)
                    if status != child.READY:
                        break
            except (OSError, EOFError):
                raise ProcessEnded(process.kill()) from None
            except BaseException:  # interrupted: its answer must not reach the next request
                process.kill()
                raise
            if status in self.last:
                process.kill()
            else:
                self.idle.append(process)
            return status, text

    def _take(self) -> BoundedProcess:
        """The live process used most recently, or a new one."""
        while self.idle:
            process = self.idle.pop()
            if process.popen.poll() is None:
                return process
            process.kill()
        return BoundedProcess(self.program, self.limits)


class BoundedProcess:
    """One process, and the socket to it.

    Raises `ProcessEnded` if it does not start.
    """

    def __init__(self, program: str, limits: ProcessLimits) -> None:
        self.limits = limits
        self.connection, other = socket.socketpair()
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        command = python_module(program, str(limits.seconds), str(limits.memory))
        with other, signals_held():  # only the parent reacts to signals to the group: it may drain
            self.popen: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                stdin=other.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,
            )
        try:
            self._receive(time.monotonic() + START_S)
        except (OSError, EOFError):
            raise ProcessEnded(self.kill(), started=False) from None
        except BaseException:
            self.kill()
            raise

    def ask(self, request: bytes) -> tuple[int, str]:
        """The status and text of the process's answer.

        Raises `OSError` or `EOFError` if it dies or does not answer in time.
        """
        most = self.limits.seconds + GRACE_S
        until = time.monotonic() + most
        self.connection.settimeout(most)
        self.connection.sendall(child.FRAME.pack(0, len(request)) + request)
        return self._receive(until)

    def _receive(self, until: float) -> tuple[int, str]:
        status, size = child.FRAME.unpack(self._exactly(child.FRAME.size, until))
        if size > self.limits.answer:
            raise EOFError
        return status, self._exactly(size, until).decode()

    def _exactly(self, size: int, until: float) -> bytes:
        found = bytearray()
        while len(found) < size:
            self.connection.settimeout(max(0.001, until - time.monotonic()))
            part = self.connection.recv(min(size - len(found), 2**20))
            if not part:
                raise EOFError
            found += part
        return bytes(found)

    def kill(self) -> int:
        """End the process; returns its exit status (negative = a signal)."""
        self.connection.close()
        try:
            return self.popen.wait(0.2)  # it ends by itself, or is dying with a reason
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            return -signal.SIGALRM


def _close_all(idle: list[BoundedProcess]) -> None:
    while idle:
        idle.pop().kill()
