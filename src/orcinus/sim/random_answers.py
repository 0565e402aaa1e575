"""Made-up answers: random words, all with equal log-probabilities.

The n-th token of an answer is a hash of the prompt, the seed and n. A generator with state would make a text depend on its
batch, on chunking and on preemptions; a keyed counter hash does not (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011).
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from orcinus.core.batch import Batch, BatchResult, Chunk
from orcinus.core.component_spec import make
from orcinus.core.executor_state import RequestState, Row, accepted, rows_to_draw
from orcinus.core.request import NOTHING_ALLOWED, Failure, Logprobs
from orcinus.core.sampling_params import SamplingParams
from orcinus.errors import ConfigError
from orcinus.text.generation_config import end_of_text_ids
from orcinus.workload.lengths import make_lengths
from orcinus.workload.marginals import MARGINALS
from orcinus.workload.trace import Trace

WORD = re.compile("\u0120[a-z]{5,}")  # byte-level tokenizers write a blank so; shorter tokens are often halves of words
MARKS = {",": 0.08, ".": 0.06}  # and their share of all tokens
ABSOLUTE = 100.0  # the bias that forbids a token or allows no other
LENGTH = 2**63  # the draws from here on are for the length
AnswerLengths = Callable[[float, float], int]  # two uniform draws -> tokens


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The token ids of made-up answers."""

    words: tuple[int, ...]  # in the order of their ids; marks stand in it as often as they are to be drawn
    end: int  # ends a text
    size: int


@dataclass(frozen=True, slots=True)
class _Answer:
    key: bytes
    length: int | None  # tokens, the end of the text included; None = it does not end by itself


class AnswerGenerator:
    """Writes made-up answers; equal prompts and seeds give equal tokens.

    It respects these sampling parameters: those that say when to stop; temperature, because a greedy answer is the same for
    every seed; allowed tokens and bad words; a `logit_bias` of 100, which forces or forbids a token (smaller values do
    nothing); and penalties, under which no word comes twice. The others mean nothing in a random text.
    """

    def __init__(self, vocabulary: Vocabulary, lengths: AnswerLengths) -> None:
        self.vocabulary, self.lengths = vocabulary, lengths
        self._answers: dict[str, _Answer] = {}
        self._logprob = -math.log(vocabulary.size)

    def begin(self, request_id: str, prompt: Sequence[int], params: SamplingParams) -> None:
        """A request's first run, or the first after a preemption."""
        end = self.vocabulary.end
        key = _key(prompt, 0 if self._greedy(params) else params.seed or 0)
        length = None
        wanted = end in params.stop_token_ids and params.logit_bias.get(end, 0) > -ABSOLUTE
        if wanted and _allowed(params, end, params.banned(params.min_tokens)):
            length = max(self.lengths(_draw(key, LENGTH), _draw(key, LENGTH + 1)), params.min_tokens + 1)
        self._answers[request_id] = _Answer(key, length)

    def end(self, request_id: str) -> None:
        """The request ended or was preempted."""
        self._answers.pop(request_id, None)

    def write(self, batch: Batch, requests: Mapping[str, RequestState]) -> BatchResult:
        """The result of a batch."""
        tokens: list[tuple[int, ...]] = []
        logprobs: list[tuple[Logprobs, ...]] = []
        errors: dict[int, Failure] = {}
        for place, chunk in enumerate(batch.chunks):
            rows = rows_to_draw([requests[chunk.request_id]], [chunk.end], [chunk.drafts])
            drawn = tuple(self._token(chunk.request_id, row) for row in rows)
            known = tuple(token for token in drawn if token is not None)
            if len(known) < len(drawn):
                errors[place] = NOTHING_ALLOWED
            tokens.append(accepted(chunk, known) if rows and place not in errors else ())
            logprobs.append(self._logprobs(requests[chunk.request_id].params, tokens[-1]))
        prompts = {place: found for place, chunk in enumerate(batch.chunks) if (found := self._scored(chunk, requests))}
        return BatchResult(batch.id, tuple(tokens), tuple(logprobs) if any(logprobs) else None, prompts, errors)

    def _token(self, request_id: str, row: Row) -> int | None:
        """The next token, or None if every token is forbidden."""
        answer, index = self._answers[request_id], row.position - row.request.prompt_length
        if index + 1 == answer.length:
            return self.vocabulary.end
        choices = self._choices(row)
        return choices[int(_draw(answer.key, index) * len(choices))] if choices else None

    def _choices(self, row: Row) -> Sequence[int]:
        params, banned = row.params, row.banned
        forced = [token for token, bias in params.logit_bias.items() if bias >= ABSOLUTE and _allowed(params, token, banned)]
        words: Sequence[int] = params.allowed_token_ids or self.vocabulary.words
        if banned:
            words = [word for word in words if word not in banned]
        unwanted = {token for token, bias in params.logit_bias.items() if bias <= -ABSOLUTE}
        if max(params.presence_penalty, params.frequency_penalty, params.repetition_penalty - 1) > 0:
            unwanted |= set(row.request.tokens[row.request.prompt_length :])
        return forced or ([word for word in words if word not in unwanted] if unwanted else words) or words

    def _greedy(self, params: SamplingParams) -> bool:
        """Whether only one token remains to choose from."""
        return params.greedy or params.top_k == 1 or params.top_p * len(set(self.vocabulary.words)) <= 1

    def _logprobs(self, params: SamplingParams, tokens: tuple[int, ...]) -> tuple[Logprobs, ...]:
        count = params.logprobs
        return () if count is None else tuple(self._ignorant(token, count) for token in tokens)

    def _scored(self, chunk: Chunk, requests: Mapping[str, RequestState]) -> tuple[Logprobs, ...]:
        """Log-probabilities of the prompt's tokens after a chunk's."""
        request = requests[chunk.request_id]
        return tuple(self._ignorant(token, request.params.prompt_logprobs or 0) for token in request.scored(chunk))

    def _ignorant(self, token: int, count: int) -> Logprobs:
        """Log-probabilities under which every token is equally likely.

        The given token stands first.
        """
        others = (other for other in range(self.vocabulary.size) if other != token)
        top = [token, *(next(others) for _ in range(min(count, self.vocabulary.size) - 1))][:count]
        return Logprobs(self._logprob, 1, tuple((each, self._logprob) for each in top))


def read_vocabulary(folder: Path) -> Vocabulary:
    """The words and marks of a byte-level `tokenizer.json`."""
    known: dict[str, int] = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    words = sorted(number for token, number in known.items() if WORD.fullmatch(token))
    weights = len(words) / (1 - sum(MARKS.values()))
    marks = [known[mark] for mark, share in MARKS.items() for _ in range(round(share * weights))]
    return Vocabulary((*words, *marks), min(end_of_text_ids(folder)), len(known))


def answer_lengths(spelled: str) -> AnswerLengths:
    """Lengths of answers: a preset's, or one distribution. Raises `ConfigError`."""
    if spelled.split(":")[0] in MARGINALS and "," not in spelled:
        marginal = make("length distribution", MARGINALS, spelled)
        return lambda first, second: int(marginal.at(np.array([second]))[0])
    lengths = make_lengths(spelled)
    if isinstance(lengths, Trace):
        raise ConfigError(f"answers cannot follow the requests of a trace: write empirical:file={lengths.file}")
    return lambda first, second: int(lengths.pairs(np.array([[first, second]]))[0, 1])


def _allowed(params: SamplingParams, token: int, banned: Set[int]) -> bool:
    return token not in banned and (params.allowed_token_ids is None or token in params.allowed_token_ids)


def _key(prompt: Sequence[int], seed: int) -> bytes:
    return blake2b(array("q", prompt).tobytes(), digest_size=16, key=(seed % 2**64).to_bytes(8, "little")).digest()


def _draw(key: bytes, counter: int) -> float:
    """A random number in [0, 1), with 53 bits."""
    word = blake2b(counter.to_bytes(8, "little"), digest_size=8, key=key).digest()
    return (int.from_bytes(word, "little") >> 11) * 2.0**-53
