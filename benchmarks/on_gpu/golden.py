"""Greedy texts in float32 on the device and on the CPU, and where they part.

Two machines add in another order, so that a text may part where two tokens are almost equally likely: the gap of their
logits says whether it was that. A wrong kernel parts at gaps that no rounding explains.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import transformers

from on_gpu.bench import Bench
from on_gpu.engines import release
from on_gpu.geometry import TOY_LLAMA, Geometry
from orcinus.build import build
from orcinus.config import EngineConfig
from orcinus.core.batch import Token
from orcinus.core.request import Logprobs, Request
from orcinus.core.sampling_params import SamplingParams

SMALL = replace(TOY_LLAMA, name="random Llama", layers=4, hidden=256, heads=8, kv_heads=2, head_dim=32, ffn=512, vocab=2000)
POSITIONS = 512
BORDER = 1e-3  # of logits: float32 may see a smaller gap the other way round
Answers = list[list[tuple[int, Logprobs | None]]]


def run(bench: Bench) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(SMALL, Path(folder))
        for name, model in (("bundled model", None), (SMALL.name, Path(folder))):
            compare(bench, name, model)


def compare(bench: Bench, name: str, model: Path | None) -> None:
    """A row for each prompt."""
    asked = prompts(bench)
    wanted = answers(bench, model, asked, device="cpu", attention="reference", top=2)
    found = answers(bench, model, asked, device=str(bench.device), attention="auto", top=None, tp=bench.tp)
    for prompt, truth, ours in zip(asked, wanted, found, strict=True):
        tokens = [token for token, _ in truth], [token for token, _ in ours]
        pairs = enumerate(zip(*tokens, strict=False))
        first = next((at for at, (one, other) in pairs if one != other), None)
        if first is None and len(truth) != len(ours):
            first = min(len(truth), len(ours)) - 1
        gap = None if first is None else gap_of(truth[first][1])
        cells = {"equal": first is None, "parts_at": first, "gap_of_logits": gap}
        bench.row(
            "texts", model=name, prompt=len(prompt), tokens=len(truth), **cells, a_tie=None if gap is None else gap < BORDER
        )


def gap_of(likely: Logprobs | None) -> float | None:
    """Between the two likeliest tokens."""
    return None if likely is None or len(likely.top) < 2 else likely.top[0][1] - likely.top[1][1]


def prompts(bench: Bench) -> list[tuple[int, ...]]:
    draw = random.Random(0)
    return [tuple(draw.randrange(5, 1000) for _ in range(length)) for length in bench.sizes.golden_prompts]


def answers(
    bench: Bench,
    model: Path | None,
    asked: Sequence[tuple[int, ...]],
    *,
    device: str,
    attention: str,
    top: int | None,
    tp: int = 1,
) -> Answers:
    """Greedy tokens of all prompts, served together, with `top` log-probabilities."""
    release(bench)
    config = {
        "model": model,
        "device": device,
        "dtype": "float32",
        "attention": attention,
        "max_model_len": POSITIONS,
        "tp": tp,
    }
    built = build(
        EngineConfig.from_options(**config, max_batch_size=len(asked), kv="paged", policy="stall-free:token_budget=64")
    )
    params = SamplingParams(temperature=0, max_tokens=bench.sizes.golden_tokens, ignore_eos=True, logprobs=top, seed=0)
    given: Answers = [[] for _ in asked]
    for number, prompt in enumerate(asked):
        built.engine.submit(Request(str(number), prompt, params, built.engine.clock.now()))
    while not built.engine.idle:
        for event in built.engine.step():
            if isinstance(event, Token):
                given[int(event.request_id)].append((event.token, event.logprobs))
    built.engine.close()
    return given


def write(model: Geometry, folder: Path) -> None:
    """Write a checkpoint with random weights that do not repeat one token."""
    config = transformers.AutoConfig.from_pretrained(model.write(folder, POSITIONS, "float32"))
    torch.manual_seed(0)
    made = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for weight in made.parameters():
            if weight.dim() > 1:
                weight.normal_(std=weight.shape[1] ** -0.5)
    made.save_pretrained(folder)
