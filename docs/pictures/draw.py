"""Draws the pictures of docs/policies.md from real runs on the bundled model: `python docs/pictures/draw.py`.

Needs matplotlib (the extra `plots`). One workload for all policies: five requests, two of them with long
prompts, and three places in the batch. Columns are iterations, rows are requests; the strip below is the time of each.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import Patch

from orcinus import LLM, SamplingParams
from orcinus.core.batch import Batch, BatchResult
from orcinus.core.component_spec import make_policy
from orcinus.core.ports import Observer
from orcinus.core.request import Request
from orcinus.core.unserved import Reason, Unserved

POLICIES = {
    "request-level": "request-level",
    "fastertransformer": "fastertransformer",
    "orca": "orca",
    "prefill-first": "prefill-first",
    "sarathi": "sarathi:chunk_size=64",
    "stall-free": "stall-free:token_budget=64",
    "latency-target": "latency-target:tbt=0.012",
}
# arrival (iteration), prompt tokens, output tokens
WORKLOAD = {"A": (0, 20, 22), "B": (0, 8, 9), "C": (3, 300, 8), "D": (4, 12, 14), "E": (6, 200, 6)}
PLACES = 3
LONG = ("fastertransformer", "latency-target")  # shown only as far as the others go
PREFILL, DECODE, WAITING, HELD = "#f2b134", "#3b6ea5", "#e4e4e4", "#b8c4d0"


@dataclass
class Watch(Observer):
    """Notes for every iteration who ran how many tokens, who held memory without running, and how long it took."""

    began: float = 0.0
    cells: list[dict[str, tuple[str, int]]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        self.began = now
        column = {chunk.request_id: (PREFILL if chunk.prefill else DECODE, len(chunk.tokens)) for chunk in batch.chunks}
        paused = (Reason.PROMPTS_FIRST, Reason.ONE_PROMPT, Reason.BUDGET_SPENT, Reason.LATENCY)
        column |= {name: (HELD, 0) for name, reason in unserved.reasons.items() if reason in paused and name in self.seen}
        self.cells.append(column)

    def on_step(self, batch: Batch, result: BatchResult, now: float) -> None:
        self.seconds.append(now - self.began)

    @property
    def seen(self) -> set[str]:
        return {name for column in self.cells for name in column}


def serve(llm: LLM, spelled: str) -> Watch:
    """Run the workload with one policy."""
    rng, watch = random.Random(1), Watch()
    prompts = {name: tuple(rng.randrange(300, 2000) for _ in range(count)) for name, (_, count, _) in WORKLOAD.items()}
    llm.engine.use(make_policy(spelled))
    llm.engine.observers[:] = [watch]
    todo, step = dict(WORKLOAD), 0
    while todo or not llm.engine.idle:
        for name in [name for name, (arrival, _, _) in todo.items() if arrival <= step]:
            _, _, output = todo.pop(name)
            params = SamplingParams(max_tokens=output, temperature=0, seed=0)
            llm.engine.submit(Request(name, prompts[name], params, llm.engine.clock.now()))
        llm.engine.step()
        step += 1
    return watch


def draw(watch: Watch, title: str, columns: int, slowest: float, file: Path) -> None:
    """One picture."""
    figure, (grid, strip) = plt.subplots(2, 1, figsize=(10, 2.9), height_ratios=(3, 1), sharex=True)
    for row, (name, (arrival, _, _)) in enumerate(WORKLOAD.items()):
        ran = [step for step, column in enumerate(watch.cells) if name in column]
        grid.broken_barh([(arrival, max(ran) + 1 - arrival)], (row + 0.12, 0.76), color=WAITING)
        for step in [step for step in ran if step < columns]:
            color, tokens = watch.cells[step][name]
            grid.broken_barh([(step, 0.96)], (row + 0.12, 0.76), color=color)
            if tokens > 1:
                grid.text(step + 0.48, row + 0.5, str(tokens), ha="center", va="center", fontsize=6.5)
    grid.set_yticks([row + 0.5 for row in range(len(WORKLOAD))], list(WORKLOAD))
    grid.set_ylim(len(WORKLOAD), 0)
    shown = f", the first {columns} of them" if len(watch.cells) > columns else ""
    grid.set_title(f"{title}: {len(watch.cells)} iterations{shown}", loc="left", fontsize=10)
    times = [1e3 * seconds for seconds in watch.seconds[:columns]]
    strip.bar([step + 0.48 for step in range(len(times))], times, 0.9, color="#777777")
    strip.set(xlim=(0, columns), ylim=(0, slowest * 1e3), ylabel="ms", xlabel="iteration")
    for axis in (grid, strip):
        axis.spines[["top", "right"]].set_visible(False)
    names = {"prompt (tokens)": PREFILL, "one token of the answer": DECODE, "paused": HELD, "waiting": WAITING}
    patches = [Patch(color=color, label=label) for label, color in names.items()]
    grid.legend(handles=patches, ncols=4, fontsize=7, frameon=False, loc="lower right", bbox_to_anchor=(1, 0.98))
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the pictures of docs/policies.md.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    plt.rcParams["svg.hashsalt"] = "orcinus"
    with LLM(max_batch_size=PLACES, kv="paged", dtype="float32") as llm:
        for spelled in POLICIES.values():
            serve(llm, spelled)  # everything is loaded, and the step times are learnt
        watches = {name: serve(llm, spelled) for name, spelled in POLICIES.items()}
    columns = max(len(watch.cells) for name, watch in watches.items() if name not in LONG) + 1
    slowest = max(max(watch.seconds) for watch in watches.values())
    for name, watch in watches.items():
        draw(watch, POLICIES[name], columns, slowest, options.out / f"{name}.svg")
        total, worst = sum(watch.seconds) * 1e3, max(watch.seconds) * 1e3
        print(f"{name:18} {len(watch.cells):4} iterations, {total:6.0f} ms, slowest {worst:5.1f} ms")


if __name__ == "__main__":
    main()
