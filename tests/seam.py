"""Batches and rows as executors meet them, written down in a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from orcinus.core.batch import Batch, Chunk, NewRequest
from orcinus.core.executor_state import RequestState, RequestStates, Row
from orcinus.core.request import NO_CONTEXT
from orcinus.core.sampling_params import SamplingParams

PLAIN = SamplingParams(max_tokens=99, seed=0)


class Part(NamedTuple):
    """A chunk together with what an executor must know of its request."""

    name: str
    tokens: tuple[int, ...]
    start: int
    table: tuple[int, ...]
    samples: bool = True


def batch_of(parts: Sequence[Part], number: int = 1, params: SamplingParams = PLAIN) -> tuple[Batch, RequestStates]:
    """A batch in which all requests are new, and the state that it leads to."""
    chunks = [Chunk(part.name, part.tokens, part.start, drafts=0 if part.samples else None) for part in parts]
    prompts = [(0,) * part.start + part.tokens for part in parts]
    new = [
        NewRequest(part.name, prompt, (), params, NO_CONTEXT, (part.table,))
        for part, prompt in zip(parts, prompts, strict=True)
    ]
    batch, states = Batch(number, tuple(chunks), tuple(new)), RequestStates()
    states.apply(batch)
    return batch, states


def row(history: Sequence[int], prompt_length: int, params: SamplingParams, position: int | None = None) -> Row:
    """The next token of a request with this history; `position` if it is to be drawn for another one."""
    prompt, output = tuple(history[:prompt_length]), tuple(history[prompt_length:])
    state = RequestState.of(NewRequest("r", prompt, output, params, NO_CONTEXT, ((0,),)))
    return Row(state, len(history) if position is None else position)
