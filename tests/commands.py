"""The command line: in this process, as a process of its own, and many commands in one process of their own.

A process takes three seconds to import what an engine needs, so it is started only where it is the point: its exit
status, its signals, its streams, a terminal, and settings that libraries read once, when they are imported.

    python -m tests.commands < '[["models"], ["info"]]'
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

from orcinus.__main__ import main

ORCINUS = [sys.executable, "-m", "orcinus"]
WIDTH = {"COLUMNS": "100"}
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | WIDTH
Done = subprocess.CompletedProcess[str]


def orcinus(*arguments: str, stdin: str = "") -> Done:
    """Run a command in this process: all that it prints and its status, by the same entry as a process of its own."""
    given, out, err = (io.TextIOWrapper(io.BytesIO(data), "utf-8") for data in (stdin.encode(), b"", b""))
    interrupt, status = signal.getsignal(signal.SIGINT), 0
    try:
        with (
            patch.dict(os.environ, WIDTH),
            patch.multiple(sys, argv=["orcinus", *arguments], stdin=given, stdout=out, stderr=err),
        ):
            main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        signal.signal(signal.SIGINT, interrupt)
    return Done(arguments, status, *(_written(stream) for stream in (out, err)))


def orcinus_process(*arguments: str, stdin: str = "", **environment: str) -> Done:
    """Run a command as a process of its own."""
    command = [*ORCINUS, *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, env=ENVIRONMENT | environment, timeout=120, check=False
    )


def orcinus_commands(*commands: Sequence[str], **environment: str) -> list[Done]:
    """Run commands one after the other in one process of their own."""
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env=ENVIRONMENT | environment,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [Done(*one) for one in json.loads(done.stdout)]


def _written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


if __name__ == "__main__":
    found = [orcinus(*command) for command in json.load(sys.stdin)]
    print(json.dumps([[one.args, one.returncode, one.stdout, one.stderr] for one in found]))
