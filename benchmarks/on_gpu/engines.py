"""Engines with random weights, and what is hand-fed to their executors."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from on_gpu.bench import Bench
from on_gpu.geometry import Geometry
from on_gpu.paged import BLOCK
from on_gpu.sizes import Load
from orcinus.build import Built, build
from orcinus.config import EngineConfig
from orcinus.core.batch import Batch, BatchResult, Chunk, NewRequest
from orcinus.core.ports import Executor
from orcinus.core.request import RequestContext
from orcinus.core.sampling_params import SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=1)
NUMBERS = count(1_000_000)  # of batches: an executor never meets one twice, nor a request of the same name


@contextmanager
def engine(bench: Bench, model: Geometry, load: Load, **options: Any) -> Iterator[Built]:
    """An engine for such a load, with random weights made on the device. `options` are further fields of its config.

    The device holds one at a time: drop it before the next one is made.
    """
    release(bench)
    with tempfile.TemporaryDirectory() as folder:
        began = perf_counter()
        built = build(config(bench, model, load, Path(folder), **options))
        bench.fact(f"seconds to build {model.name}{' eagerly' if options.get('enforce_eager') else ''}", perf_counter() - began)
        fill(built.engine.executor)
        try:
            yield built
        finally:
            built.engine.close()


def release(bench: Bench) -> None:
    """Give unused memory back to the device, where plans look for it."""
    gc.collect()
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()


def config(bench: Bench, model: Geometry, load: Load, folder: Path, **options: Any) -> EngineConfig:
    """Room for a full batch of the longest requests, so that none is ever preempted."""
    asked: dict[str, Any] = {
        "model": model.write(folder, load.max_model_len, bench.sizes.dtype),
        "load_format": "dummy",
        "device": str(bench.device),
        "dtype": bench.sizes.dtype,
        "max_batch_size": load.max_batch_size,
        "max_model_len": load.max_model_len,
        "max_batch_tokens": load.max_batch_tokens,
        "num_blocks": load.max_batch_size * -(-load.max_model_len // BLOCK),
        "block_size": BLOCK,
        "policy": load.policy,
        "kv": "paged",
    }
    return EngineConfig.from_options(**(asked | options))


def fill(executor: Any) -> None:
    """Random keys and values where there were zeros, which a device multiplies with less power."""
    for layer in getattr(executor, "kv", ()):
        for cache in (layer.keys, layer.values):
            cache.normal_()


def decodes(requests: int, context: int, iterations: int, chained: bool) -> list[Batch]:
    """Iterations of the same decodes, of `context` tokens in the first one and one more in each that follows.

    `chained`: each takes its token from the batch before, which may still be in flight.
    """
    blocks = -(-(context + iterations) // BLOCK)
    tables = [tuple(range(number * blocks, (number + 1) * blocks)) for number in range(requests)]
    ids = [next(NUMBERS) for _ in range(iterations)]
    names = [f"d{ids[0]}-{number}" for number in range(requests)]

    def chunk(number: int, step: int) -> Chunk:
        follows = ids[step - 1] if chained and step else None
        token, start = (0 if follows else 7 + number % 50), context - 1 + step
        return Chunk(names[number], (token,), start, follows=follows)

    new = tuple(_new(name, (0,) * context, table) for name, table in zip(names, tables, strict=True))
    steps = [tuple(chunk(number, step) for number in range(requests)) for step in range(iterations)]
    return [Batch(ids[step], chunks, () if step else new) for step, chunks in enumerate(steps)]


def prompts(tokens: int, vocab: int, iterations: int) -> list[Batch]:
    """Iterations of one whole prompt, each of another request over the same blocks."""
    table, ids = tuple(range(-(-tokens // BLOCK))), [next(NUMBERS) for _ in range(iterations)]
    prompt = tuple((31 * at) % vocab for at in range(tokens))
    return [Batch(each, (Chunk(f"p{each}", prompt, 0),), (_new(f"p{each}", prompt, table),)) for each in ids]


def _new(name: str, prompt: tuple[int, ...], table: tuple[int, ...]) -> NewRequest:
    """A request that has all blocks it will need from its first iteration on."""
    return NewRequest(name, prompt, (), GREEDY, RequestContext(), (table,))


def intervals(executor: Executor, batches: Sequence[Batch]) -> list[float]:
    """Seconds from each result to the next, as many batches in flight as the executor takes. Raises if one failed."""
    coming, moments = iter(batches), []
    for batch in islice(coming, executor.depth):
        executor.submit(batch)
    for _ in batches:
        check(executor.collect())
        moments.append(perf_counter())
        for batch in islice(coming, 1):
            executor.submit(batch)
    return [after - before for before, after in zip(moments, moments[1:], strict=False)]


def check(result: BatchResult) -> None:
    """A failed iteration takes no time: it must not count."""
    if result.errors:
        raise RuntimeError(next(iter(result.errors.values())).text)
