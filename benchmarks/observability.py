"""What ledgers, the access log and traces cost a server.

    python benchmarks/observability.py [--rounds 5] [--clients 32] [--requests 64] [--tokens 256]

Servers of a simulated engine stand side by side: plain; plain again, which shows how far equal servers differ; with an access
log (and so with ledgers); with traces, to a collector that answers; with traces, to one that is gone. Each round puts the same
load on each of them in turn, streamed and whole, and takes the CPU seconds of its HTTP process and of its engine process.
Printed are medians over the rounds: microseconds by token of the plain server, and the ratios of the others to it in the same
round; in brackets the ratios of the least values, which other programs disturb less. Needs the extra `otel`. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from orcinus.parent import killed_with_this

SIMULATED = ("--simulate", "opt-13b", "--speed", "50", "--max-queue", "1024")


class Costs(NamedTuple):
    """CPU seconds of a server's two processes."""

    http: float
    engine: float


class Server:
    """A server in processes of its own."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "orcinus", "serve", "--port", "0", *SIMULATED, *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=killed_with_this)
        assert self.process.stdout is not None
        found = re.search(r":(\d+)$", self.process.stdout.readline().strip())
        assert found is not None, "the server did not start"
        self.port = int(found[1])
        pid = self.process.pid
        (self.engine,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    def costs(self) -> Costs:
        """CPU seconds so far."""
        return Costs(_cpu_seconds(self.process.pid), _cpu_seconds(self.engine))


def _cpu_seconds(pid: int) -> float:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


async def ask(port: int, tokens: int, *, stream: bool) -> None:
    """Send one request, and read its answer to the end."""
    body = {"prompt": list(range(3, 67)), "max_tokens": tokens, "ignore_eos": True, "stream": stream}
    content = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    answer = await reader.read(-1)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200"), answer[:200]


async def load(port: int, clients: int, requests: int, tokens: int, *, stream: bool) -> None:
    """Requests, at most `clients` at once."""
    places = asyncio.Semaphore(clients)

    async def one() -> None:
        async with places:
            await ask(port, tokens, stream=stream)

    await asyncio.gather(*(one() for _ in range(requests)))


class Collector(BaseHTTPRequestHandler):
    """Takes traces, and forgets them."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def measure(server: Server, asked: argparse.Namespace, *, stream: bool) -> Costs:
    """CPU seconds of one load."""
    before = server.costs()
    asyncio.run(load(server.port, asked.clients, asked.requests, asked.tokens, stream=stream))
    after = server.costs()
    return Costs(after.http - before.http, after.engine - before.engine)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("rounds", 5), ("clients", 32), ("requests", 64), ("tokens", 256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args(arguments)
    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder, socket.socket() as no_collector:
        no_collector.bind(("127.0.0.1", 0))
        servers = {
            "plain": Server(),
            "plain again": Server(),
            "access log": Server("--access-log", f"{folder}/log"),
            "traces": Server("--otlp-endpoint", f"http://127.0.0.1:{collector.server_port}"),
            "traces, no collector": Server("--otlp-endpoint", f"http://127.0.0.1:{no_collector.getsockname()[1]}"),
        }
        for server in servers.values():  # imports, and compiled functions
            asyncio.run(load(server.port, 8, 16, 32, stream=True))
        print(f"{asked.requests} requests of {asked.tokens} tokens, {asked.clients} at once, medians of {asked.rounds} rounds")
        for stream in (True, False):
            turns = list(servers.items())
            rounds = list[dict[str, Costs]]()
            for _ in range(asked.rounds):
                turns.append(turns.pop(0))  # none is always the first
                rounds.append({name: measure(server, asked, stream=stream) for name, server in turns})
            tokens = asked.requests * asked.tokens
            plain = [1e6 * median(one["plain"][side] for one in rounds) / tokens for side in (0, 1)]
            print(f"{'streamed' if stream else 'whole'}: HTTP {plain[0]:.1f} us, engine {plain[1]:.1f} us a token")
            for name in list(servers)[1:]:
                ratios = [median(one[name][side] / one["plain"][side] for one in rounds) for side in (0, 1)]
                least = [min(one[name][side] for one in rounds) / min(one["plain"][side] for one in rounds) for side in (0, 1)]
                shown = [f"{ratio:.3f} ({fastest:.3f})" for ratio, fastest in zip(ratios, least, strict=True)]
                print(f"  {name:<22} HTTP {shown[0]}   engine {shown[1]}", flush=True)
        for server in servers.values():
            server.process.terminate()
            server.process.wait()
    collector.shutdown()


if __name__ == "__main__":
    main()
