"""The executor that runs a real model on one device."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from orcinus.core.batch import Batch, BatchResult, Chunk
from orcinus.core.request import Logprobs, SamplingParams
from orcinus.runtime.device import Device
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.models import Decoder
from orcinus.runtime.pack import PackedBatch, Packer, shape_of
from orcinus.runtime.sampling import Sampled, logprobs_of, sample

SCORED_AT_ONCE = 128  # rows of logits, so that a long prompt's do not fill the memory
log = logging.getLogger(__name__)


class TorchExecutor:
    """Runs one batch at a time, in the thread that collects it.

    A batch that raises fails its own requests and nothing else: the engine goes on with the next one. If collecting is
    interrupted (Ctrl-C), the batch stays the oldest in flight and runs again, writing the same keys to the same blocks.
    """

    depth = 1
    chains = False

    def __init__(self, model: Decoder, kv: Sequence[LayerKV], device: Device) -> None:
        self.model, self.kv, self.device = model, kv, device
        self.packer = Packer(kv[0].keys.shape[2])
        self._queue: deque[Batch] = deque()

    def warm_up(self) -> None:
        """Run a prompt and a decode, so that kernels are compiled before the first request comes.

        They write keys into the first blocks, which whoever is given those blocks overwrites.
        """
        num_blocks, _, block_size, _ = self.kv[0].keys.shape
        params = SamplingParams(temperature=0)
        for count in (1, 2):
            table = tuple(range(-(-count // block_size)))
            if len(table) <= num_blocks:
                self._run(Batch(0, (Chunk("warm-up", (0,) * count, 0, table, True, params),)))

    def submit(self, batch: Batch) -> None:
        self._queue.append(batch)

    def collect(self) -> BatchResult:
        batch = self._queue[0]
        try:
            result = self._run(batch)
        except Exception as error:
            log.debug("batch %d failed", batch.id, exc_info=True)
            reason = f"the iteration failed: {' '.join([type(error).__name__, *str(error).splitlines()[:1]])}"
            result = BatchResult(batch.id, ((),) * len(batch.chunks), errors=dict.fromkeys(range(len(batch.chunks)), reason))
        self._queue.popleft()
        return result

    def close(self) -> None:
        self._queue.clear()

    @torch.inference_mode()
    def _run(self, batch: Batch) -> BatchResult:
        shape = shape_of(batch)
        words = torch.empty(shape.words, dtype=torch.int32)
        firsts = self.packer.fill(words.numpy(), batch, shape)
        packed = PackedBatch.over(words.to(self.device.device), shape)
        hidden = self.model(packed, self.kv)
        logits = self.model.logits(hidden[packed.sample_rows]).float()
        sampled = sample(logits, [chunk for chunk in batch.chunks if chunk.samples])
        return _result(batch, sampled, self._score_prompts(batch, firsts, hidden))

    def _score_prompts(self, batch: Batch, firsts: Sequence[int], hidden: Tensor) -> dict[int, tuple[Logprobs, ...]]:
        """How likely each prompt token was after those before it, for requests that want to know."""
        found = {}
        for row, (chunk, first) in enumerate(zip(batch.chunks, firsts, strict=True)):
            if chunk.scored:
                nexts = chunk.history[chunk.start + 1 : chunk.start + 1 + chunk.scored]
                scores: list[Logprobs] = []
                for at in range(0, chunk.scored, SCORED_AT_ONCE):
                    some = nexts[at : at + SCORED_AT_ONCE]
                    logits = self.model.logits(hidden[first + at : first + at + len(some)]).float()
                    scores += logprobs_of(logits.log_softmax(dim=-1), some, chunk.params.prompt_logprobs or 0)
                found[row] = tuple(scores)
        return found


def _result(batch: Batch, sampled: Sampled, prompts: dict[int, tuple[Logprobs, ...]]) -> BatchResult:
    """Spread the sampled rows over all chunks of the batch, those that do not sample included."""
    rows = [row for row, chunk in enumerate(batch.chunks) if chunk.samples]
    tokens: list[tuple[int, ...]] = [()] * len(batch.chunks)
    logprobs: list[tuple[Logprobs, ...]] = [()] * len(batch.chunks)
    for row, token, asked in zip(rows, sampled.tokens, sampled.logprobs, strict=True):
        tokens[row] = (token,)
        logprobs[row] = (asked,) if asked else ()
    errors = {rows[index]: reason for index, reason in sampled.errors.items()}
    return BatchResult(batch.id, tuple(tokens), tuple(logprobs) if any(logprobs) else None, prompts, errors)
