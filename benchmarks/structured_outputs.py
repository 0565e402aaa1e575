"""What grammars add to an iteration of 32 decodes with a vocabulary of 32,000 tokens.

    python benchmarks/structured_outputs.py [--rounds 7] [--iterations 24] [--quick]

One engine with made-up weights decodes the same prompts without and with a JSON schema, in turn. The tokenizer (byte-level
BPE) is trained on this repository's own text. The masks are also timed alone, and so is the compilation of the schema.
`--quick` takes a toy model, to see that everything works.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from on_gpu.geometry import TOY_QWEN, Geometry
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from orcinus import LLM, SamplingParams, StructuredOutputs
from orcinus.core.executor_state import Row
from orcinus.machine_load import load_average
from orcinus.observe.interval import median_interval
from orcinus.runtime import sampling
from orcinus.runtime.token_bitmask import apply_token_bitmask, token_bitmasks
from orcinus.text.grammars import Grammars, GrammarVocabulary

DECODES, VOCAB = 32, 32_000
SMALL = replace(TOY_QWEN, name="8 layers of 512", layers=8, hidden=512, heads=8, kv_heads=4, head_dim=64, ffn=1536, vocab=VOCAB)
TOY = replace(TOY_QWEN, vocab=VOCAB)
ITEM = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "count": {"type": "integer"},
        "kind": {"enum": ["fish", "bird", "whale"]},
        "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]{2,8}$"}},
    },
    "required": ["name", "count", "kind", "tags"],
    "additionalProperties": False,
}
SCHEMA = {"type": "array", "items": ITEM, "minItems": 50}  # no answer ends within the iterations measured


def train_tokenizer(folder: Path) -> None:
    """Write a tokenizer of `VOCAB` tokens, trained on the repository's sources and pages."""
    root = Path(__file__).parents[1]
    files = [str(path) for pattern in ("src/**/*.py", "tests/**/*.py", "docs/**/*.md") for path in root.glob(pattern)]
    found = Tokenizer(models.BPE())
    found.pre_tokenizer, found.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    found.train(
        files, trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False)
    )
    found.save(str(folder / "tokenizer.json"))
    kind = '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>"}'
    (folder / "tokenizer_config.json").write_text(kind, encoding="utf-8")


@contextmanager
def engine(geometry: Geometry) -> Iterator[tuple[LLM, Path]]:
    """An engine of this geometry with made-up weights, and its folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = geometry.write(Path(name), 1024, "float32")
        train_tokenizer(Path(folder))
        options: dict[str, Any] = {"dtype": "float32", "max_batch_size": DECODES, "num_blocks": 16 * DECODES, "block_size": 16}
        with LLM(folder, load_format="dummy", **options) as llm:
            yield llm, Path(folder)


def decode(llm: LLM, params: SamplingParams, masks: list[float]) -> float:
    """Median milliseconds of the iterations that decode all requests."""
    times, steps = [], llm.stream(["Once upon a time"] * DECODES, params)
    del masks[:]
    for _ in range(DECODES):  # prompts, and the first tokens
        next(steps)
    del masks[:]
    began = time.perf_counter()
    for place, _ in enumerate(steps, 1):
        if place % DECODES == 0:
            times.append(1e3 * (time.perf_counter() - began))
            began = time.perf_counter()
    return median(times)


@contextmanager
def timed_masks(masks: list[float]) -> Iterator[None]:
    """Collects the milliseconds of each batch's masks."""

    def timed(rows: list[Row], vocab_size: int) -> Any:
        began = time.perf_counter()
        found = token_bitmasks(rows, vocab_size)
        masks.append(1e3 * (time.perf_counter() - began))
        return found

    def applied(*arguments: Any) -> None:
        began = time.perf_counter()
        apply_token_bitmask(*arguments)
        masks[-1] += 1e3 * (time.perf_counter() - began)

    before = sampling.token_bitmasks, sampling.apply_token_bitmask
    sampling.token_bitmasks, sampling.apply_token_bitmask = timed, applied  # type: ignore[assignment]
    try:
        yield
    finally:
        sampling.token_bitmasks, sampling.apply_token_bitmask = before


def compile_ms(folder: Path) -> tuple[float, float]:
    """Milliseconds of the first schema, with the tokenizer's index, and of the next ones."""
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    grammars, times = Grammars(lambda: GrammarVocabulary(text, (0,), VOCAB)), []
    for count in range(8):
        began = time.perf_counter()
        grammars.check(StructuredOutputs(json={**SCHEMA, "minItems": 50 + count}))
        times.append(1e3 * (time.perf_counter() - began))
    return times[0], median(times[1:])


def told(values: list[float]) -> str:
    found = median_interval(values)
    return f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--iterations", type=int, default=24)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, load average {load_average():.2f}")
    free = SamplingParams(max_tokens=given.iterations, seed=1, ignore_eos=True)
    bound = replace(free, structured_outputs=StructuredOutputs(json=SCHEMA))
    sides: dict[str, list[float]] = {"free": [], "schema": []}
    masks: list[float] = []
    shares: list[float] = []
    with engine(TOY if given.quick else SMALL) as (llm, folder), timed_masks(masks):
        for turn in range(-1, given.rounds):  # the first warms up
            for name in list(sides)[:: 1 if turn % 2 else -1]:
                took = decode(llm, bound if name == "schema" else free, masks)
                if turn >= 0:
                    sides[name].append(took)
                    if name == "schema":
                        shares.append(100 * median(masks) / took)
        first, later = compile_ms(folder)
    print(f"{DECODES} decodes, vocabulary of {VOCAB}, {(TOY if given.quick else SMALL).name}, milliseconds an iteration:")
    for name, values in sides.items():
        print(f"  {name:7} {told(values)}")
    print(f"  masks   {told(shares)} % of an iteration with a schema")
    print(f"compiling the schema: {first:.1f} ms with the tokenizer's index, {later:.2f} ms later")


if __name__ == "__main__":
    main()
