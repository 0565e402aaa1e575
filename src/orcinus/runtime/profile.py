"""Iterations as large as the limits allow, run to see what they work with (as vLLM's profile run does).

    memory of a GPU    weights | working memory, measured here | keys and values: all that is left | margin

No estimate knows what kernels and allocators really take. Keys and values need no memory for this: all block tables repeat
one block, so that every context is as long as it can be over a K/V memory of one block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from orcinus.core.batch import Batch, Chunk
from orcinus.core.request import SamplingParams
from orcinus.core.view import Limits
from orcinus.runtime import kv_cache
from orcinus.runtime.executor import SCORED_AT_ONCE
from orcinus.runtime.models import Decoder
from orcinus.runtime.pack import PackedBatch, Packer, shape_of

PARAMS = SamplingParams(seed=0, top_p=0.9)  # what needs the most memory: sorted logits


class Meter(Protocol):
    """Tells how many bytes work took."""

    def start(self) -> None:
        """What is in use now does not count."""
        ...

    def peak(self) -> int:
        """The most bytes that were in use at once since the start, beyond those that were in use then."""
        ...


class CudaMeter:
    """Asks torch's allocator."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._before = 0

    def start(self) -> None:
        torch.cuda.synchronize(self.device)
        torch.cuda.empty_cache()  # what loading left behind
        torch.cuda.reset_peak_memory_stats(self.device)
        self._before = torch.cuda.memory_allocated(self.device)

    def peak(self) -> int:
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device) - self._before


def profile(
    model: Decoder,
    dtype: torch.dtype,
    device: torch.device,
    block_size: int,
    limits: Limits,
    choose: Callable[[Tensor, Sequence[Chunk]], object],
    meter: Meter,
) -> int:
    """Bytes that the largest iterations of the limits work with, besides weights, keys and values.

    `choose` is what makes tokens of logits `[requests, vocab_size]`, in the model's dtype. Raises `torch.OutOfMemoryError`.
    """
    spec = model.spec
    kv = kv_cache.allocate(spec.num_layers, 1, spec.num_kv_heads, block_size, spec.head_dim, dtype, device)
    meter.start()
    for requests in fewest_and_most(limits):
        _run(model, kv, largest_batch(limits, requests, block_size), device, block_size, choose)
    return meter.peak()


def fewest_and_most(limits: Limits) -> list[int]:
    """Requests that the largest number of tokens can belong to: long prompts need most in attention, many rows in sampling."""
    most = min(limits.max_batch_size, limits.max_batch_tokens)
    return sorted({min(most, -(-limits.max_batch_tokens // limits.max_model_len)), most})


def largest_batch(limits: Limits, requests: int, block_size: int) -> Batch:
    """As many tokens of so many requests as the limits allow, each at the end of the longest context there may be.

    The first requests bring all they can, the others a token each: chunks that are as long as possible, and decodes.
    """
    table = (0,) * -(-limits.max_model_len // block_size)
    chunks, spare = [], min(limits.max_batch_tokens, requests * limits.max_model_len) - requests
    for number in range(requests):
        more = min(spare, limits.max_model_len - 1)
        spare -= more
        chunks.append(Chunk(f"profile-{number}", (0,) * (1 + more), limits.max_model_len - 1 - more, table, True, PARAMS))
    return Batch(0, tuple(chunks))


@torch.inference_mode()
def _run(
    model: Decoder,
    kv: Sequence[kv_cache.LayerKV],
    batch: Batch,
    device: torch.device,
    block_size: int,
    choose: Callable[[Tensor, Sequence[Chunk]], object],
) -> None:
    shape = shape_of(batch)
    words = torch.empty(shape.words, dtype=torch.int32)
    Packer(block_size).fill(words.numpy(), batch, shape)
    packed = PackedBatch.over(words.to(device), shape)
    hidden = model(packed, kv)
    choose(model.logits(hidden[packed.sample_rows]), batch.chunks)
    model.logits(hidden[:SCORED_AT_ONCE]).float().log_softmax(dim=-1)  # a prompt that is scored
