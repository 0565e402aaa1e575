"""`make soak`: a server under load of all kinds for hours; memory, files, threads, K/V blocks, tasks and timers must stay flat.

python -m tests.soak [--minutes N] [--json FILE] [--plot FILE] [-- OPTIONS OF orcinus serve]

Clients first store as many responses as a server keeps. Then they send short requests, conversations, streams, structured
outputs and junk; they hang up, cancel, and switch policies. Counts of both processes are sampled all the time. `flatness` says
what counts as growth, here with the number of requests; the first fifth of the time is the warm-up.

Resident memory includes what allocators keep for later, so it tells a leak from a plateau only roughly. Two other counts are
exact: the blocks of Python's allocator, and the bytes of the C library's heap. They and the objects are counted three times a
minute, after a search for garbage; so garbage in cycles shows in resident memory alone, until the next search.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx

import orcinus
from orcinus.plots.style import picture, styles
from orcinus.serve.response_store import MOST_RESPONSES
from tests.chaos import engine_pids
from tests.flatness import Allowed, Flatness, flatness
from tests.serve import conftest
from tests.serve.conftest import Running, serving

CENSUS = Path(__file__).parent / "soak_census"
SAMPLES = 240  # in a run, but no more than one a second
WARM_UP = 0.2  # of the time
CLIENTS = 12
MIB = 2**20
ALLOWED = {
    "memory": Allowed(0.03, 4 * MIB),
    "files": Allowed(0.0, 2),
    "threads": Allowed(0.0, 2),
    "heap": Allowed(0.03, 2 * MIB),
    "objects": Allowed(0.01, 1000),
    "allocations": Allowed(0.01, 3000),
    "tasks": Allowed(0.0, 10),
    "timers": Allowed(0.0, 20),
    "blocks": Allowed(0.1, 2),
}
POLICIES = ("orca", "sarathi", "prefill-first", "stall-free")
ORDERS = ("fcfs", "fair")
WORDS = (
    "once",
    "upon",
    "a",
    "time",
    "there",
    "was",
    "little",
    "robot",
    "who",
    "liked",
    "to",
    "paint",
    "red",
    "boats",
    "quiet",
    "sea",
)


@dataclass
class Sample:
    """Counts of one moment, by the name of the process and what was counted."""

    at: float  # seconds since the begin
    requests: int
    counts: dict[str, float]


@dataclass
class Run:
    """A run so far."""

    seed: int
    began: float = field(default_factory=time.monotonic)
    kinds: Counter[str] = field(default_factory=Counter)  # requests by kind
    wrong: Counter[str] = field(default_factory=Counter)  # unexpected answers
    samples: list[Sample] = field(default_factory=list)
    types: list[dict[str, Counter[str]]] = field(default_factory=list)  # objects by type: after the warm-up, and at the end

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


class Client:
    """One client, with requests of all kinds."""

    def __init__(self, http: httpx.AsyncClient, run: Run, number: int, *, real: bool) -> None:
        self.http, self.run, self.random, self.real = http, run, random.Random(run.seed + number), real
        self.user = f"user-{number % 4}"

    async def go_on(self, until: float) -> None:
        """Send requests until then."""
        kinds: dict[Callable[[], Awaitable[None]], int] = {
            self.short: 10,
            self.conversation: 3,
            self.stream: 4,
            self.hang_up: 3,
            self.cancel: 2,
            self.stored: 2,
            self.junk: 2,
            self.switch: 1,
            self.look: 2,
            self.structured: 2 * self.real,
        }
        while time.monotonic() < until:
            (kind,) = self.random.choices(list(kinds), list(kinds.values()))
            try:
                await kind()
            except httpx.HTTPError as error:
                self.run.wrong[f"{kind.__name__}: {error!r}"] += 1

    def text(self, most: int) -> str:
        return " ".join(self.random.choices(WORDS, k=self.random.randint(1, most)))

    def body(self, most: int = 24, **fields: Any) -> dict[str, Any]:
        sampling = {"temperature": self.random.choice([0, 1]), "user": self.user, "ignore_eos": True}
        return {"max_tokens": self.random.randint(1, most)} | sampling | fields

    async def post(self, path: str, body: Mapping[str, Any], expected: Sequence[int] = (200, 429)) -> dict[str, Any]:
        answer = await self.http.post(path, json=body)
        self._note("cancel" if path.endswith("/cancel") else path, answer.status_code, expected, answer.text)
        found: dict[str, Any] = answer.json()
        return found

    def _note(self, kind: str, status: int, expected: Sequence[int], text: str) -> None:
        self.run.kinds[kind] += 1
        if status not in expected:
            self.run.wrong[f"{kind}: {status} {text[:200]}"] += 1

    async def short(self) -> None:
        await self.post("/v1/completions", self.body(prompt=self.text(40), n=self.random.choice([1, 1, 2])))

    async def structured(self) -> None:
        regex = f"[a-z]{{1,9}} {self.text(3)}"  # hardly ever the same
        await self.post("/v1/completions", self.body(prompt=self.text(20), structured_outputs={"regex": regex}))

    async def conversation(self) -> None:
        messages: list[dict[str, str]] = []
        for _ in range(self.random.randint(1, 5)):
            messages.append({"role": "user", "content": self.text(20)})
            said = await self.post("/v1/chat/completions", self.body(messages=messages))
            if "choices" not in said:
                return
            messages.append({"role": "assistant", "content": said["choices"][0]["message"]["content"]})

    async def fill(self, count: int) -> None:
        """Store so many responses, so that the server's store is full from the beginning."""
        for _ in range(count):
            await self.post("/v1/responses", {"input": self.text(20), "max_output_tokens": 16, "user": self.user})

    async def stored(self) -> None:
        body = {"input": self.text(20), "max_output_tokens": self.random.randint(16, 24), "user": self.user}
        first = await self.post("/v1/responses", body)
        if "id" in first:
            await self.post("/v1/responses", body | {"previous_response_id": first["id"]})

    async def _frames(self, most: int, tokens: int) -> str:
        """Read a stream's frames up to so many; returns the id of its response."""
        body = self.body(tokens, prompt=self.text(60), stream=True)
        async with self.http.stream("POST", "/v1/completions", json=body) as answer:
            self._note("stream", answer.status_code, (200, 429), "")
            lines = answer.aiter_lines()
            async for _ in lines:
                most -= 1
                if most <= 0:
                    break
            return str(answer.headers.get("x-response-id"))

    async def stream(self) -> None:
        await self._frames(10**9, 60)

    async def hang_up(self) -> None:
        await self._frames(self.random.randint(1, 5), 400)

    async def cancel(self) -> None:
        body = self.body(400, prompt=self.text(60), stream=True)
        async with self.http.stream("POST", "/v1/completions", json=body) as answer:
            self._note("stream", answer.status_code, (200, 429), "")
            if answer.status_code == 200:
                await self.post(f"/v1/requests/{answer.headers['x-response-id']}/cancel", {}, (200, 404))
            async for _ in answer.aiter_lines():
                pass

    async def junk(self) -> None:
        wrong: list[dict[str, Any]] = [{"prompt": 7}, {}, {"prompt": "a", "max_tokens": -1}, {"prompt": "a", "model": "x"}]
        await self.post("/v1/completions", self.random.choice(wrong), (400, 404, 429))

    async def switch(self) -> None:
        await self.http.put("/v1/scheduler", json={"policy": self.random.choice(POLICIES), "order": self.random.choice(ORDERS)})
        self.run.kinds["/v1/scheduler"] += 1

    async def look(self) -> None:
        path = self.random.choice(["/metrics", "/v1/models", "/health", f"/nowhere/{self.random.random()}"])
        answer = await self.http.get(path)
        self._note(path if path[1] != "n" else "/nowhere", answer.status_code, (200, 404), answer.text)


def processes(server: Running) -> dict[str, int]:
    """Process ids of a server by name."""
    return {"HTTP": server.process.pid} | {f"engine {i}" if i else "engine": pid for i, pid in enumerate(engine_pids(server))}


def count(pid: int) -> dict[str, float]:
    """Memory in bytes, open files and threads of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    files, threads = (len(os.listdir(f"/proc/{pid}/{folder}")) for folder in ("fd", "task"))
    return {"memory": pages * os.sysconf("SC_PAGESIZE"), "files": files, "threads": threads}


def census(folder: Path, pid: int) -> dict[str, Any]:
    """What a process counted last, or nothing."""
    try:
        found: dict[str, Any] = json.loads((folder / f"{pid}.json").read_text())
    except FileNotFoundError:
        return {}
    return found


async def sample(server: Running, http: httpx.AsyncClient, run: Run, folder: Path, until: float) -> None:
    """Count until then."""
    minutes = (until - run.began) / 60
    while time.monotonic() < until:
        await asyncio.sleep(max(1.0, 60 * minutes / SAMPLES))
        counts: dict[str, float] = {}
        types: dict[str, Counter[str]] = {}
        for name, pid in processes(server).items():
            counted = census(folder, pid)
            types[name] = Counter(counted.pop("types", {}))
            counts |= {f"{name}: {what}": value for what, value in (count(pid) | counted).items()}
        answer = await http.get("/v1/scheduler")
        if answer.status_code == 200:
            counts["engine: blocks"] = answer.json()["num_blocks"] - answer.json()["free_blocks"]
        else:
            run.wrong[f"/v1/scheduler: {answer.status_code} {answer.text[:200]}"] += 1
        run.samples.append(Sample(run.seconds, run.kinds.total(), counts))
        if run.seconds > WARM_UP * 60 * minutes:
            run.types = [run.types[0] if run.types else types, types]


async def soak(server: Running, minutes: float, folder: Path, seed: int) -> Run:
    """Run the load for so many minutes, then wait until the server is idle."""
    run = Run(seed)
    async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=httpx.Limits(max_connections=None)) as http:
        real = "--simulate" not in server.process.args
        clients = [Client(http, run, number, real=real) for number in range(CLIENTS)]
        await asyncio.gather(*(one.fill(-(-MOST_RESPONSES // CLIENTS)) for one in clients))
        run.began = time.monotonic()
        until = run.began + 60 * minutes
        await asyncio.gather(*(one.go_on(until) for one in clients), sample(server, http, run, folder, until))
    if not server.idle():
        run.wrong["requests or K/V blocks are left at the end"] += 1
    return run


def after_warm_up(run: Run) -> list[Sample]:
    """The samples that count."""
    return [one for one in run.samples if one.at > WARM_UP * run.samples[-1].at]


def judge(run: Run) -> dict[str, Flatness]:
    """The flatness of each quantity after the warm-up, with the number of requests.

    Raises `ValueError` if the run was too short.
    """
    steady = after_warm_up(run)
    found = {}
    for name in dict.fromkeys(name for one in steady for name in one.counts):
        points = [one for one in steady if name in one.counts]
        requests, values = [one.requests for one in points], [one.counts[name] for one in points]
        found[name] = flatness(requests, values, ALLOWED[name.split(": ")[1]])
    return found


def grown(run: Run, most: int = 12) -> list[str]:
    """The types of which there are more objects than after the warm-up."""
    if not run.types:
        return []
    return [
        f"{process}: {number:+d} {kind}"
        for process, after in run.types[1].items()
        for kind, number in (after - run.types[0].get(process, Counter())).most_common(most)
    ]


def unit_of(name: str) -> int:
    """The unit in which a quantity is shown."""
    return MIB if name.endswith(("memory", "heap")) else 1


def draw(path: Path, run: Run, title: str) -> None:
    """Every quantity over time, in a panel of its own."""
    wanted = ("memory", "heap", "allocations", "objects", "files", "threads", "tasks", "blocks")
    names = [name for what in wanted for name, last in run.samples[-1].counts.items() if name.endswith(what) and last]
    columns = 3
    with picture(path, -(-len(names) // columns), columns, width=3.4, height=1.9) as axes:
        for place, name in zip(axes.flat, names, strict=False):
            points = [(one.at / 60, one.counts[name]) for one in run.samples if name in one.counts]
            unit = unit_of(name)
            place.plot([at for at, _ in points], [value / unit for _, value in points], linewidth=1, **styles()[0])
            place.axvline(WARM_UP * run.samples[-1].at / 60, color="0.7", linewidth=0.8)
            place.set(ylim=(0, None), title=name + (" (MiB)" if unit != 1 else ""))
        for empty in list(axes.flat)[len(names) :]:
            empty.set_visible(False)
        for place in axes[-1]:
            place.set_xlabel("minutes")
        axes[0][0].figure.suptitle(title, fontsize=9)


def report(run: Run, found: Mapping[str, Flatness]) -> str:
    """A line for each quantity, and what was wrong."""
    steady = after_warm_up(run)
    requests = steady[-1].requests - steady[0].requests
    lines = [
        f"{run.wrong.total()} unexpected answers and lines on standard error",
        f"growth in {requests} requests after the warm-up; in brackets the leak of each request that would be found:",
    ]
    for name, one in found.items():
        unit, mib = unit_of(name), " MiB" if unit_of(name) != 1 else ""
        leak = f"{one.allowed / requests:.3g}{' bytes' if mib else ''}"
        figures = f"median {one.median / unit:.1f}, grew by {one.growth / unit:+.2f}, {one.allowed / unit:.1f}{mib} allowed"
        lines.append(f"{'  ' if one.flat else '! '}{name}: {figures} ({leak})")
    lines += [f"! {number} x {what}" for what, number in run.wrong.most_common(10)]
    return "\n".join(lines)


def commit() -> str:
    """The commit of the source; empty outside a clone."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=CENSUS)
    return done.stdout.strip()


def census_environment(folder: str) -> dict[str, str]:
    """Environment variables of processes that write their counts into this folder."""
    return {"SOAK_CENSUS": folder, "PYTHONPATH": os.pathsep.join([str(CENSUS), os.environ.get("PYTHONPATH", "")])}


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Options of every soak."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write all samples to this file")
    parser.add_argument("--plot", type=Path, help="draw them into this .svg, .png or .pdf")
    return parser


def conclude(run: Run, what: str, options: Sequence[str], asked: argparse.Namespace) -> int:
    """Report and write a run; exit status 0 if everything stayed flat and every answer was as expected."""
    found = judge(run)
    flat = all(one.flat for one in found.values()) and not run.wrong
    what = f"{what}: {run.kinds.total()} requests in {run.seconds / 60:.0f} minutes"
    print(f"{what}\n{report(run, found)}")
    if not flat:
        print("\n".join(grown(run)))
    if asked.json:
        asked.json.write_text(json.dumps(as_json(run, found, options)))
    if asked.plot:
        draw(asked.plot, run, what)
    return int(not flat)


def main() -> int:
    """Exit status 0 if everything stayed flat."""
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("serve", nargs="*", help="options of orcinus serve")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = conftest.ENVIRONMENT | census_environment(folder)
        with patch.object(conftest, "ENVIRONMENT", environment), serving(*asked.serve) as server:
            run = asyncio.run(soak(server, asked.minutes, Path(folder), asked.seed))
            server.process.send_signal(signal.SIGTERM)
            run.wrong.update(server.process.communicate()[1].splitlines())
    return conclude(run, f"orcinus serve {' '.join(asked.serve)}".strip(), asked.serve, asked)


def as_json(run: Run, found: Mapping[str, Flatness], options: Sequence[str]) -> dict[str, Any]:
    """All that a run found."""
    return {
        "orcinus": orcinus.__version__,
        "commit": commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}",
        "options": list(options),
        "seed": run.seed,
        "seconds": run.seconds,
        "requests": dict(run.kinds),
        "wrong": dict(run.wrong),
        "flatness": {name: one._asdict() | {"flat": one.flat} for name, one in found.items()},
        "grown": grown(run),
        "samples": [{"at": one.at, "requests": one.requests, **one.counts} for one in run.samples],
    }


if __name__ == "__main__":
    sys.exit(main())
