"""What the options `quantization` and `kv_cache_dtype` save and cost on a CPU: products, iterations, and a model's text.

    python -m benchmarks.quantization [products] [iterations] [quality] [--threads N] [--rounds 7] [--geometry small qwen3-0.6b]
    python -m benchmarks.quantization quality --model model.gguf --text FILE …
    python -m benchmarks.quantization --quick        # a toy, to see that everything works

Without words all three run. All sides take turns; a figure is the median of the rounds, a ratio the median of the rounds'
ratios. CPU milliseconds are those of all threads of the process. Products include the quantisation of their rows. Iterations
are decodes with made-up weights. The texts of `quality` are conversations that the bundled model was not trained on, or for
another model the first pieces of each file. `benchmarks/cpu_attention.py` times attention over 8-bit keys and values.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.on_gpu.geometry import QWEN, TOY_QWEN, Geometry
from orcinus import LLM, SamplingParams
from orcinus.machine_load import load_average
from orcinus.plan import make_plan
from orcinus.runtime.linear_weight import Split
from orcinus.runtime.models import PlainWeight
from orcinus.runtime.quantized_weights import QUANTIZED_WEIGHTS
from tools.tiny.corpus.chat import draw

SMALL = replace(TOY_QWEN, name="small", layers=8, hidden=512, heads=8, kv_heads=4, head_dim=64, ffn=1536, vocab=32_000)
GEOMETRIES = {"small": SMALL, "qwen3-0.6b": QWEN, "toy": TOY_QWEN}
SHAPES = [(3072, 1024), (1024, 3072), (512, 512), (32_000, 512)]  # outputs, inputs
ROWS = (1, 8, 16, 128)
BYTES = 96 * 2**20  # of float32 weights of a shape: more than a cache holds
SIDES: Mapping[str, dict[str, Any]] = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "int8, bfloat16": {"dtype": "bfloat16", "quantization": "int8"},
    "int8, float32": {"dtype": "float32", "quantization": "int8"},
    "int4, bfloat16": {"dtype": "bfloat16", "quantization": "int4"},
    "int4, float32": {"dtype": "float32", "quantization": "int4"},
}
INT8_KV = {"kv_cache_dtype": "int8"}
QUALITY = {
    **SIDES,
    "bfloat16, int8 K/V": SIDES["bfloat16"] | INT8_KV,
    "float32, int8 K/V": SIDES["float32"] | INT8_KV,
    "int8, bfloat16, int8 K/V": SIDES["int8, bfloat16"] | INT8_KV,
}
COMPARED = (  # the header of rows of `compared`
    "| format | perplexity | largest difference of a log-probability | mean | same best token | equal greedy tokens |\n"
    "|---|---|---|---|---|---|"
)
PIECE, PIECES = 512, 4  # tokens of a piece of a file, and pieces of all files
QUANTIZED = [name for name, given in SIDES.items() if "quantization" in given]
Timed = tuple[float, float]  # milliseconds, and CPU milliseconds


def timed(work: Callable[[], object]) -> Timed:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def in_turn(sides: Mapping[str, Callable[[], Timed]], rounds: int) -> dict[str, list[Timed]]:
    """The times of each side, after a round that does not count."""
    found: dict[str, list[Timed]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, measure in sides.items():
            times = measure()
            if number:
                found[name].append(times)
    return found


def line(label: str, found: Mapping[str, list[Timed]], per: int = 1) -> str:
    """Milliseconds and CPU milliseconds of each side, and how many times as fast integers are as floats (by CPU time)."""
    cells = [f"{median(w for w, _ in each) / per:9.3f} ({median(c for _, c in each) / per:.3f})" for each in found.values()]
    ratios = []
    for ours in QUANTIZED:
        pairs = list(zip(found[SIDES[ours]["dtype"]], found[ours], strict=True))
        wall, cpu = (median(a[kind] / max(b[kind], 1e-9) for a, b in pairs) for kind in (0, 1))
        ratios.append(f"{wall:.2f}x ({cpu:.2f}x)")
    return f"| {label} | {' | '.join(cells)} | {' | '.join(ratios)} |"


def header(what: str) -> str:
    names = [what, *SIDES, *(f"{side.split(',')[0]} to {SIDES[side]['dtype']}" for side in QUANTIZED)]
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def products(options: argparse.Namespace) -> None:
    """Products of each shape, in milliseconds."""
    print(header("outputs x inputs, rows"))
    for outputs, inputs in [(64, 64)] if options.quick else SHAPES:
        count = 2 if options.quick else max(1, BYTES // (4 * outputs * inputs))
        weights = [torch.randn(outputs, inputs) for _ in range(count)]
        split = Split.columns(outputs)
        packed = {
            dtype: [PlainWeight(weight.to(dtype), split).process_after_loading() for weight in weights]
            for dtype in (torch.float32, torch.bfloat16)
        }
        integers = {name: [made.quantize(weight, split) for weight in weights] for name, made in QUANTIZED_WEIGHTS.items()}
        del weights

        def side(
            quantization: str | None, x: torch.Tensor, packed: Any = packed, integers: Any = integers
        ) -> Callable[[], Timed]:
            if quantization is not None:
                return lambda: timed(lambda: [weight.multiply(x, None) for weight in integers[quantization]])
            return lambda: timed(lambda: [weight.multiply(x, None) for weight in packed[x.dtype]])

        for rows in ROWS:
            x = torch.randn(rows, inputs)
            sides = {
                name: side(given.get("quantization"), x.to(getattr(torch, given["dtype"]))) for name, given in SIDES.items()
            }
            print(line(f"{outputs} x {inputs}, {rows}", in_turn(sides, options.rounds), count), flush=True)


def decodes(llm: LLM, requests: int, steps: int) -> Timed:
    """Mean milliseconds of the iterations that decode so many requests."""
    params = SamplingParams(max_tokens=steps + 2, temperature=0, ignore_eos=True)
    tokens = llm.stream([[7 + number] * 32 for number in range(requests)], params)
    for _ in range(2 * requests):  # prompts, and the first decodes
        next(tokens)
    wall, cpu = timed(lambda: list(tokens))
    return wall / steps, cpu / steps


def iterations(geometry: Geometry, options: argparse.Namespace) -> None:
    """Iterations of a geometry, in milliseconds."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = geometry.write(Path(name), 1024, "bfloat16")
        given = {"load_format": "dummy", "max_batch_size": 32, "max_model_len": 128, "kv": "paged", "policy": "orca"}
        llms = {side: stack.enter_context(LLM(folder, **given, **each)) for side, each in SIDES.items()}
        mib = [f"{side} {make_plan(llm.config).memory.weights >> 20}" for side, llm in llms.items()]
        print(f"\n{geometry.name}; MiB of weights: {', '.join(mib)}\n\n{header('requests')}")
        for requests in (1, 8, 32):
            steps = 4 if geometry is QWEN or options.quick else 16
            sides = {side: partial(decodes, llm, requests, steps) for side, llm in llms.items()}
            print(line(str(requests), in_turn(sides, options.rounds)), flush=True)


def quality(options: argparse.Namespace) -> None:
    """Perplexity, logits and greedy tokens of a model."""
    print(f"\n{COMPARED}")
    expected: tuple[Any, Any] | None = None
    for name, side in QUALITY.items():
        with LLM(options.model, **side) as llm:
            scored, answers = score(llm, pieces(llm, options))
        expected = expected or (scored, answers)
        print(compared(name, (scored, answers), expected), flush=True)


def pieces(llm: LLM, options: argparse.Namespace) -> list[list[int]]:
    """Token ids of the texts: pieces of the files, or of 60 held-out conversations the first 200 tokens."""
    tokenizer = llm.tokenizer
    assert tokenizer is not None
    if options.text:
        files = [tokenizer.encode(file.read_text(encoding="utf-8")) for file in options.text]
        each = PIECES // len(files)
        return [list(ids[PIECE * number : PIECE * (number + 1)]) for ids in files for number in range(each)]
    rng = random.Random(5)
    chats = [draw(rng, held_out=True) for _ in range(4 if options.quick else 60)]
    texts = [tokenizer.encode(chat) if isinstance(chat, str) else tokenizer.encode_chat(chat) for chat in chats]
    return [list(text[:200]) for text in texts]


def score(llm: LLM, prompts: list[list[int]]) -> tuple[list[Any], list[tuple[int, ...]]]:
    """The log-probabilities of the tokens of each text with the best ones, and greedy answers of 32 tokens."""
    rows = []
    for output in llm.generate(prompts, SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=1)):
        rows += [(row.logprob, row.top[0][0]) for row in output.prompt_logprobs or () if row is not None]
    outputs = llm.generate([prompt[:24] for prompt in prompts], SamplingParams(max_tokens=32, temperature=0, ignore_eos=True))
    return rows, [tuple(output.token_ids) for output in outputs]


def compared(name: str, found: tuple[Any, Any], expected: tuple[Any, Any]) -> str:
    """A row: the scores of one side beside those of the first."""
    (rows, answers), (wanted, wanted_answers) = found, expected
    perplexity = math.exp(-sum(logprob for logprob, _ in rows) / len(rows))
    differences = [abs(ours[0] - theirs[0]) for ours, theirs in zip(rows, wanted, strict=True)]
    same = sum(ours[1] == theirs[1] for ours, theirs in zip(rows, wanted, strict=True)) / len(rows)
    pairs = zip(chain(*answers), chain(*wanted_answers), strict=True)
    equal = sum(a == b for a, b in pairs)
    greedy = f"{100 * same:.2f} % of {len(rows)} | {100 * equal / sum(map(len, answers)):.1f} %"
    return f"| {name} | {perplexity:.4f} | {max(differences):.3f} | {sum(differences) / len(differences):.4f} | {greedy} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", choices=["products", "iterations", "quality", []])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--geometry", nargs="+", choices=GEOMETRIES, default=["small", "qwen3-0.6b"])
    parser.add_argument("--model", type=Path, help="of the section quality, with --text; default: the bundled model")
    parser.add_argument("--text", type=Path, nargs="+", default=[], metavar="FILE")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if (options.model is None) != (not options.text):
        parser.error("--model needs --text, and --text a --model")
    if options.quick:
        options.rounds, options.geometry = 2, ["toy"]
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, torch {torch.__version__}, load {load_average()}; milliseconds (CPU milliseconds)\n")
    sections = options.sections or ["products", "iterations", "quality"]
    if "products" in sections:
        with torch.inference_mode():
            products(options)
    if "iterations" in sections:
        for name in options.geometry:
            iterations(GEOMETRIES[name], options)
    if "quality" in sections:
        quality(options)


if __name__ == "__main__":
    main()
