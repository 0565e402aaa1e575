"""Hidden states of some rows alone: those that all rows would have there, and the same keys and values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from orcinus import LLM, SamplingParams
from orcinus.runtime.attention import ATTENTION, Heads
from orcinus.runtime.checkpoint import load_model, open_checkpoint
from orcinus.runtime.device import Device
from orcinus.runtime.kv_cache import LayerKV, allocate
from orcinus.runtime.models import Decoder
from orcinus.runtime.operators import PLAIN
from orcinus.runtime.pack import PackedBatch, pack
from orcinus.runtime.panel_weights import can_use_panels
from tests.product import part
from tests.seam import Part, batch_of

Made = Callable[[str], tuple[Any, Path]]
CPU, BLOCK = torch.device("cpu"), 8
PARTS = (
    Part("decode", (5,), 20, (0, 7, 2)),
    Part("prompt", (1, 2, 3, 4, 5), 6, (3, 4)),
    Part("first half", tuple(range(9)), 0, (5, 6), samples=False),
    Part("whole", tuple(range(30, 41)), 0, (8, 9)),
)
SAMPLED = [0, 5, 25]


def filled(layers: int, kv_heads: int, dim: int, dtype: torch.dtype) -> tuple[LayerKV, ...]:
    torch.manual_seed(1)
    kv = allocate(layers, 10, kv_heads, BLOCK, dim, dtype, CPU)
    for each in kv:
        each.keys.normal_()
        each.values.normal_()
    return kv


@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize("window", [None, 7])
def test_attention_of_some_rows(name: str, window: int | None) -> None:
    """Rows of decodes and of chunks, in any order; keys and values of all are written."""
    torch.manual_seed(0)
    (batch,) = pack(*batch_of(PARTS), BLOCK)
    heads, qkv = Heads(6, 2, 20, 0.2, window), torch.randn(26, 10 * 20)
    (of_all,), (of_some,) = filled(1, 2, 20, torch.float32), filled(1, 2, 20, torch.float32)
    rows = torch.tensor([12, 0, 25, 3], dtype=torch.int32)
    expected = ATTENTION[name]()(qkv.clone(), None, of_all, batch, heads)[rows]
    assert torch.equal(ATTENTION[name]()(qkv.clone(), None, of_some, batch, heads, rows), expected)
    assert torch.equal(of_some.keys, of_all.keys)
    assert torch.equal(of_some.values, of_all.values)


def states(
    model: Decoder, batch: tuple[PackedBatch, ...], rows: torch.Tensor | None
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    kv = filled(model.spec.num_layers, model.num_kv_heads, model.spec.head_dim, model.dtype)
    with torch.inference_mode():
        return model(batch, kv, None, rows), [tensor for each in kv for tensor in (each.keys, each.values)]


@pytest.mark.parametrize(
    "name",
    part("qwen3", full=["gpt2", "gemma2", "olmo2", "cohere2", "mistral-sliding-window", "qwen2-moe"]),
)  # pre-norm; learned positions; sandwich; norms of outputs; parallel; windows; experts
def test_a_decoder_of_some_rows(checkpoint: Made, name: str) -> None:
    model = load_model(open_checkpoint(checkpoint(name)[1]), Device(CPU, torch.float32, "asked for"), ATTENTION["cpu"](), PLAIN)
    batch = pack(*batch_of(PARTS), BLOCK)
    assert batch[0].sample_rows.tolist() == SAMPLED
    whole, expected = states(model, batch, None)
    found, written = states(model, batch, batch[0].sample_rows)
    torch.testing.assert_close(found, whole[SAMPLED], rtol=1e-5, atol=1e-5)
    assert all(map(torch.equal, written, expected))


@pytest.mark.skipif(not can_use_panels("cpu", torch.float32), reason="oneDNN's bits depend on the number of rows")
def test_log_probabilities_of_prompts_change_no_bit_of_a_token() -> None:
    """They need the states of all rows; without them the last layer computes one row of a prompt."""
    llm, prompt = LLM(max_batch_size=2, max_model_len=128), list(range(5, 40))
    found = []
    for scored in (None, 0):
        (output,) = llm.generate([prompt], SamplingParams(max_tokens=3, temperature=0, logprobs=0, prompt_logprobs=scored))
        found.append((output.token_ids, output.logprobs))
    assert found[0] == found[1]
