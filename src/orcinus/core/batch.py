"""What crosses the seam: a Batch goes to the executor, a BatchResult comes back, and the world hears events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orcinus.core.request import Finish, SamplingParams


@dataclass(frozen=True, slots=True)
class Chunk:
    """One request's share of an iteration: run `tokens` from position `start`. A decode is a chunk of one token."""

    request_id: str
    tokens: tuple[int, ...]
    start: int  # position of the first token = tokens whose keys and values are already in memory
    blocks: tuple[int, ...]  # K/V block table: position p lies in blocks[p // block_size]
    samples: bool  # whether the last token's logits choose the next token (false in the middle of a prompt)
    params: SamplingParams
    history: tuple[int, ...] = ()  # every known token, given only if params.penalised
    prompt_length: int = 0  # how many of the known tokens are the prompt

    @property
    def end(self) -> int:
        """Position after the last token = the length of the sequence it attends to."""
        return self.start + len(self.tokens)


@dataclass(frozen=True, slots=True)
class Batch:
    """One iteration: the chunks whose tokens run as one flat batch."""

    id: int
    chunks: tuple[Chunk, ...]

    @property
    def num_tokens(self) -> int:
        return sum(len(chunk.tokens) for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Log-probabilities at one position, of the model's own distribution (before penalties and temperature)."""

    logprob: float  # of the chosen token
    rank: int  # of the chosen token; 1 = the most likely
    top: tuple[tuple[int, float], ...]  # (token id, log-probability), the most likely first


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What an executor returns for a batch, row by row in the order of its chunks."""

    batch_id: int
    tokens: tuple[tuple[int, ...], ...]  # () for a chunk that does not sample; more than one if speculative
    logprobs: tuple[tuple[Logprobs, ...], ...] | None = None  # shaped like `tokens`; None if nobody asked
    errors: Mapping[int, str] = field(default_factory=dict)  # row -> why this request failed


@dataclass(frozen=True, slots=True)
class Submitted:
    """A request entered the engine."""

    request_id: str
    prompt: tuple[int, ...]
    params: SamplingParams
    at: float


@dataclass(frozen=True, slots=True)
class Token:
    """A request was given one more token."""

    request_id: str
    token: int
    at: float
    logprobs: Logprobs | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """A request ended; nothing follows. `error` says why, if it was rejected or failed."""

    request_id: str
    reason: Finish
    at: float
    error: str | None = None


Event = Token | Finished
