"""Which policy and K/V manager serve best overall: the defaults.

    python benchmarks/defaults.py [--repeats 3] [--num-blocks 320]

Two streams of arrivals on the bundled model, with little K/V memory: mixed prompts, and chats that share a long system
prompt. Each paper's own pair and the candidates take turns; medians over the repeats.
"""

from __future__ import annotations

import argparse
import random
import statistics

from open_loop import Arrival, offer

from orcinus import LLM
from orcinus.observe.latency import percentile

PAIRS = [
    ("request-level", "max-length"),
    ("orca", "reservation"),
    ("prefill-first", "paged"),
    ("sarathi:chunk_size=128", "paged"),
    ("stall-free:token_budget=128", "paged"),
    ("stall-free:token_budget=128", "prefix-cache"),
    ("stall-free:token_budget=512", "prefix-cache"),
]


def arrivals(shared: bool, seconds: float, rate: float) -> list[Arrival]:
    rng, at, found = random.Random(3), 0.0, list[Arrival]()
    system = tuple(rng.randrange(300, 2000) for _ in range(400))
    while (at := at + rng.expovariate(rate)) < seconds:
        length = rng.choice([10, 20, 40]) if shared else rng.choice([10, 20, 40, 400])
        prompt = tuple(rng.randrange(300, 2000) for _ in range(length))
        found.append((at, system + prompt if shared else prompt, rng.randint(20, 90)))
    return found


def serve(policy: str, kv: str, stream: list[Arrival], num_blocks: int) -> dict[str, float]:
    with LLM(policy=policy, kv=kv, max_batch_size=16, max_model_len=1024, num_blocks=num_blocks, dtype="float32") as llm:
        watch = offer(llm, stream)
        preemptions = llm.engine.scheduler.admission.preemptions
    return {
        "tokens/s": watch.output_throughput(),
        "ttft p50": percentile(watch.ttft(), 50) * 1e3,
        "ttft p99": percentile(watch.ttft(), 99) * 1e3,
        "tbt p50": percentile(watch.tbt(), 50) * 1e3,
        "tbt p99": percentile(watch.tbt(), 99) * 1e3,
        "e2e p50": percentile(watch.e2e(), 50) * 1e3,
        "preempted": float(preemptions),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Which combination serves best overall.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--num-blocks", type=int, default=320, help="K/V memory, in blocks of 16 tokens")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rate", type=float, default=14.0)
    options = parser.parse_args()
    for label, shared in (("mixed prompts", False), ("shared system prompt", True)):
        stream = arrivals(shared, options.seconds, options.rate)
        runs: dict[tuple[str, str], list[dict[str, float]]] = {pair: [] for pair in PAIRS}
        for _ in range(options.repeats):
            for pair in PAIRS:
                runs[pair].append(serve(*pair, stream, options.num_blocks))
        names = list(runs[PAIRS[0]][0])
        print(f"\n{label}: {len(stream)} requests\n{'':44}" + "".join(f"{name:>11}" for name in names))
        for pair, found in runs.items():
            medians = [statistics.median(run[name] for run in found) for name in names]
            print(f"{' + '.join(pair):44}" + "".join(f"{value:11.1f}" for value in medians), flush=True)


if __name__ == "__main__":
    main()
