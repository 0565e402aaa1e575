"""Fits SARATHI's constants (arXiv 2308.16369) to its LLaMA-13B on an A6000.

What is fitted, and on what:

- the time of the linear layers: figure 7, whose totals hold the layers' other kernels too. At 1024 tokens they are 12.2 ms
  more than the linear layers of table 2, at 2 tokens as much as linear layers and others together in figure 3. So what the
  model computes for the others is taken off, with the factor that makes it 12.2 ms;
- the attention of decodes: its rate on table 2 (4 of them) and figure 3 (18), which agree. One alone takes longer;
- the attention of prompts: its rate so that 1024 tokens take the 10 ms of table 2, and the rows of a thread block and what a
  kernel costs on figure 13a, which shows what chunks take besides their operations.

Run it from the repository root: python benchmarks/fit_sarathi.py
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from orcinus.cost.architecture import Parallel, find_architecture
from orcinus.cost.cluster import Cluster
from orcinus.cost.device_file import find_device
from orcinus.cost.network_file import find_network
from orcinus.cost.software import Software
from orcinus.cost.transformer import TransformerCost
from orcinus.cost.work import IterationWork

FILE = Path(__file__).parents[1] / "src/orcinus/cost/constants/software/sarathi.json"
MODEL, DEVICE = find_architecture("llama-13b"), find_device("a6000")

# Figure 7, read off the drawing: tokens of an iteration -> ms of all its linear layers, and what goes with them.
TOKENS = (2, 64, 128, 129, 200, 256, 257, 384, 385, 512, 513, 640, 641, 768, 769, 896, 897, 1024, 1025)
MILLISECONDS = (44.9, 49.9, 53.3, 72.8, 63.2, 67.5, 90, 94.9, 112, 116, 148, 155, 180, 186, 211, 214, 234, 237, 274)
FIGURE_7 = dict(zip(TOKENS, MILLISECONDS, strict=True))
PROMPT_LINEARS, PROMPT_ATTENTION = 224.8, 10.0  # table 2: ms of a prompt of 1024 tokens
DECODE_ATTENTION = {4: 5.68, 18: 18 * 1.42}  # table 2 and figure 3: decodes at 1024 tokens -> ms
CHUNKS = (64, 128, 192, 256, 320, 384, 448, 512)
FIGURE_13A = {  # tokens of a prompt -> what attention without chunks takes, relative to that in chunks of these sizes
    1024: (0.28, 0.60, 0.54, 0.68, 0.70, 0.76, 0.76, 0.81),
    2048: (0.41, 0.80, 0.63, 0.85, 0.77, 0.85, 0.82, 0.88),
    3072: (0.45, 0.88, 0.69, 0.90, 0.80, 0.90, 0.84, 0.91),
}
ROWS = (32, 64, 128)  # that the kernels of xFormers are built for
KERNELS = np.arange(0, 41) * 1e-6


def main() -> None:
    fitted = fit()
    FILE.write_text(json.dumps(fitted, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: fitted[key] for key in ("constants", "residuals")}, indent=1))


def fit() -> dict[str, object]:
    """Contents of the file."""
    software = best_attention(others())
    cost = model(software)
    left = [ms / 1e3 - MODEL.layers * cost.elementwise_seconds(tokens) for tokens, ms in FIGURE_7.items()]
    names = (
        "iteration",
        "request",
        "prefill_attention",
        "decode_attention",
        "attention_kernel",
        "attention_rows",
        "elementwise",
    )
    return {
        "constants": {name: getattr(software, name) for name in names},
        "fitted_on": "SARATHI, LLaMA-13B on A6000: figure 7 (linears), table 2, figure 3 and figure 13a (attention)",
        "device": DEVICE.name,
        "residuals": {  # relative
            "attention of chunks (figure 13a): root mean square, worst": spread(chunk_errors(software)),
            "attention of decodes (table 2, figure 3): root mean square, worst": spread(decode_errors(software)),
            "linears of a prompt of 1024 tokens (table 2)": round(
                left[list(FIGURE_7).index(1024)] * 1e3 / PROMPT_LINEARS - 1, 4
            ),
        },
        "linears": [
            {
                "model": MODEL.name,
                "device": DEVICE.name,
                "tp": 1,
                "tokens": list(FIGURE_7),
                "seconds": [round(seconds, 6) for seconds in left],
            }
        ],
    }


def others() -> float:
    """Factor with which all other kernels of 1024 tokens take what figure 7 has more than table 2."""
    wanted = (FIGURE_7[1024] - PROMPT_LINEARS) / 1e3
    return round(wanted / (MODEL.layers * model(Software()).elementwise_seconds(1024)), 4)


def best_attention(elementwise: float) -> Software:
    """The constants with the least squares of relative errors in figure 13a."""
    choices = [attention(rows, round(float(kernel), 7), elementwise) for rows in ROWS for kernel in KERNELS]
    return min(choices, key=lambda each: mean_square(chunk_errors(each)))


def attention(rows: int, kernel: float, elementwise: float) -> Software:
    """Constants with the rates that table 2 and figure 3 ask for."""
    free = Software(
        iteration=0.0,  # the paper's times are those of kernels
        request=0.0,
        prefill_attention=1.0,
        decode_attention=1.0,
        attention_kernel=kernel,
        attention_rows=rows,
        elementwise=elementwise,
    )
    kernels = MODEL.layers * kernel
    prefill = (chunked(free, 1024, 1024) - kernels) / (PROMPT_ATTENTION / 1e3 - kernels)
    decode = np.mean([decoding(free, count) / (ms / 1e3) for count, ms in DECODE_ATTENTION.items()])
    return replace(free, prefill_attention=round(prefill, 4), decode_attention=round(float(decode), 4))


def chunk_errors(software: Software) -> list[float]:
    found = []
    for length, published in FIGURE_13A.items():
        whole = chunked(software, length, length)
        found += [whole / chunked(software, length, size) / ratio - 1 for size, ratio in zip(CHUNKS, published, strict=True)]
    return found


def decode_errors(software: Software) -> list[float]:
    return [decoding(software, count) * 1e3 / ms - 1 for count, ms in DECODE_ATTENTION.items()]


def chunked(software: Software, length: int, size: int) -> float:
    """Seconds of all attention of a prompt that is read in chunks."""
    cost, starts = model(software), range(0, length, size)
    chunks = [(start, min(size, length - start)) for start in starts]
    return MODEL.layers * sum(
        cost.attention_seconds(IterationWork(count, 1, 0, 0, ((start, count),), 1)) for start, count in chunks
    )


def decoding(software: Software, count: int) -> float:
    """Seconds of all attention of an iteration of decodes at 1024 tokens."""
    return MODEL.layers * model(software).attention_seconds(IterationWork(count, count, count, 1024 * count, (), count))


def model(software: Software) -> TransformerCost:
    return TransformerCost(MODEL, Cluster(DEVICE, find_network("pcie"), Parallel(), software))


def mean_square(errors: list[float]) -> float:
    return float(np.mean(np.square(errors)))


def spread(errors: list[float]) -> list[float]:
    return [round(mean_square(errors) ** 0.5, 4), round(max(map(abs, errors)), 4)]


if __name__ == "__main__":
    main()
