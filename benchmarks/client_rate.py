"""The highest request rate that `orcinus bench serve`'s client can offer.

    python benchmarks/client_rate.py [--rates 1000,2000,3000,4000,5000,6000] [--seconds 5] [--repeats 3] [--gap 0]

A server that does next to nothing runs on one core: it answers every request with three tokens, `--gap` seconds apart. The
client runs on another. The first line is an idle event loop on the client's core: what it is late, the machine is, and on a
machine that others use that is all there is to see. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import time
from collections import Counter

from orcinus.bench.client.bodies import Form
from orcinus.bench.client.delay import Heartbeat
from orcinus.bench.client.load_generator import LoadGenerator, execute
from orcinus.bench.client.probe import meet
from orcinus.bench.client.target import Target
from orcinus.bench.measure import span
from orcinus.bench.record import RequestOutcome
from orcinus.observe.latency import percentile
from orcinus.parent import killed_with_this
from orcinus.workload.workload import make_workload

TOKENS, PROMPT = 3, 64
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def event(data: str) -> bytes:
    """A server-sent event as a chunk."""
    content = f"data: {data}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(content), content)


def frame(token: int) -> str:
    """As long as those of real servers."""
    reason = '"length"' if token == TOKENS else "null"
    choice = f'{{"index":0,"text":" word","logprobs":null,"finish_reason":{reason},"token_ids":[{token}]}}'
    usage = f'{{"prompt_tokens":{PROMPT},"completion_tokens":{token},"total_tokens":{PROMPT + token}}}'
    head = '"id":"cmpl-0123456789abcdef","object":"text_completion","created":1,"model":"m"'
    return f'{{{head},"choices":[{choice}],"usage":{usage}}}'


PIECES = [event(frame(token)) for token in range(1, TOKENS + 1)]
PIECES = [HEAD + PIECES[0], *PIECES[1:-1], PIECES[-1] + event("[DONE]") + b"0\r\n\r\n"]


class Trivial(asyncio.Protocol):
    """Answers every request."""

    def __init__(self, gap: float) -> None:
        self.gap, self.unread = gap, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write = transport.write  # type: ignore[attr-defined]  # of a stream

    def data_received(self, data: bytes) -> None:
        self.unread += data
        head, ended, _ = self.unread.partition(b"\r\n\r\n")
        length = int(head.rpartition(b"content-length: ")[2]) if ended else 0
        if ended and len(self.unread) >= len(head) + 4 + length:
            self.unread = b""
            self.answer()

    def answer(self) -> None:
        if self.gap:
            self.go_on(0)
        else:
            self.write(b"".join(PIECES))

    def go_on(self, number: int) -> None:
        """One piece, and later the next."""
        self.write(PIECES[number])
        if number + 1 < TOKENS:
            asyncio.get_running_loop().call_later(self.gap, self.go_on, number + 1)


async def serve(port: int, gap: float) -> None:
    """The server process."""
    server = await asyncio.get_running_loop().create_server(lambda: Trivial(gap), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


async def idle(seconds: float) -> None:
    """How late an event loop is that has nothing to do."""
    heart = Heartbeat(lambda: None)
    heart.start()
    await asyncio.sleep(seconds)
    heart.stop()
    lags = [1000 * percentile(heart.lags, p) for p in (50, 99)]
    print(f"idle: loop late by p50 {lags[0]:.2f} ms, p99 {lags[1]:.2f} ms, max {1000 * max(heart.lags):.1f} ms")


async def offer(form: Form, rate: int, seconds: float, seed: int) -> None:
    """One line of the table."""
    lengths = f"fixed:tokens={PROMPT},fixed:tokens={TOKENS}"
    load = LoadGenerator(form, make_workload(f"poisson:rate={rate}", lengths, int(rate * seconds), seed), timeout=30)
    await load.prepare()
    cpu, began = time.process_time(), time.monotonic()
    repeat = await load.run()
    cpu, took = time.process_time() - cpu, time.monotonic() - began
    outcomes = Counter(request.outcome for request in repeat.requests)
    count, delay = len(repeat.requests), repeat.client
    assert outcomes == {RequestOutcome.OK: count}, outcomes
    assert delay is not None
    sending = max(request.sent for request in repeat.requests)
    print(
        f"{rate:7} {count / sending:8.0f} {count / span(repeat):8.0f} {1000 * delay.send_p50:8.2f} {1000 * delay.send_p99:8.2f}"
        f" {1000 * delay.loop_p50:8.2f} {1000 * delay.loop_p99:8.2f} {100 * cpu / took:6.0f} % {1e6 * cpu / count:6.0f} us"
        f"  {'valid' if repeat.valid else 'not valid'}",
        flush=True,
    )


async def measure(port: int, rates: list[int], seconds: float, repeats: int) -> None:
    """All lines of the table."""
    form = await meet(Target(f"http://127.0.0.1:{port}", "m"))
    await idle(seconds)
    print("offered     sent answered send p50      p99 loop p50      p99     core   each   (ms)")
    for rate in rates:
        for seed in range(repeats):
            await offer(form, rate, seconds, seed)


def main(rates: list[int], seconds: float, repeats: int, gap: float) -> None:
    """Start the server on the last core, measure from the one before."""
    cores = sorted(os.sched_getaffinity(0))
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = ["taskset", "-c", str(cores[-1]), sys.executable, __file__, "--serve", str(port), "--gap", str(gap)]
    server = subprocess.Popen(command, preexec_fn=killed_with_this())
    try:
        os.sched_setaffinity(0, {cores[-2]})
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.1)
        execute(measure(port, rates, seconds, repeats))
    finally:
        server.terminate()
        server.wait(10)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="1000,2000,3000,4000,5000,6000")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--gap", type=float, default=0)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        execute(serve(chosen.serve, chosen.gap))
    else:
        main([int(rate) for rate in chosen.rates.split(",")], chosen.seconds, chosen.repeats, chosen.gap)
