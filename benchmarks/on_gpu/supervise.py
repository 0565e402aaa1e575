"""Supervision: a child runs the sections; one that dies or hangs is replaced.

A kernel that reads where it must not leaves a process with a device that refuses everything, and one that never ends
cannot be interrupted from within: neither may cost the sections that come after it.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence

from on_gpu.results import Results
from on_gpu.sections import START_S, Section
from orcinus.errors import ConfigError
from orcinus.parent import killed_with_this

GRACE_S = 15.0  # beyond its share, for a call into C to come back
POLL_S = 0.2
WRONG_INPUT = 2  # exit status: another child would say the same
Command = Callable[[Sequence[str]], list[str]]  # names of sections -> a command that runs them


def supervise(sections: Sequence[Section], results: Results, command: Command, grace_s: float = GRACE_S) -> None:
    """Run all sections that the file does not have yet. Afterwards it has all of them. Raises `ConfigError`."""
    while todo := [section.name for section in sections if section.name not in results.sections]:
        child = subprocess.Popen(command(todo), preexec_fn=killed_with_this())
        try:
            said = watch(child, results, grace_s)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        if child.returncode == WRONG_INPUT:
            raise ConfigError("no section was run: see above")
        results.read()
        if blamed := to_blame(results, todo):
            results.end(blamed, "failed", said)
            print(f"{blamed}: failed: {said}", flush=True)


def watch(child: subprocess.Popen[bytes], results: Results, grace_s: float) -> str:
    """Wait for a child's end or a section's limit; return what happened."""
    until = time.time() + 4 * START_S
    while child.poll() is None:
        time.sleep(POLL_S)
        results.read()
        if results.running:
            until = results.sections[results.running]["until"]
        if time.time() > until + grace_s:
            return f"did not stop {grace_s:.0f} s after its time: its process was ended"
    return f"its process ended with status {child.returncode}"


def to_blame(results: Results, todo: Sequence[str]) -> str | None:
    """The section a child left unfinished; the first if it began none."""
    if results.running:
        return results.running
    return todo[0] if todo[0] not in results.sections else None
