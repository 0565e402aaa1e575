"""`make chaos`: engines are killed under load, and every stream is compared with one that nothing disturbed.

python -m tests.chaos [--kills N] [--clients N] [-- OPTIONS OF orcinus serve]

The next kill comes when every stream that was open at the last one has had a token since. Answers of each kind are asked for
once in peace, and then again and again until the last kill.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.engine_processes import engine_processes
from tests.serve.conftest import Running, serving

KINDS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 1, "seed": 1},
    {"temperature": 0.8, "seed": 2, "logprobs": 2},
    {"temperature": 1, "seed": 3, "n": 2},
    {"temperature": 0.7, "seed": 4, "presence_penalty": 0.5, "repetition_penalty": 1.1},
    {"temperature": 1, "seed": 5, "stop": ["ing", " a"], "ignore_eos": False},
]
REAL_KINDS: list[dict[str, Any]] = [{"temperature": 1, "seed": 6, "structured_outputs": {"regex": "([a-z]{1,8} ){200}"}}]
LONGEST_S = 300.0  # without a token
UNDISTURBED = 8  # streams at once before the first kill


def engine_pids(server: Running) -> list[int]:
    """Process ids of a server's engines."""
    return [engine.pid for engine in engine_processes(server.process.pid)]


@dataclass
class Storm:
    """What happened to the streams."""

    kills: list[float] = field(default_factory=list)  # when
    streams: int = 0
    wrong: list[str] = field(default_factory=list)  # streams that were not as the undisturbed one, and how
    pauses: list[float] = field(default_factory=list)  # seconds without a frame around a kill, of every stream

    def report(self) -> str:
        """One line."""
        pauses = sorted(self.pauses) or [0.0]
        middle, late = statistics.median(pauses), pauses[min(len(pauses) - 1, int(0.99 * len(pauses)))]
        return (
            f"{len(self.kills)} kills, {self.streams} streams, {len(self.wrong)} of them wrong; "
            f"pause of a stream: {middle:.2f} s in the median, {late:.2f} s at the 99th percentile"
        )


class Stream:
    """One streamed answer, read to its end."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body | {"stream": True, "stream_options": {"include_usage": True}}
        self.times: list[float] = []
        self.seen: list[list[Any]] = []  # of each choice: text, how it ended, scores
        self.usage: Any = None
        self.error: Any = None
        self.done = False

    async def read(self, http: httpx.AsyncClient) -> None:
        self.seen = [["", None, []] for _ in range(self.body.get("n", 1))]
        async with http.stream("POST", "/v1/completions", json=self.body) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    self.times.append(time.monotonic())
                    self._take(json.loads(line[6:]))
        self.done = True

    def _take(self, frame: dict[str, Any]) -> None:
        self.error = frame.get("error", self.error)
        self.usage = frame.get("usage") or self.usage
        for choice in frame.get("choices", ()):
            seen = self.seen[choice["index"]]
            seen[0] += choice["text"]
            seen[1] = choice["finish_reason"] or seen[1]
            seen[2] += (choice.get("logprobs") or {}).get("token_logprobs", [])

    def differs(self, undisturbed: Stream) -> str | None:
        """How it differs; None if it does not."""
        for name in ("error", "seen", "usage"):
            mine, expected = getattr(self, name), getattr(undisturbed, name)
            if mine != expected and not (
                name == "usage" and mine and mine["completion_tokens"] == expected["completion_tokens"]
            ):
                return f"{name} of {self.body}: {str(mine)[-200:]} instead of {str(expected)[-200:]}"
        return None


async def storm(server: Running, bodies: Sequence[dict[str, Any]], kills: int) -> Storm:
    """Kill the engines of a server one after the other while as many clients as there are bodies read streams."""
    found = Storm()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url, timeout=LONGEST_S, limits=limits) as http:
        alone = [Stream(body) for body in bodies]
        for first in range(0, len(alone), UNDISTURBED):
            await asyncio.gather(*(one.read(http) for one in alone[first : first + UNDISTURBED]))
        current = [Stream(body) for body in bodies]

        async def client(place: int) -> None:
            while len(found.kills) < kills:
                stream = current[place] = Stream(bodies[place])
                await stream.read(http)
                found.streams += 1
                found.pauses += _pauses(stream.times, found.kills)
                if difference := stream.differs(alone[place]):
                    found.wrong.append(difference)

        async with asyncio.TaskGroup() as clients:
            for place in range(len(bodies)):
                clients.create_task(client(place))
            await _kill(server, current, found.kills, kills)
    return found


async def _kill(server: Running, current: Sequence[Stream], killed: list[float], kills: int) -> None:
    """Kill engines, each when every stream that was open at the last death has had a token since."""
    last = time.monotonic()
    await asyncio.sleep(0.1)  # for the clients to begin
    while len(killed) < kills:
        streams = list(current)
        while not all(one.done or (one.times and one.times[-1] > last) for one in streams):
            await asyncio.sleep(0.005)
        if pids := engine_pids(server):
            os.kill(pid := pids[len(killed) % len(pids)], signal.SIGKILL)
            killed.append(time.monotonic())
            while pid in engine_pids(server):  # what it had sent is read until then
                await asyncio.sleep(0.005)
            last = time.monotonic()
        await asyncio.sleep(0.005)


def _pauses(times: Sequence[float], kills: Sequence[float]) -> list[float]:
    """The longest gap between two frames after each kill; frames on their way still come for a moment."""
    gaps = list(zip(times, times[1:], strict=False))
    around = [
        [after - before for before, after in gaps if kill < after and before < following]
        for kill, following in zip(kills, [*kills[1:], math.inf], strict=False)
        if times and times[0] < kill < times[-1]
    ]
    return [max(found) for found in around if found]


def bodies(clients: int, *, simulated: bool, tokens: int) -> list[dict[str, Any]]:
    """Requests of all kinds in turn."""
    kinds = KINDS if simulated else KINDS + REAL_KINDS
    usual = {"max_tokens": tokens, "ignore_eos": True}
    return [{"prompt": f"Once upon a time {place}"} | usual | kinds[place % len(kinds)] for place in range(clients)]


def main() -> int:
    """Exit status 0 if every stream was as the undisturbed one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=400, help="of each answer at most")
    parser.add_argument("serve", nargs="*", help="options of orcinus serve")
    asked = parser.parse_args()
    wanted = bodies(asked.clients, simulated="--simulate" in asked.serve, tokens=asked.tokens)
    with serving(*asked.serve) as server:
        found = asyncio.run(storm(server, wanted, asked.kills))
    print(found.report())
    for difference in found.wrong[:10]:
        print(f"  {difference}")
    return int(bool(found.wrong))


if __name__ == "__main__":
    sys.exit(main())
