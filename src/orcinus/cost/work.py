"""The work of an iteration in numbers, and the cost models' protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from orcinus.core.batch import Batch


class IterationWork(NamedTuple):
    """One iteration's work; a chunk of one token counts as a decode."""

    tokens: int
    requests: int
    decodes: int
    context: int  # tokens that all decodes together attend to
    prompts: tuple[tuple[int, int], ...]  # (start, tokens) of every longer chunk
    samples: int  # rows whose logits are computed
    contexts: tuple[int, ...] = ()  # tokens that each decode attended to at first, if known
    later: int = 0  # iterations since then
    paused: bool = False  # before it the engine had nothing to do

    def repeated(self, times: int) -> IterationWork:
        """The work of the same decodes, this many iterations later."""
        tokens, requests, decodes, context, prompts, samples, contexts, later, _ = self
        context += times * decodes
        return _work_of_all((tokens, requests, decodes, context, prompts, samples, contexts, later + times, False))

    def decoding(self) -> IterationWork:
        """The same requests as decodes that attend to what they know now; the next iteration is `repeated(1)` of it."""
        contexts = (*self.contexts, *(start + tokens for start, tokens in self.prompts))
        count = self.requests
        return IterationWork(count, count, count, sum(contexts), (), count, contexts)

    def attended(self, window: int | None) -> int:
        """Tokens that the decodes attend to within `window`, in total."""
        if window is None:
            return self.context
        if not self.contexts:
            return min(self.context, self.decodes * window)
        reach = window - self.later
        return self.context - sum([context - reach for context in self.contexts if context > reach])


_work_of_all: Callable[[Iterable[Any]], IterationWork] = partial(tuple.__new__, IterationWork)  # like `batch.chunk_of`


def work_of(batch: Batch) -> IterationWork:
    """The work of a batch."""
    return work_of_chunks([(chunk.start, len(chunk.tokens), chunk.drafts is not None) for chunk in batch.chunks])


def work_of_chunks(chunks: Iterable[tuple[int, int, bool]]) -> IterationWork:
    """The work of chunks (start, tokens, whether it samples)."""
    total = requests = samples = 0
    contexts, prompts = [], []
    for start, tokens, sampling in chunks:
        requests += 1
        total += tokens
        samples += sampling
        if tokens == 1:
            contexts.append(start + 1)
        else:
            prompts.append((start, tokens))
    return IterationWork(total, requests, len(contexts), sum(contexts), tuple(prompts), samples, tuple(contexts))


class CostModel(Protocol):
    """How long every pipeline stage is busy with an iteration."""

    @property
    def num_stages(self) -> int: ...

    def stages(self, work: IterationWork) -> Sequence[float]:
        """Seconds in each pipeline stage, in order.

        They include the time to send activations to the next stage.
        """
        ...


class FixedCost:
    """A constant time per iteration.

    For tests, and for measuring the simulator itself.
    """

    def __init__(self, seconds: float, num_stages: int = 1) -> None:
        self.num_stages = num_stages
        self._stages = (seconds,) * num_stages

    def stages(self, work: IterationWork) -> Sequence[float]:
        return self._stages
