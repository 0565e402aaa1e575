"""Iterations without planning: decodes beside their bytes, prompts beside their operations."""

from __future__ import annotations

import statistics

from on_gpu.bench import Bench
from on_gpu.ceilings import COPY, GEMM, copy_rate, gemm_rate
from on_gpu.engines import decodes, engine, intervals, prompts
from on_gpu.geometry import Geometry
from on_gpu.sizes import Load
from orcinus.core.batch import pairs
from orcinus.core.ports import Executor

WARM_UP = 5  # iterations that are not counted
PROMPTS = 8  # iterations of a whole prompt


def run(bench: Bench) -> None:
    bench.ceiling(COPY, copy_rate)
    bench.ceiling(GEMM, gemm_rate)
    for eager in (False, True) if bench.device.type == "cuda" else (False,):  # a CPU has no graphs to turn off
        for model in bench.sizes.models:
            one(bench, model, eager)


def one(bench: Bench, model: Geometry, eager: bool) -> None:
    """All rows of one engine, which is gone afterwards."""
    with engine(bench, model, load(bench), enforce_eager=eager) as built:
        mode = "graphs" if built.resolved.cuda_graphs else "eager"
        measure(bench, model, built.engine.executor, mode)


def load(bench: Bench) -> Load:
    """An engine's load: the largest batch, longest context and longest prompt."""
    sizes = bench.sizes
    longest = max(sizes.iteration_contexts) + WARM_UP + sizes.iterations + 1
    prompt = max(sizes.iteration_prompts)
    return Load(
        requests=0,
        prompts=(1, 1),
        outputs=(1, 1),
        max_batch_size=max(sizes.iteration_batches),
        max_model_len=max(longest, prompt + 1),
        max_batch_tokens=max(prompt, max(sizes.iteration_batches)),
    )


def measure(bench: Bench, model: Geometry, executor: Executor, mode: str) -> None:
    for requests in bench.sizes.iteration_batches:
        for context in bench.sizes.iteration_contexts:
            decode(bench, model, executor, mode, requests, context)
    for tokens in bench.sizes.iteration_prompts:
        prompt(bench, model, executor, mode, tokens)


def decode(bench: Bench, model: Geometry, executor: Executor, mode: str, requests: int, context: int) -> None:
    """The byte floor: weights once, and all K/V, at the speed of a copy."""
    count = WARM_UP + bench.sizes.iterations
    took = intervals(executor, decodes(requests, context, count, executor.overlap.decode))[WARM_UP:]
    typical = statistics.median(took)
    read = requests * (context + WARM_UP + bench.sizes.iterations / 2)  # tokens of context, in the middle of the run
    num_bytes = (model.weights_read + read * model.kv_numbers) * bench.dtype.itemsize
    floor = num_bytes / bench.ceiling(COPY, copy_rate) / 1e9
    bench.row(
        "decode iterations",
        model=model.name,
        mode=mode,
        batch=requests,
        context=context,
        ms=typical * 1e3,
        slowest_ms=max(took) * 1e3,
        floor_ms=floor * 1e3,
        of_floor_share=floor / typical,
        tokens_per_s=requests / typical,
    )


def prompt(bench: Bench, model: Geometry, executor: Executor, mode: str, tokens: int) -> None:
    """One whole prompt in an iteration; what a model computes: its products, attention, and one row of logits."""
    took = intervals(executor, prompts(tokens, model.vocab, PROMPTS))[1:]
    typical = statistics.median(took)
    rate = model.flops(tokens, pairs(0, tokens), 1) / typical / 1e12
    share = rate / bench.ceiling(GEMM, gemm_rate)
    cells = {"ms": typical * 1e3, "tokens_per_s": tokens / typical, "tflop_per_s": rate, "of_gemm_share": share}
    bench.row("prompts", model=model.name, mode=mode, tokens=tokens, **cells)
