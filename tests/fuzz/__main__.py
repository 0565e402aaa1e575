"""`make fuzz`: the tests of this folder with many more examples, again and again with other seeds, until the time is up.

python -m tests.fuzz [--minutes N] [--times N] [--only WORD]

Each round prints its seed. The first round that fails is the last: hypothesis keeps its smallest example in `.hypothesis`, so
that the next run of its test begins with it, until it is mended. Then it is kept for good: as an `@example` of the test, or
as a file in `seeds`.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz until the time is up.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--times", type=int, default=4, help="how many times as many examples as `make test-all` takes")
    parser.add_argument("--only", default="", help="tests whose names have this in them")
    given = parser.parse_args(arguments)
    until, rounds = time.monotonic() + 60 * given.minutes, 0
    while time.monotonic() < until:
        seed = random.randrange(2**32)
        print(f"round {rounds + 1}: --hypothesis-seed={seed}", flush=True)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            str(FOLDER),
            "--all",
            f"--times={given.times}",
            f"--hypothesis-seed={seed}",
        ]
        status = subprocess.run([*command, "-k", given.only] if given.only else command, check=False).returncode
        if status:
            return status
        rounds += 1
    print(f"{rounds} rounds found nothing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
