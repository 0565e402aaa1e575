"""Every backend that needs a GPU, on one, against the formula in float64: torch's own FlashAttention runs only there.

A process of its own, because here triton must not interpret. Prints a line for each case: backend, case, relative error.
"""

from __future__ import annotations

import sys

import torch

from orcinus.errors import ConfigError
from orcinus.runtime.attention import ATTENTION, check
from tests.runtime.gpu.batches import MIXED, Case, nothing_else_was_written, run, truth

BOUNDS = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: 1e-5}
LONG = [(0, 1), (900, 1), (700, 130), (0, 300), (33, 2)]
CASES = {
    "mixed": lambda dtype: Case(MIXED, dtype=dtype),
    "window": lambda dtype: Case(MIXED, 5, dtype=dtype),
    "window of one": lambda dtype: Case(MIXED, 1, dtype=dtype),
    "long": lambda dtype: Case(LONG, block_size=64, group=4, dim=128, dtype=dtype),
    "long, window": lambda dtype: Case(LONG, 257, block_size=64, group=4, dim=64, dtype=dtype),
    "wide heads": lambda dtype: Case(MIXED, kv_heads=1, group=1, dim=256, dtype=dtype),
    "odd heads": lambda dtype: Case(MIXED, kv_heads=1, group=7, dim=80, dtype=dtype),
}


def main(device: str) -> int:
    """How many cases were wrong."""
    wrong = 0
    for name in ("triton", "flash"):
        for dtype, bound in BOUNDS.items():
            for label, make in CASES.items():
                case = make(dtype)
                try:
                    check(name, torch.device(device), dtype, case.dim)
                except ConfigError:
                    continue
                for padded in (False, True):
                    outcome = run(ATTENTION[name](), case, padded=padded, device=device)
                    error = outcome.error(truth(case))
                    good = error < bound and nothing_else_was_written(case, outcome)
                    wrong += not good
                    print(
                        f"{name} {dtype} {label}{' padded' if padded else ''}: {error:.1e}{'' if good else ' WRONG'}",
                        flush=True,
                    )
    return wrong


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:] or ["cuda"]))
