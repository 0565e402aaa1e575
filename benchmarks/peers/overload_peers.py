"""Servers beyond their capacity, one after the other: Orcinus with promises, vLLM and llama.cpp.

    python benchmarks/peers/overload_peers.py [--systems orcinus,vllm,llama.cpp] [--loads 1,2,4] [--write docs/overload.md]

Starts each system's own server on the bundled model (`serve.py`), and offers it multiples of its own capacity
(`benchmarks/overload_server.py`). `--environments` is the folder of the peers' environments, if another checkout made them.
A load takes about `--seconds` and two measurements of the capacity; of a server that refuses none, also the time to empty its
queue, which is as long again for each multiple above one. `--write` puts the table between the marks of a page.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import overload_server  # noqa: E402

from orcinus.parent import killed_with_this  # noqa: E402

MARKS = "<!-- overload: begin -->", "<!-- overload: end -->"


@contextmanager
def server(system: str, asked: argparse.Namespace) -> Iterator[str]:
    """The URL of a system's server, which may still be loading."""
    if system == "orcinus":
        with overload_server.own_server(()) as url:
            yield url
        return
    command = [sys.executable, str(HERE / "serve.py"), system, "--port", str(asked.port)]
    command += ["--environments", asked.environments] if asked.environments else []
    log = Path(asked.logs) / f"{system}.log"
    with log.open("w") as out:
        peer = subprocess.Popen(command, stdout=out, stderr=out, preexec_fn=killed_with_this())
        try:
            yield f"http://127.0.0.1:{asked.port}"
        finally:
            peer.terminate()
            peer.wait(60)


def table(asked: argparse.Namespace) -> Iterator[str]:
    """The lines of the table, each as soon as it is known."""
    head, rule = overload_server.HEAD.splitlines()
    yield f"| system {head}"
    yield f"|---{rule}"
    for system in asked.systems.split(","):
        with server(system, asked) as url:
            overload_server.wait_for(url)
            for row in overload_server.measure(url, asked):
                yield f"| {system} {row}"


def write(page: Path, rows: list[str], asked: argparse.Namespace) -> None:
    """Replace what is between the marks of a page. Raises `ValueError` if it has none."""
    text = page.read_text()
    found = re.compile(f"{MARKS[0]}.*{MARKS[1]}", re.DOTALL)
    if not found.search(text):
        raise ValueError(f"{page} has no marks {' '.join(MARKS)}")
    how = f"{os.cpu_count()} cores, {platform.machine()}; `--loads {asked.loads} --seconds {asked.seconds:g} --slo {asked.slo}`"
    body = "\n".join([MARKS[0], "", f"The bundled model, float32, 16 places, {how}:", "", *rows, "", MARKS[1]])
    page.write_text(found.sub(lambda _: body, text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", default="orcinus,vllm,llama.cpp")
    parser.add_argument("--environments", help="folder of the peers' environments")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--logs", default=tempfile.gettempdir(), help="folder for the peers' logs")
    parser.add_argument("--model")
    parser.add_argument("--loads", default="1,2,4")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--slo", default="ttft=1,tbt=0.2")
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    asked = parser.parse_args()
    rows = []
    for row in table(asked):
        rows.append(row)
        print(row, flush=True)
    if asked.write:
        write(asked.write, rows, asked)


if __name__ == "__main__":
    main()
