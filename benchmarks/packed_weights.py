"""Products with a weight in each layout: torch's plain one, oneDNN's, and panels.

    python benchmarks/packed_weights.py [--threads N] [--repeats 15]

Every shape is there so often that the weights do not fit in a cache, as those of a model. Layouts take turns; medians of
GB/s of weights, and of the ratios to plain ones within a turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from orcinus.runtime.linear_weight import LinearWeight, Split
from orcinus.runtime.models import PlainWeight
from orcinus.runtime.onednn_weights import OneDNNWeight, can_prepack
from orcinus.runtime.panel_weights import PanelWeight, can_use_panels

SHAPES = [(4096, 1024), (1024, 3072), (3072, 512), (512, 512), (32000, 512)]  # outputs, inputs
ROWS = (1, 8, 32, 128, 512)
BYTES = 128 * 2**20


def seconds(weights: Sequence[LinearWeight], x: Tensor) -> float:
    began = time.perf_counter()
    for weight in weights:
        weight.multiply(x, None)
    return time.perf_counter() - began


def layouts(dtype: torch.dtype) -> dict[str, type[PlainWeight | OneDNNWeight | PanelWeight]]:
    """The layouts that this machine has for a dtype."""
    found: dict[str, type[PlainWeight | OneDNNWeight | PanelWeight]] = {"plain": PlainWeight}
    if can_prepack("cpu", dtype):
        found["oneDNN"] = OneDNNWeight
    if can_use_panels("cpu", dtype):
        found["panels"] = PanelWeight
    return found


def measure(shape: tuple[int, int], dtype: torch.dtype, repeats: int) -> None:
    """Prints a line for each number of rows."""
    outputs, inputs = shape
    count = max(1, BYTES // (outputs * inputs * dtype.itemsize))
    plain = [PlainWeight(torch.randn(shape).to(dtype), Split.columns(outputs)) for _ in range(count)]
    sides: dict[str, Sequence[LinearWeight]] = {
        name: plain if layout is PlainWeight else [layout.pack(weight) for weight in plain]  # type: ignore[union-attr]
        for name, layout in layouts(dtype).items()
    }
    for rows in ROWS:
        x = torch.randn(rows, inputs).to(dtype)
        taken: dict[str, list[float]] = {name: [] for name in sides}
        for repeat in range(repeats + 2):
            for name, weights in sides.items():
                spent = seconds(weights, x)
                if repeat >= 2:
                    taken[name].append(spent)
        size = count * outputs * inputs * dtype.itemsize / 1e9
        found = [
            f"{name} {size / statistics.median(mine):6.1f} "
            f"({statistics.median(a / b for a, b in zip(taken['plain'], mine, strict=True)):4.2f}x)"
            for name, mine in taken.items()
        ]
        print(
            f"{str(dtype).removeprefix('torch.'):<9}{outputs:>6} x {inputs:<5} {rows:>4} rows  {'  '.join(found)}", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, torch {torch.__version__}; GB/s of weights, and how much faster than plain weights")
    for dtype in (torch.float32, torch.bfloat16):
        for shape in SHAPES:
            measure(shape, dtype, options.repeats)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
