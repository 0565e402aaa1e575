"""Executors' state of their requests: the sum of batches and results."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from orcinus.core.batch import Batch, BatchResult, Chunk, NewRequest
from orcinus.core.request import Failure
from orcinus.core.sampling_params import SamplingParams


class TokenMatcher(Protocol):
    """Follows a request's output, and says which tokens may come next."""

    @property
    def failure(self) -> Failure | None:
        """Why the matcher gave up, if it did."""
        ...

    def bitmask(self, tokens: Sequence[int], prompt_length: int) -> bytes | None:
        """Tokens that may follow `tokens`: bit t of the bytes is token t.

        The tokens begin with the prompt, and only grow from call to call. None: every token.
        """
        ...


class TokenCounts:
    """Counts of each token: over all tokens, and over the output alone.

    Only new tokens are counted in each call.
    """

    __slots__ = ("_counted", "_places", "generated", "ids")

    def __init__(self) -> None:
        self.ids = array("q")  # distinct tokens of prompt and output
        self.generated = array("q")  # how often each of them occurs in the output
        self._places: dict[int, int] = {}
        self._counted = 0

    def catch_up(self, tokens: array[int], prompt_length: int) -> None:
        """Count the tokens added since the last call."""
        for position in range(self._counted, len(tokens)):
            token = tokens[position]
            place = self._places.setdefault(token, len(self.ids))
            if place == len(self.ids):
                self.ids.append(token)
                self.generated.append(0)
            self.generated[place] += position >= prompt_length
        self._counted = len(tokens)


@dataclass(slots=True)
class RequestState:
    """An executor's state of one request."""

    prompt_length: int
    params: SamplingParams
    tokens: array[int]  # prompt and output, as far as results were collected
    blocks: tuple[array[int], ...]  # block table per group of layers: position p lies in blocks[group][p // block_size]
    adapter: str = ""  # the LoRA adapter that answers; "" = the model alone
    matcher: TokenMatcher | None = field(default=None, compare=False)  # of its grammar and its thinking budget
    unadjusted_greedy: bool = field(init=False, compare=False)  # that of its parameters, found once
    _counts: TokenCounts | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        self.unadjusted_greedy = self.params.unadjusted_greedy

    @classmethod
    def of(cls, new: NewRequest) -> RequestState:
        tokens = array("q", new.prompt)
        tokens.extend(new.output)
        return cls(len(new.prompt), new.params, tokens, tuple(array("i", table) for table in new.blocks), new.context.lora)

    @property
    def counts(self) -> TokenCounts:
        """Token counts for penalties; each token is counted once."""
        if self._counts is None:
            self._counts = TokenCounts()
        self._counts.catch_up(self.tokens, self.prompt_length)
        return self._counts

    def scored(self, chunk: Chunk) -> tuple[int, ...]:
        """The prompt tokens that a chunk's rows predict, to be scored.

        Empty if the request asks for no prompt log-probabilities.
        """
        if self.params.prompt_logprobs is None:
            return ()
        return tuple(self.tokens[chunk.start + 1 : min(chunk.end + 1, self.prompt_length)])


class RequestStates(dict[str, RequestState]):
    """The requests that an executor knows, by id.

    Derived state: equal to a rebuild from the engine's requests.
    """

    def apply(self, batch: Batch) -> None:
        """Apply a batch's `removed`, `new` and new blocks, in this order.

        Call it once for each batch.
        """
        for request_id in batch.removed:
            del self[request_id]
        for new in batch.new:
            self[new.request_id] = RequestState.of(new)
        for chunk in batch.chunks:
            if chunk.new_blocks:
                for table, blocks in zip(self[chunk.request_id].blocks, chunk.new_blocks, strict=True):
                    table.extend(blocks)

    def receive(self, batch: Batch, result: BatchResult) -> None:
        """Append the tokens of a result; call it in the batches' order."""
        for chunk, tokens in zip(batch.chunks, result.tokens, strict=True):
            self[chunk.request_id].tokens.extend(tokens)


class Row(NamedTuple):
    """One token to sample: its request, and how many tokens precede it."""

    request: RequestState
    position: int  # number of tokens before it: known ones and drafts

    @property
    def params(self) -> SamplingParams:
        return self.request.params

    @property
    def banned(self) -> set[int]:
        """Tokens that must not be sampled."""
        return self.params.banned(self.position - self.request.prompt_length, self.request.tokens)


def rows_to_draw(requests: Iterable[RequestState], ends: Iterable[int], drafts: Iterable[int | None]) -> list[Row]:
    """The rows of chunks whose logits are needed, given each chunk's request, end and drafts.

    There is one after each draft, and one after the last known token.
    """
    rows: list[Row] = []
    for request, end, guesses in zip(requests, ends, drafts, strict=True):
        if guesses == 0:
            rows.append(Row(request, end))
        elif guesses is not None:
            rows += [Row(request, end - left) for left in range(guesses, -1, -1)]
    return rows


def accepted(chunk: Chunk, drawn: tuple[int, ...]) -> tuple[int, ...]:
    """The sampled tokens up to the first that differs from its draft.

    Each was sampled with the random number of its own position, so the accepted tokens are those that one decode at a time
    would have sampled ("Fast Inference from Transformers via Speculative Decoding", ICML 2023, with equal draws instead of
    equal odds).
    """
    if not chunk.drafts:
        return drawn[:1]
    drafts = chunk.tokens[len(chunk.tokens) - chunk.drafts :]
    pairs = enumerate(zip(drafts, drawn, strict=False))  # nothing is sampled after a failed row
    right = next((place for place, (draft, token) in pairs if token != draft), len(drafts))
    return drawn[: right + 1]
