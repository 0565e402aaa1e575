"""Every architecture gives what transformers gives: greedy tokens and logits, whatever else is in the batch."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from orcinus import LLM, SamplingParams
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.policies import POLICIES
from tests.checkpoints import BASE, MECHANISMS, MIXED, MIXTURES, MOST_DIFFERENT, OTHERS, REST, random_model, save
from tests.product import in_turn, part

Made = Callable[[str], tuple[Any, Path]]
TOKENS = 16


def ragged_prompts(seed: int = 0, count: int = 6) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(97) for _ in range(rng.choice([1, 2, 7, 18, 33]))] for _ in range(count)]


def generated(model: Any, prompt: list[int], tokens: int = TOKENS) -> list[int]:
    ids = torch.tensor([prompt])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False)
    answer: list[int] = out[0, len(prompt) :].tolist()
    return answer


@pytest.fixture(scope="module")
def expected(checkpoint: Made) -> Callable[[str], list[list[int]]]:
    """transformers' greedy tokens for the ragged prompts, computed once per architecture."""
    known: dict[str, list[list[int]]] = {}

    def answers(name: str) -> list[list[int]]:
        if name not in known:
            known[name] = [generated(checkpoint(name)[0], prompt) for prompt in ragged_prompts()]
        return known[name]

    return answers


SERVED = part(
    *in_turn(MOST_DIFFERENT, POLICIES, KV_MANAGERS),
    full=[
        *itertools.product(OTHERS, POLICIES, KV_MANAGERS),
        *itertools.product(MECHANISMS, ["orca", "sarathi"], KV_MANAGERS),
        *itertools.product((*REST, MIXED, *MIXTURES), ["orca"], ["paged"]),
    ],
)


@pytest.mark.parametrize(("name", "policy", "kv"), SERVED)
def test_greedy_tokens_equal_transformers(
    name: str, policy: str, kv: str, checkpoint: Made, expected: Callable[[str], list[list[int]]]
) -> None:
    """Six ragged prompts, three in a batch, and so few blocks that the paged manager must preempt."""
    blocks = {"max-length": 14, "reservation": 12, "buddy": 16, "paged": 7, "prefix-cache": 7}[kv]
    with LLM(
        checkpoint(name)[1],
        policy=policy,
        kv=kv,
        max_batch_size=3,
        num_blocks=blocks,
        block_size=8,
        max_model_len=56,
        dtype="float32",
    ) as llm:
        outputs = llm.generate(ragged_prompts(), SamplingParams(max_tokens=TOKENS, temperature=0))
        assert [list(output.token_ids) for output in outputs] == expected(name)
        assert llm.engine.scheduler.kv.num_free == blocks
        if kv in ("paged", "prefix-cache") and policy == "orca":
            assert llm.engine.scheduler.admission.preemptions > 0


# The kernel of the CPU is compiled for each geometry, so here it meets the most different ones alone.
SCORED = part(
    *itertools.product((*MOST_DIFFERENT, *MECHANISMS, MIXED), ["cpu"]),
    *itertools.product(OTHERS, ["reference"]),
    full=[
        *itertools.product((*MOST_DIFFERENT, *MECHANISMS, MIXED, *REST, *MIXTURES), ["reference"]),
        *itertools.product((*OTHERS, *REST, *MIXTURES), ["cpu"]),
    ],
)


@pytest.mark.parametrize(("name", "attention"), SCORED)
def test_log_probabilities_equal_transformers_within_1e_4(name: str, attention: str, checkpoint: Made) -> None:
    """All 97 of them at every generated position: as close as the logits are, up to their common constant."""
    model, folder = checkpoint(name)
    with LLM(folder, attention=attention, kv="paged", num_blocks=14, block_size=8, max_model_len=60, max_batch_size=4) as llm:
        outputs = llm.generate(ragged_prompts(1), SamplingParams(max_tokens=TOKENS, temperature=0, logprobs=97))
    for output in outputs:
        ids = torch.tensor([[*output.prompt_token_ids, *output.token_ids]])
        with torch.no_grad():
            theirs = model(ids).logits[0].log_softmax(-1)[len(output.prompt_token_ids) - 1 : -1]
        assert output.logprobs is not None
        ours = torch.empty_like(theirs)
        for row, position in zip(ours, output.logprobs, strict=True):
            tokens, values = zip(*position.top, strict=True)
            row[list(tokens)] = torch.tensor(values)
        assert (ours - theirs).abs().max() < 1e-4


@pytest.mark.parametrize("name", MOST_DIFFERENT)
@pytest.mark.parametrize("max_batch_tokens", [1, 5, 16])
def test_cutting_prompts_changes_no_token(
    name: str, max_batch_tokens: int, checkpoint: Made, expected: Callable[[str], list[list[int]]]
) -> None:
    """A chunk in the middle of a prompt attends to the chunks before it, windows included."""
    sizes = {"max_batch_size": 3, "max_batch_tokens": max_batch_tokens, "max_model_len": 60, "block_size": 8}
    with LLM(checkpoint(name)[1], **sizes) as llm:
        outputs = llm.generate(ragged_prompts(), SamplingParams(max_tokens=TOKENS, temperature=0))
    assert [list(output.token_ids) for output in outputs] == expected(name)


@pytest.mark.parametrize("attention", ["cpu", "reference"])
def test_bfloat16_follows_float32(attention: str, tmp_path: Path) -> None:
    """Rounded arithmetic gives log-probabilities close to the exact ones. The heads are those of the bundled model."""
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64}
    folder = save(random_model(hf.Qwen3Config(**BASE | heads)), tmp_path)
    prompts, params = ragged_prompts(2), SamplingParams(max_tokens=1, temperature=0, logprobs=97)
    rows = []
    for dtype in ("float32", "bfloat16"):
        with LLM(folder, dtype=dtype, attention=attention, max_model_len=64) as llm:
            outputs = llm.generate(prompts, params)
        rows.append(torch.tensor([[value for _, value in sorted((output.logprobs or ())[0].top)] for output in outputs]))
    assert (rows[0].exp() - rows[1].exp()).abs().max() < 0.05
