"""The profile run: the largest iterations, run to measure their memory.

    memory of a GPU    weights | working memory, measured here | keys and values: all that is left | margin

No estimate knows what kernels and allocators really take. Keys and values need no memory for this: all block tables repeat
one block, so that every context is as long as it can be over a K/V memory of one block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from orcinus.core.batch import Batch, Chunk, NewRequest
from orcinus.core.executor_state import RequestStates, Row, rows_to_draw
from orcinus.core.request import NO_CONTEXT
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.view import Limits
from orcinus.runtime import kv_cache
from orcinus.runtime.batch_columns import BatchColumns
from orcinus.runtime.executor import SCORED_AT_ONCE, Eager
from orcinus.runtime.input_batch import Inputs
from orcinus.runtime.models import Decoder
from orcinus.runtime.pack import shape_of
from orcinus.runtime.transfers import Link

PARAMS = SamplingParams(seed=0, top_p=0.9, prompt_logprobs=0)  # sorted logits and states of all rows need the most memory


class Meter(Protocol):
    """Measures the bytes that work takes."""

    def start(self) -> None:
        """Begin to measure; bytes in use now do not count."""
        ...

    def peak(self) -> int:
        """Peak bytes in use since `start`, beyond those in use then."""
        ...


class CudaMeter:
    """Measures with torch's allocator."""

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
    choose: Callable[[Tensor, Sequence[Row]], object],
    meter: Meter,
) -> int:
    """Peak bytes of the largest iterations, besides weights, keys and values.

    `choose` makes tokens of logits `[requests, vocab_size]` in the model's dtype. Raises `torch.OutOfMemoryError`.
    """
    kv = kv_cache.allocate(len(model.stage), 1, model.num_kv_heads, block_size, model.spec.head_dim, dtype, device)
    meter.start()
    run = Eager(model, kv, Inputs(Link(device), block_size))
    for batch in largest_batches(limits, block_size):
        _try(run, batch, choose)
    return meter.peak()


def largest_batches(limits: Limits, block_size: int) -> list[Batch]:
    """The largest batches: all tokens, each request at the longest context.

    Backends differ in their worst case: prompts as long as possible; the same with as many decodes and rows to sample as
    possible; or as many pieces of prompts as possible, each with its own context.
    """
    tokens, longest = min(limits.max_batch_tokens, limits.max_batch_size * limits.max_model_len), limits.max_model_len
    most = min(limits.max_batch_size, tokens)
    pieces = min(most, max(tokens // 2, -(-tokens // longest)))
    counts = [_long_first(tokens, -(-tokens // longest), longest), _long_first(tokens, most, longest), _alike(tokens, pieces)]
    return [_batch(one, longest, block_size) for one in dict.fromkeys(counts)]


def _long_first(tokens: int, requests: int, longest: int) -> tuple[int, ...]:
    """Tokens per request: the first as many as possible, others one."""
    counts, spare = [], tokens - requests
    for _ in range(requests):
        more = min(spare, longest - 1)
        spare -= more
        counts.append(1 + more)
    return tuple(counts)


def _alike(tokens: int, requests: int) -> tuple[int, ...]:
    """Tokens per request, as equal as possible."""
    least, more = divmod(tokens, requests)
    return (least + 1,) * more + (least,) * (requests - more)


def _batch(counts: Sequence[int], longest: int, block_size: int) -> Batch:
    table, prompt = (0,) * -(-longest // block_size), (0,) * longest
    chunks = [Chunk(str(row), (0,) * count, longest - count) for row, count in enumerate(counts)]
    new = [NewRequest(chunk.request_id, prompt, (), PARAMS, NO_CONTEXT, (table,)) for chunk in chunks]
    return Batch(0, tuple(chunks), tuple(new))


@torch.inference_mode()
def _try(run: Eager, batch: Batch, choose: Callable[[Tensor, Sequence[Row]], object]) -> None:
    requests = RequestStates()
    requests.apply(batch)
    columns = BatchColumns.of(batch, requests)
    ran = run(columns, shape_of(columns), None)
    if not run.model.place.last:
        return
    rows = rows_to_draw(columns.requests, columns.ends, columns.drafts)
    choose(run.model.logits(ran.sampled(len(rows))), rows)
    run.model.logits(ran.hidden[:SCORED_AT_ONCE]).float().log_softmax(dim=-1)  # a prompt that is scored
