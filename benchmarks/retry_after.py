"""The share of clients that find room when they obey Retry-After.

    python benchmarks/retry_after.py --clients 200 --answers 1 [-- options of `orcinus serve`]

Every client sends a request, and when it is refused comes back after exactly the seconds it was told. With `--answers` above 1
it sends another one after its answer, so that those who come back meet new requests for the same places. With `--slo
ttft=1,tbt=0.2` every request has this SLO, so that the engine refuses it and holds room for it, and not only the queue.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import subprocess
import sys
import time
from collections import Counter

import httpx

from orcinus.bench.measure import read_slo
from orcinus.core.slo import SLO
from orcinus.parent import killed_with_this

SERVE = (sys.executable, "-m", "orcinus", "serve", "--port", "0", "--simulate")
OPTIONS = ("llama-7b", "--max-batch-size", "8", "--max-queue", "32", "--speed", "4")
WITH_SLO = ("llama-7b", "--max-batch-size", "8", "--max-queue", "512", "--speed", "4")  # the engine refuses, not the queue


SALTS = itertools.count()


class Tally:
    """What clients saw."""

    def __init__(self) -> None:
        self.obeyed = self.kept = self.answered = 0
        self.again = Counter[str]()  # why those who obeyed were refused again
        self.told: list[int] = []


async def client(http: httpx.AsyncClient, answers: int, tokens: tuple[int, int], slo: SLO, tally: Tally) -> None:
    asked = {"slo": dict(slo.bounds)} if slo.bounds else {}
    for _ in range(answers):
        body = {
            **asked,
            "cache_salt": str(next(SALTS)),
            "prompt": "Once upon a time",
            "max_tokens": random.randint(*tokens),
            "ignore_eos": True,
        }
        told = False
        while (answer := await http.post("/v1/completions", json=body)).status_code == 429:
            tally.obeyed += told
            if told:
                tally.again[answer.json()["error"]["code"]] += 1
            told = True
            tally.told.append(int(answer.headers["retry-after"]))
            await asyncio.sleep(tally.told[-1])
        answer.raise_for_status()
        tally.obeyed += told
        tally.kept += told
        tally.answered += 1
        await asyncio.sleep(random.uniform(0.5, 4) if answers > 1 else 0)


async def run(url: str, clients: int, answers: int, tokens: tuple[int, int], slo: SLO) -> None:
    tally, began = Tally(), time.monotonic()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as http:
        await asyncio.gather(*(client(http, answers, tokens, slo, tally) for _ in range(clients)))
    share = f"{tally.kept / tally.obeyed:.1%}" if tally.obeyed else "none was refused"
    took = time.monotonic() - began
    print(f"{tally.answered} answers in {took:.0f} s; {tally.obeyed} came back when told, of them admitted: {share}")
    if tally.again:
        print("refused again: " + ", ".join(f"{number} {code}" for code, number in tally.again.most_common()))
    if tally.told:
        print(f"told to wait {min(tally.told)} to {max(tally.told)} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--answers", type=int, default=1, help="requests of each client")
    parser.add_argument("--tokens", type=int, nargs=2, default=(20, 200), help="least and most tokens of an answer")
    parser.add_argument("--slo", help="objectives of every request, in seconds")
    parser.add_argument("serve", nargs="*", help="the simulated model and options of `orcinus serve`")
    asked = parser.parse_args()
    command = [*SERVE, *(asked.serve or (WITH_SLO if asked.slo else OPTIONS))]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=killed_with_this())
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        asyncio.run(run(url, asked.clients, asked.answers, tuple(asked.tokens), read_slo(asked.slo)))
    finally:
        server.terminate()
        server.wait(60)


if __name__ == "__main__":
    main()
