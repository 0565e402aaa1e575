"""One adapter as a process that stays loaded and takes its turns."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

GRACE = 5.0  # seconds to end by itself when its stdin does
TICKS = os.sysconf("SC_CLK_TCK")


class PeerFailed(Exception):
    """What became of a peer, in one line."""


class Peer:
    """An adapter's process in a session of its own, so that Ctrl-C does not reach it. Its stderr goes to `log`."""

    def __init__(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> None:
        self.name, self.log = name, log
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with log.open("w") as errors:
            self._process: subprocess.Popen[str] = subprocess.Popen(
                [str(word) for word in command], stderr=errors, start_new_session=True, env=dict(environment), **pipes
            )

    def ask(self, request: Mapping[str, Any], patience: float) -> dict[str, Any]:
        """Its answer. Raises `PeerFailed` if it says an error, ends, or takes more than `patience` seconds."""
        assert self._process.stdin
        assert self._process.stdout
        late = threading.Event()
        alarm = threading.Timer(patience, lambda: (late.set(), self.kill()))
        alarm.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                print(json.dumps(request), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        finally:
            alarm.cancel()
        if late.is_set():
            raise PeerFailed(f"no answer after {patience:.0f} s")
        return self._parsed(line)

    def cpu_seconds(self) -> float:
        """CPU time that its session has used, its children that have ended left out; NaN where there is no /proc."""
        if not Path("/proc/self/stat").exists():
            return float("nan")
        return sum(_cpu_seconds_in(entry, self._process.pid) for entry in os.listdir("/proc") if entry.isdigit())

    def close(self) -> None:
        """Let it end by itself, and end it if it does not."""
        with contextlib.suppress(BrokenPipeError, ValueError):
            if self._process.stdin:
                self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        self.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def kill(self) -> None:
        """End it and its children at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _parsed(self, line: str) -> dict[str, Any]:
        if not line:
            self._process.wait()
            raise PeerFailed(f"ended with status {self._process.returncode}{self._last_words()}")
        try:
            answer = json.loads(line)
        except ValueError:
            raise PeerFailed(f"answered what is no JSON: {line[:80]!r}") from None
        if "error" in answer:
            raise PeerFailed(str(answer["error"]))
        return dict(answer)

    def _last_words(self) -> str:
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return f": {lines[-1][:200]}" if lines else ""


def _cpu_seconds_in(entry: str, session: int) -> float:
    """CPU time of a process if it is in the session (proc(5): its name may hold blanks, but ends at the last bracket)."""
    try:
        fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended meanwhile
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS if int(fields[3]) == session else 0.0
