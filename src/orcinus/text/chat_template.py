"""Renders chat templates in a process that can be killed (ADR 23)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from orcinus.errors import RequestError, shortened
from orcinus.parent import signals_held
from orcinus.text import template_process as child

RENDER_S = 5.0  # most seconds of one rendering
RENDER_BYTES = 512 * 2**20  # most memory of one rendering
MOST_PROCESSES = 4  # renderings at once
START_S = 60.0  # seconds until a new process answers, on a busy machine
GRACE_S = 2.0  # seconds beyond a rendering's limit until the process is killed
REASONING = ("reasoning_content", "thinking", "reasoning")  # names of a message's reasoning; templates read the first
KEPT = ("TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME")  # environment variables that a template may see


class TemplateRenderer:
    """Renders chat templates in processes, started on demand and kept.

    May be used from several threads; a thread waits while `MOST_PROCESSES` others render. Errors are `RequestError`s.
    """

    def __init__(self, limit_s: float = RENDER_S) -> None:
        self.limit_s = limit_s
        self._begin()

    def _begin(self) -> None:
        self._owner = os.getpid()
        self._idle: list[_Process] = []
        self._places = threading.BoundedSemaphore(MOST_PROCESSES)
        self._end = weakref.finalize(self, _close_all, self._idle)

    def render(self, template: str, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """The text of a conversation.

        `variables` are what the template may read besides `messages`.
        """
        if self._owner != os.getpid():  # after a fork: those processes are the parent's
            self._end.detach()
            for inherited in self._idle:
                inherited.connection.close()
            self._begin()
        given = {"tools": None, "documents": None, **variables, "messages": [_message(one) for one in messages]}
        try:
            request = json.dumps({"template": template, "variables": given}).encode()
        except (TypeError, ValueError, RecursionError):
            raise RequestError("messages must be made of text, numbers, lists and dictionaries, as JSON has them") from None
        with self._places:
            status, text = self._ask(request)
        if status == child.TEXT:
            return text
        raise RequestError(_problem(status, text))

    def _ask(self, request: bytes) -> tuple[int, str]:
        process = self._take()
        try:
            status, text = process.ask(request, self.limit_s)
        except (OSError, EOFError):
            raise RequestError(self._death(process.kill())) from None
        except BaseException:  # interrupted: its answer must not reach the next request
            process.kill()
            raise
        if status == child.TOO_LARGE:
            process.kill()
        else:
            self._idle.append(process)
        return status, text

    def _take(self) -> _Process:
        """The live process used most recently, or a new one."""
        while self._idle:
            process = self._idle.pop()
            if process.popen.poll() is None:
                return process
            process.kill()
        return _Process(self.limit_s)

    def _death(self, status: int) -> str:
        if status == -signal.SIGALRM:
            return f"the model's chat template takes longer than {self.limit_s:g} s for this conversation: shorten it"
        return f"the process of the model's chat template ended (status {status}): send the conversation again"


class _Process:
    """A rendering process, and the socket to it.

    Raises `RequestError` if it does not start.
    """

    def __init__(self, limit_s: float) -> None:
        self.connection, other = socket.socketpair()
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        command = [sys.executable, "-m", child.__name__, str(limit_s), str(RENDER_BYTES)]
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
            raise RequestError(f"the process of the model's chat template does not start (status {self.kill()})") from None
        except BaseException:
            self.kill()
            raise

    def ask(self, request: bytes, limit_s: float) -> tuple[int, str]:
        """The status and text of the process's answer.

        Raises `OSError` or `EOFError` if it dies or does not answer in time.
        """
        until = time.monotonic() + limit_s + GRACE_S
        self.connection.settimeout(limit_s + GRACE_S)
        self.connection.sendall(child.FRAME.pack(0, len(request)) + request)
        return self._receive(until)

    def _receive(self, until: float) -> tuple[int, str]:
        status, size = child.FRAME.unpack(self._exactly(child.FRAME.size, until))
        if size > 4 * child.MOST_CHARACTERS:
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


def _close_all(idle: list[_Process]) -> None:
    while idle:
        idle.pop().kill()


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as templates expect it: no None, known reasoning names."""
    found = {name: value for name, value in message.items() if value is not None}
    reasoning = next((found[name] for name in REASONING if name in found), None)
    return found if reasoning is None else {"thinking": reasoning, **found, "reasoning_content": reasoning}


def _problem(status: int, text: str) -> str:
    if status == child.REFUSED:
        return f"the model's chat template refuses this conversation: {shortened(text)}"
    if status == child.TOO_LONG:
        return f"the model's chat template makes more than {child.MOST_CHARACTERS} characters of this conversation"
    if status == child.TOO_LARGE:
        return f"the model's chat template needs more than {RENDER_BYTES // 2**20} MiB for this conversation"
    return "the model's chat template cannot take this conversation"
