"""What the page costs an engine that serves many streams, and how smoothly it draws.

    make .venv-clients/browser/installed
    .venv-clients/browser/bin/python benchmarks/page.py [--streams 256] [--rounds 5] [--seconds 8] [-- SERVER OPTIONS]

Starts `orcinus serve --simulate llama-7b` (or with the options behind `--`), has it answer so many requests at once without an
end, and looks at it in turn: not at all, in a page of headless Chromium, and with ten watchers of its iterations. Printed are
medians over the rounds: milliseconds of an iteration and its CPU time in the engine's and the HTTP process (from
`/metrics` and `/proc`), the ratios to the same round without a watcher, and the page's frames a second, by
requestAnimationFrame. The browser and the watchers run on the same machine, whose cores they take. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from playwright.sync_api import Browser, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
ORCINUS = Path(__file__).parents[1] / ".venv" / "bin" / "orcinus"
SIMULATED = ("--simulate", "llama-7b", "--device", "a100-80g")
WATCHERS = 10
SETTLE_S = 1.5
FRAMES = """(seconds) => new Promise((done) => {
  const began = performance.now(); let frames = 0, last = began, longest = 0;
  requestAnimationFrame(function again(now) {
    frames += 1; longest = Math.max(longest, now - last); last = now;
    if (now - began < 1000 * seconds) requestAnimationFrame(again);
    else done([1000 * frames / (now - began), longest]);
  });
})"""


class Reading(NamedTuple):
    """Sums since the server began."""

    iterations: float
    seconds: float  # of all iterations
    engine_cpu: float
    http_cpu: float


class Costs(NamedTuple):
    """Milliseconds of an iteration, and of CPU time in each process; frames a second and the longest frame, of a page."""

    iteration: float
    engine_cpu: float
    http_cpu: float
    frames: tuple[float, float] | None = None


class Server:
    """A server in processes of its own."""

    def __init__(self, options: list[str], streams: int) -> None:
        sizes = ("--max-batch-size", str(streams), "--max-queue", str(4 * streams))
        command = [str(ORCINUS), "serve", "--port", "0", *options, *sizes]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = re.search(r"http\S+:\d+$", self.process.stdout.readline().strip())
        if found is None:
            raise SystemExit("the server did not start")
        self.url, pid = found[0], self.process.pid
        while not self._ready():
            time.sleep(0.5)
        (self.engine,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    def _ready(self) -> bool:
        with suppress(urllib.error.HTTPError):
            self.call("/v1/scheduler")
            return True
        return False

    def call(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=3600) as answer:
            return json.load(answer)

    def metric(self, name: str) -> float:
        text = urllib.request.urlopen(f"{self.url}/metrics", timeout=60).read().decode()
        return sum(map(float, re.findall(rf"^orcinus_{name}\{{.*\}} (\S+)$", text, re.M)))

    def read(self) -> Reading:
        made, seconds = (self.metric(f"iteration_duration_seconds_{what}") for what in ("count", "sum"))
        return Reading(made, seconds, _cpu_seconds(self.engine), _cpu_seconds(self.process.pid))


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def keep_busy(server: Server, streams: int, tokens: int, going: threading.Event) -> None:
    """Have the server answer so many requests at once, again and again."""
    while going.is_set():
        one = {"prompt": "Tell me a long story about the sea", "max_tokens": tokens}
        with suppress(OSError):
            server.call("/v1/scheduler/load", {"requests": [one] * streams})


def measured(server: Server, look: Callable[[], tuple[float, float] | None], streams: int) -> Costs:
    """What iterations cost while something looks."""
    while server.metric("num_requests_running") < streams:
        time.sleep(0.2)
    time.sleep(SETTLE_S)
    before = server.read()
    frames = look()
    after = server.read()
    made, seconds, engine, http = (later - earlier for later, earlier in zip(after, before, strict=True))
    return Costs(1e3 * seconds / made, 1e3 * engine / made, 1e3 * http / made, frames)


@contextmanager
def watchers(server: Server, count: int) -> Iterator[None]:
    """So many clients that read all iterations, in a process of their own."""
    command = ["curl", "-sN", "-o", "/dev/null", f"{server.url}/v1/scheduler/iterations"]
    running = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for one in running:
            one.terminate()
            one.wait()


def rounds_of(server: Server, browser: Browser, arguments: argparse.Namespace) -> dict[str, list[Costs]]:
    """All sides in turn, in changing order."""
    seconds, streams = arguments.seconds, arguments.streams

    def alone() -> Costs:
        return measured(server, lambda: time.sleep(seconds), streams)

    def page() -> Costs:
        one = browser.new_page(viewport={"width": 1440, "height": 900})
        one.goto(server.url)
        one.get_by_text("live", exact=True).wait_for()
        try:
            return measured(server, lambda: tuple(one.evaluate(FRAMES, seconds)), streams)
        finally:
            one.close()

    def watched() -> Costs:
        with watchers(server, WATCHERS):
            return measured(server, lambda: time.sleep(seconds), streams)

    sides = {"alone": alone, "page": page, f"{WATCHERS} watchers": watched}
    found: dict[str, list[Costs]] = {name: [] for name in sides}
    for turn in range(arguments.rounds):
        for name in list(sides)[:: -1 if turn % 2 else 1]:
            found[name].append(costs := sides[name]())
            print(f"round {turn + 1}, {name}: {costs.iteration:.2f} ms an iteration", file=sys.stderr)
    return found


def report(found: dict[str, list[Costs]], streams: int) -> None:
    """Print the medians, and the ratios within rounds."""
    alone = found["alone"]
    print(f"{streams} streams, {len(alone)} rounds; milliseconds, medians (least to most), and ratios to the same round alone")
    for name, costs in found.items():
        ratios = [one.iteration / other.iteration for one, other in zip(costs, alone, strict=True)]
        print(f"  {name + ':':14} iteration {told([one.iteration for one in costs])}, ratio {told(ratios)}")
        print(f"  {'':14} CPU: engine {told([one.engine_cpu for one in costs])}, HTTP {told([one.http_cpu for one in costs])}")
        if frames := [one.frames for one in costs if one.frames]:
            rates, longest = zip(*frames, strict=True)
            print(f"  {'':14} frames a second {told(list(rates))}, longest frame {told(list(longest))} ms")


def told(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description="What the page costs an engine.")
    parser.add_argument("--streams", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--tokens", type=int, default=1500, help="of each answer")
    parser.add_argument("options", nargs="*", help="of orcinus serve, behind --")
    arguments = parser.parse_args()
    server = Server(arguments.options or list(SIMULATED), arguments.streams)
    going = threading.Event()
    going.set()
    busy = threading.Thread(target=keep_busy, args=(server, arguments.streams, arguments.tokens, going), daemon=True)
    busy.start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            report(rounds_of(server, browser, arguments), arguments.streams)
            browser.close()
    finally:
        going.clear()
        server.process.terminate()
        time.sleep(1)
        server.process.terminate()  # it need not drain
        server.process.wait(60)


if __name__ == "__main__":
    main()
