"""A server under load: many streams, then a burst beyond its queue.

    python benchmarks/server_load.py [--clients 256] [--seconds 60] [--burst 2000]

Starts `orcinus serve` on the bundled model by itself. Every stream's token ids are compared with those of the same request
alone, so that a lost, doubled or swapped token is an error; every request has a cache salt of its own, so that none finds its
prompt in the prefix cache. Prints what clients saw, what the HTTP process spent, and how memory went. The client is a few
lines over plain sockets, because a comfortable one would need more of the two cores than the server does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orcinus.observe.latency import mean, percentile
from orcinus.parent import killed_with_this

PROMPTS = [
    "Once upon a time",
    "Tell me about rain.",
    "The fox",
    "How do I cook rice?",
    "A batch is",
    "Hello",
    "Why is the sky",
    "My cat",
]
TOKENS = 64
SALTS = itertools.count()


@dataclass
class Seen:
    """What the clients saw."""

    ttft: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    tokens: int = 0
    answers: int = 0
    errors: Counter[str] = field(default_factory=Counter)


def body(prompt: str, stream: bool) -> dict[str, Any]:
    """A request with a fixed answer and a prompt that is not cached."""
    fixed = {"max_tokens": TOKENS, "temperature": 0, "ignore_eos": True, "return_token_ids": True}
    return {"prompt": prompt, "stream": stream, "cache_salt": str(next(SALTS)), **fixed}


async def post(port: int, content: dict[str, Any]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, int, dict[str, str]]:
    """Send a request over a connection of its own; returns when the headers are there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    raw = json.dumps(content).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(raw)}\r\n"
    writer.write(head.encode() + b"connection: close\r\n\r\n" + raw)
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines if line)
    return reader, writer, int(status.split(" ")[1]), headers


async def alone(port: int, prompt: str) -> list[int]:
    """The token ids of a request that runs alone."""
    reader, writer, status, headers = await post(port, body(prompt, False))
    assert status == 200, status
    found = json.loads(await reader.readexactly(int(headers["content-length"])))
    writer.close()
    return list(found["choices"][0]["token_ids"])


async def stream(port: int, prompt: str, expected: list[int], seen: Seen) -> int:
    """One streamed request, held against what it must be; returns its status."""
    began = time.perf_counter()
    reader, writer, status, _ = await post(port, body(prompt, True))
    ids: list[int] = []
    done = False
    last = 0.0
    try:
        while status == 200 and (line := await reader.readline()):
            if line.startswith(b'data: {"id"'):
                now = time.perf_counter()
                (seen.gaps.append(now - last) if ids else seen.ttft.append(now - began))
                last = now
                ids += json.loads(line[6:])["choices"][0]["token_ids"]
            elif line.startswith(b"data: [DONE]"):
                done = True
    finally:
        writer.close()
    if status != 200:
        return status
    seen.answers += 1
    seen.tokens += len(ids)
    if ids != expected:
        seen.errors["other tokens than alone"] += 1
    if not done:
        seen.errors["no [DONE]"] += 1
    return status


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def metric(port: int, name: str) -> dict[str, float]:
    """The last sample of each of a metric's series, by its suffix."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    return {suffix: float(value) for suffix, value in re.findall(rf"^{name}(\w*){{.*}} (\S+)", text, re.MULTILINE)}


async def soak(port: int, pids: tuple[int, int], clients: int, seconds: float, expected: dict[str, list[int]]) -> None:
    """Clients that ask again and again, each as soon as its answer has ended."""
    seen, until = Seen(), time.monotonic() + seconds
    before, began = [cpu_s(pid) for pid in pids], time.monotonic()
    sizes: list[tuple[float, float]] = []

    async def client(number: int) -> None:
        while time.monotonic() < until:
            prompt = PROMPTS[number % len(PROMPTS)]
            try:
                status = await stream(port, prompt, expected[prompt], seen)
            except (OSError, asyncio.IncompleteReadError) as error:
                seen.errors[type(error).__name__] += 1
                continue
            if status != 200:
                seen.errors[str(status)] += 1

    async def watch() -> None:
        while True:
            sizes.append((memory_mib(pids[0]), memory_mib(pids[1])))
            await asyncio.sleep(seconds / 6)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(client(number) for number in range(clients)))
    watching.cancel()
    took = time.monotonic() - began
    used = [cpu_s(pid) - start for pid, start in zip(pids, before, strict=True)]
    print(f"{clients} clients, {took:.0f} s: {seen.answers} answers, {seen.tokens} tokens, {seen.tokens / took:.0f} tokens/s")
    print(f"errors: {dict(seen.errors) or 'none'}")
    for name, values in (("TTFT", seen.ttft), ("time between frames", seen.gaps)):
        ms = [1000 * percentile(values, p) for p in (50, 95, 99)]
        print(f"{name}: mean {1000 * mean(values):.1f} ms, p50 {ms[0]:.1f}, p95 {ms[1]:.1f}, p99 {ms[2]:.1f}")
    for name, cpu in zip(("HTTP process", "engine"), used, strict=True):
        share, each = 100 * cpu / took, 1e6 * cpu / max(1, seen.tokens)
        print(f"{name}: {cpu:.1f} s of CPU = {share:.0f} % of a core, {each:.0f} us per token")
    lag = await metric(port, "orcinus_event_loop_lag_seconds")
    print(f"event loop lag: mean {1000 * lag['_sum'] / lag['_count']:.1f} ms")
    print("memory (HTTP, engine) in MiB: " + "  ".join(f"{http:.0f} {engine:.0f}" for http, engine in sizes))


async def burst(port: int, count: int, expected: dict[str, list[int]]) -> None:
    """All requests at once."""
    seen, statuses, refused = Seen(), Counter[int](), list[float]()

    async def one(number: int) -> None:
        prompt, began = PROMPTS[number % len(PROMPTS)], time.perf_counter()
        status = await stream(port, prompt, expected[prompt], seen)
        statuses[status] += 1
        if status == 429:
            refused.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(count)))
    print(f"burst of {count}: {dict(statuses)} in {time.perf_counter() - began:.1f} s; errors: {dict(seen.errors) or 'none'}")
    if refused:
        print(f"429 after: p50 {percentile(refused, 50):.2f} s, latest {max(refused):.2f} s")
    print(f"accepted and complete: {seen.answers} of {statuses[200]}")


async def main(clients: int, seconds: float, count: int, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "orcinus", "serve", "--port", "0", "--dtype", "float32", *arguments]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=killed_with_this())
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline().rsplit(":", 1)[1])
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        engine = next(int(pid) for pid in children if b"engine_loop" in Path(f"/proc/{pid}/cmdline").read_bytes())
        expected = {prompt: await alone(port, prompt) for prompt in PROMPTS}
        await soak(port, (server.pid, engine), clients, seconds, expected)
        if count:
            await burst(port, count, expected)
        hits = await metric(port, "orcinus_prefix_cache_hits_total")
        print(f"prompt tokens from the prefix cache: {sum(hits.values()):.0f}")
    finally:
        server.terminate()
        server.wait(60)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--burst", type=int, default=2000)
    chosen, rest = parser.parse_known_args()  # the rest goes to `orcinus serve`
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(main(chosen.clients, chosen.seconds, chosen.burst, rest))
