"""A server beyond its capacity, over HTTP: ours with promises, or any other under the same load.

    python benchmarks/overload_server.py [--loads 0.5,1,1.5,2,4] [--seconds 30] [-- options of `orcinus serve`]
    python benchmarks/overload_server.py --url http://127.0.0.1:8000 [--model NAME]

Starts `orcinus serve` on the bundled model by itself; with `--url` it measures a server that runs, such as vLLM's or
llama.cpp's. The capacity is the throughput of 200 requests at once. Requests then come as a Poisson process at multiples of it,
each with the SLO, which servers that keep no promises ignore; refused ones do not come again. Goodput counts requests within
the SLO.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from orcinus.bench.config import EndpointConfig, LoadConfig
from orcinus.bench.measure import metrics
from orcinus.bench.server import run_server
from orcinus.parent import killed_with_this

SERVE = (sys.executable, "-m", "orcinus", "serve", "--port", "0", "--dtype", "float32", "--max-batch-size", "16")
WORKLOAD = "uniform:low=16:high=200,uniform:low=16:high=128"
AT_ONCE = 200  # below the usual limit of a queue


def measured(endpoint: EndpointConfig, arrivals: str, requests: int, model: str | None) -> dict[str, float]:
    """The metrics of one run."""
    load = LoadConfig(workload=WORKLOAD, arrivals=arrivals, requests=requests, repeats=1)
    result = run_server(endpoint, load, model, 0)
    return metrics(result.sides[0].repeats[0], result.goodput_slo)


def measure(url: str, asked: argparse.Namespace) -> None:
    """Print the capacity, and a row for each load."""
    plain = EndpointConfig(url=url, timeout=900, max_delay=10)
    with_slo = EndpointConfig(url=url, timeout=900, max_delay=10, slo=asked.slo)
    most = measured(plain, "all-at-once", AT_ONCE, asked.model)["request_throughput"]
    print(f"capacity {most:.2f} requests/s; SLO {asked.slo}")
    print("| load | goodput / capacity | TTFT p99 | TBT p99 | kept | refused |\n|---|---:|---:|---:|---:|---:|", flush=True)
    for load in map(float, asked.loads.split(",")):
        rate = load * most
        found = measured(with_slo, f"poisson:rate={rate:.4f}", max(20, int(rate * asked.seconds)), asked.model)
        share, kept = found.get("goodput", 0.0) / most, found.get("promises_kept", float("nan"))
        ttft, tbt = found.get("ttft.p99", float("nan")), found.get("tbt.p99", float("nan"))
        print(f"| {load:g} | {share:.2f} | {ttft:.2f} s | {tbt:.3f} s | {kept:.1%} | {found['refused']:.0%} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--model")
    parser.add_argument("--loads", default="0.5,1,1.5,2,4")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--slo", default="ttft=1,tbt=0.2")
    parser.add_argument("serve", nargs="*", help="options of `orcinus serve`")
    asked = parser.parse_args()
    if asked.url:
        measure(asked.url, asked)
        return
    server = subprocess.Popen([*SERVE, *asked.serve], stdout=subprocess.PIPE, text=True, preexec_fn=killed_with_this())
    try:
        assert server.stdout is not None
        measure(server.stdout.readline().split()[-1], asked)
    finally:
        server.terminate()
        server.wait(60)


if __name__ == "__main__":
    main()
