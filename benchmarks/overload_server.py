"""A server beyond its capacity, over HTTP: ours with promises, or any other under the same load.

    python benchmarks/overload_server.py [--loads 0.5,1,1.5,2,4] [--seconds 30] [-- options of `orcinus serve`]
    python benchmarks/overload_server.py --url http://127.0.0.1:8000 [--model NAME]

Starts `orcinus serve` on the bundled model by itself; with `--url` it waits for a server that runs, such as vLLM's or
llama.cpp's (`benchmarks/peers/serve.py`), and measures that. The capacity is the throughput of 200 requests at once; it is
measured before and after each load, because a machine that others use changes its speed. Requests then come as a Poisson
process at multiples of the capacity before, each with the SLO, which servers that keep no promises ignore; refused ones do not
come again. Goodput counts requests within the SLO, as a share of the mean of both capacities. A first load, at the capacity, is
for warming up.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress

import httpx

from orcinus.bench.config import EndpointConfig, LoadConfig
from orcinus.bench.measure import metrics
from orcinus.bench.server import run_server
from orcinus.parent import killed_with_this

SERVE = (sys.executable, "-m", "orcinus", "serve", "--port", "0", "--dtype", "float32", "--max-batch-size", "16")
WORKLOAD = "uniform:low=16:high=200,uniform:low=16:high=128"
AT_ONCE = 200  # below the usual limit of a queue
WARM_UP = 300  # requests with the SLO before the first load: servers with promises learn from as many
PATIENCE_S = 900  # for a server to start


def measured(endpoint: EndpointConfig, arrivals: str, requests: int, model: str | None) -> dict[str, float]:
    """The metrics of one run."""
    load = LoadConfig(workload=WORKLOAD, arrivals=arrivals, requests=requests, repeats=1)
    result = run_server(endpoint, load, model, 0)
    return metrics(result.sides[0].repeats[0], result.goodput_slo)


HEAD = """\
| load | capacity before, after | goodput / capacity | TTFT p99 | TBT p99 | kept | refused |
|---|---|---:|---:|---:|---:|---:|"""


def measure(url: str, asked: argparse.Namespace) -> Iterator[str]:
    """A row of the table for each load."""
    plain = EndpointConfig(url=url, timeout=900, max_delay=10)
    with_slo = EndpointConfig(url=url, timeout=900, max_delay=10, slo=asked.slo)

    def capacity() -> float:
        return measured(plain, "all-at-once", AT_ONCE, asked.model)["request_throughput"]

    before = capacity()
    measured(with_slo, f"poisson:rate={before:.4f}", WARM_UP, asked.model)
    for load in map(float, asked.loads.split(",")):
        before = capacity()
        rate = load * before
        found = measured(with_slo, f"poisson:rate={rate:.4f}", max(20, int(rate * asked.seconds)), asked.model)
        after = capacity()
        share, kept = 2 * found.get("goodput", 0.0) / (before + after), found.get("promises_kept", float("nan"))
        ttft, tbt = found.get("ttft.p99", float("nan")), found.get("tbt.p99", float("nan"))
        promised = "–" if math.isnan(kept) else f"{kept:.1%}"
        row = f"{before:.1f}, {after:.1f} | {share:.2f} | {ttft:.2f} s | {tbt:.3f} s | {promised} | {found['refused']:.0%}"
        yield f"| {load:g} | {row} |"


def wait_for(url: str) -> None:
    """Wait until the server is healthy. Raises `TimeoutError`."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        time.sleep(0.5)
    raise TimeoutError(f"{url} was not ready after {PATIENCE_S} s")


@contextmanager
def own_server(options: Sequence[str]) -> Iterator[str]:
    """The URL of `orcinus serve` on the bundled model."""
    server = subprocess.Popen([*SERVE, *options], stdout=subprocess.PIPE, text=True, preexec_fn=killed_with_this())
    try:
        assert server.stdout is not None
        yield server.stdout.readline().split()[-1]
    finally:
        server.terminate()
        server.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--model")
    parser.add_argument("--loads", default="0.5,1,1.5,2,4")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--slo", default="ttft=1,tbt=0.2")
    parser.add_argument("serve", nargs="*", help="options of `orcinus serve`")
    asked = parser.parse_args()
    print(f"SLO {asked.slo}\n{HEAD}", flush=True)
    with nullcontext(asked.url) if asked.url else own_server(asked.serve) as url:
        wait_for(url)
        for row in measure(url, asked):
            print(row, flush=True)


if __name__ == "__main__":
    main()
