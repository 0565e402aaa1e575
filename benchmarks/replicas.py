"""Throughput of one engine and of several behind one server, on this machine.

    python benchmarks/replicas.py [--replicas 2] [--clients 32] [--rounds 7] [--seconds 10] [-- options of `orcinus serve`]

Both servers run from the beginning, and take turns under load: in each round as many clients ask for fixed answers again and
again for some seconds. An idle engine takes no time from the other server's. `--max-batch-size` is each replica's, so the one
engine is given the sum unless an option says otherwise: both sides may then run equally many requests at once.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import subprocess
import sys
import time

import httpx

from orcinus.observe.interval import median_interval
from orcinus.parent import killed_with_this

SERVE = (sys.executable, "-m", "orcinus", "serve", "--port", "0")
BATCH = 8  # requests in an iteration of each replica
SALTS = itertools.count()


def start(replicas: int, most: int, options: list[str]) -> tuple[subprocess.Popen[str], str]:
    """A server of so many replicas that run `most` requests together, and its address."""
    sized = [] if "--max-batch-size" in options else ["--max-batch-size", str(most // replicas)]
    command = [*SERVE, "--replicas", str(replicas), *sized, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=killed_with_this())
    assert process.stdout is not None
    line = process.stdout.readline()
    if " at " not in line:
        raise SystemExit(f"the server with {replicas} replicas did not start")
    return process, line.split(" at ")[1].strip()


async def load(url: str, clients: int, tokens: int, seconds: float) -> float:
    """Tokens a second, of prompts and answers, under so many clients."""
    done, began = 0, time.monotonic()

    async def client(http: httpx.AsyncClient) -> None:
        nonlocal done
        while time.monotonic() - began < seconds:
            body = {"prompt": "Tell me a story. " * 8, "max_tokens": tokens, "ignore_eos": True, "cache_salt": str(next(SALTS))}
            answer = await http.post("/v1/completions", json=body)
            answer.raise_for_status()
            done += answer.json()["usage"]["total_tokens"]

    async with httpx.AsyncClient(base_url=url, timeout=600) as http:
        await asyncio.gather(*(client(http) for _ in range(clients)))
    return done / (time.monotonic() - began)


async def main(asked: argparse.Namespace) -> None:
    sides = (1, asked.replicas)
    most = BATCH * asked.replicas
    servers = {replicas: start(replicas, most, asked.options) for replicas in sides}
    rates: dict[int, list[float]] = {replicas: [] for replicas in sides}
    try:
        for turn in range(-1, asked.rounds):  # the first warms up
            for replicas in sides if turn % 2 else sides[::-1]:
                rate = await load(servers[replicas][1], asked.clients, asked.tokens, asked.seconds)
                if turn >= 0:
                    rates[replicas].append(rate)
    finally:
        for process, _ in servers.values():
            process.terminate()
            process.wait(60)
    print(f"{os.cpu_count()} cores, {asked.clients} clients, answers of {asked.tokens} tokens, {asked.rounds} rounds")
    for replicas in sides:
        print(f"{replicas} replicas: {told(rates[replicas], '.0f')} tokens/s")
    print(f"ratio: {told([several / one for one, several in zip(*rates.values(), strict=True)], '.2f')}")


def told(values: list[float], shape: str) -> str:
    """The median and its interval."""
    found = median_interval(values)
    return f"{found.median:{shape}} ({found.low:{shape}} to {found.high:{shape}})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("options", nargs="*")
    asyncio.run(main(parser.parse_args()))
