"""Tries whether a request's tokens and log-probabilities depend on how it is scheduled.

One request runs alone, beside others, in chunks, with a cached prefix and again after a preemption, greedily and with random
draws. With `Resolved.deterministic` all runs are equal to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

from orcinus.build import Built
from orcinus.config import EngineConfig
from orcinus.core.batch import Batch, Token
from orcinus.core.component_spec import spell
from orcinus.core.engine import Engine
from orcinus.core.policies.orca import Orca
from orcinus.core.ports import Observer, Policy
from orcinus.core.request import Logprobs, Request
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.unserved import Unserved
from orcinus.core.view import Selection, View
from orcinus.errors import ConfigError
from orcinus.workload.arrival import Arrival
from orcinus.workload.prompts import prompt_ids

TRIED = "tried"  # the id of the request in question
COMPANY = 7  # other requests, at most
GREEDY = SamplingParams(temperature=0, ignore_eos=True, logprobs=1)
DRAWN = replace(GREEDY, temperature=1.0, top_p=0.95, seed=7)


@dataclass(frozen=True, slots=True)
class PreemptsOnce:
    """Orca's policy, but one request is preempted in the middle of its answer."""

    holds_answers: ClassVar[bool] = False
    after: int  # its output tokens by then

    def select(self, view: View) -> Selection:
        gone = [r for r in view.running if r.id == TRIED and len(r.output) >= self.after and not r.preemptions]
        alone = len(view.running) == 1  # it would leave nothing to run
        return Orca().select(view)._replace(preempt=() if alone else gone)


@dataclass(slots=True)
class Seen(Observer):
    """How the request was scheduled in its last run."""

    chunks: list[tuple[int, int]] = field(default_factory=list)  # start and tokens of each
    starts: int = 0  # times that it started, the first one included
    beside: int = 0  # most other requests in one of its batches

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        self.starts += sum(new.request_id == TRIED for new in batch.new)
        mine = [chunk for chunk in batch.chunks if chunk.request_id == TRIED]
        self.chunks += [(chunk.start, len(chunk.tokens)) for chunk in mine]
        if mine:
            self.beside = max(self.beside, len(batch.chunks) - 1)

    @property
    def cached(self) -> int:
        """Tokens of the prompt that were found in the cache."""
        return self.chunks[0][0] if self.chunks else 0


@dataclass(frozen=True, slots=True)
class Way:
    """A way to schedule the request."""

    name: str
    policy: str | Policy
    kv: str
    shows: Callable[[Seen, int], str]  # what was seen, for a prompt of so many tokens; "" if it did not happen
    company: bool = False
    times: int = 1  # that it runs; the last run counts


@dataclass(frozen=True, slots=True)
class BitComparison:
    """One way against the first one, with one kind of sampling."""

    way: str
    sampling: str  # greedy or drawn
    seen: str  # how it was scheduled; "" if the way could not be tried
    differs_at: int | None  # the first output token that differs, in itself or in its log-probability
    same_tokens: bool

    @property
    def holds(self) -> bool:
        return bool(self.seen) and self.differs_at is None


def _chunks(seen: Seen, prompt: int) -> str:
    pieces = [tokens for start, tokens in seen.chunks if start < prompt]
    return f"prompt in {len(pieces)} chunks of up to {max(pieces)} tokens" if len(pieces) > 1 else ""


def ways(config: EngineConfig, answer: int) -> list[Way]:
    """The ways to try; the first one is what others are compared with."""
    after = max(1, answer // 2)

    def company(seen: Seen, prompt: int) -> str:
        return f"beside up to {seen.beside} others" if seen.beside else ""

    def cached(seen: Seen, prompt: int) -> str:
        return f"{seen.cached} of {prompt} tokens from the cache" if seen.cached else ""

    def again(seen: Seen, prompt: int) -> str:
        return f"computed again after {after} output tokens" if seen.starts > 1 else ""

    own = f"{spell(config.policy) if not isinstance(config.policy, str) else config.policy}, {config.kv}"
    return [
        Way("alone", "orca", "paged", lambda seen, prompt: "nothing else in its batches" if not seen.beside else ""),
        Way("in a batch", "orca", "paged", company, company=True),
        Way("in chunks", "sarathi:chunk_size=7", "paged", _chunks),
        Way("in chunks, in a batch", "stall-free:token_budget=64", "paged", _chunks, company=True),
        Way("with a cached prefix", "orca", "prefix-cache", cached, times=2),
        Way("after a preemption", PreemptsOnce(after), "paged", again, company=True),
        Way("as configured", config.policy, config.kv, lambda seen, prompt: own, company=True),
    ]


def verify(built: Built, config: EngineConfig, prompt_tokens: int, answer_tokens: int) -> Iterator[BitComparison]:
    """Try every way with greedy and with drawn tokens, and compare each with the first one.

    `built` is the engine of `config`. Raises `ConfigError` if the lengths are not possible.
    """
    limits = built.resolved.limits
    if prompt_tokens + answer_tokens > limits.max_model_len:
        raise ConfigError(
            f"a prompt of {prompt_tokens} tokens and an answer of {answer_tokens} exceed the model's {limits.max_model_len}: "
            "give fewer"
        )
    for name, params in (("greedy", GREEDY), ("drawn", DRAWN)):
        expected: list[tuple[int, Logprobs | None]] = []
        for way in ways(config, answer_tokens):
            seen = Seen()
            engine = built.another(replace(config, policy=way.policy, kv=way.kv, record=None), (seen,))
            for _ in range(way.times):
                seen.chunks.clear()
                seen.starts = seen.beside = 0
                found = _run(engine, built.resolved.vocab_size, prompt_tokens, replace(params, max_tokens=answer_tokens), way)
            expected = expected or found
            differs = next((at for at, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1]), None)
            same = [token for token, _ in found] == [token for token, _ in expected]
            yield BitComparison(way.name, name, way.shows(seen, prompt_tokens), differs, same)


def _run(engine: Engine, vocabulary: int, prompt: int, params: SamplingParams, way: Way) -> list[tuple[int, Logprobs | None]]:
    """The request's tokens and their log-probabilities."""
    room = engine.scheduler.limits.max_batch_size - 1
    others = range(1, 1 + min(COMPANY, room)) if way.company else ()
    lengths = {number: max(1, prompt * number // COMPANY) for number in others}
    ids = {number: prompt_ids(Arrival(0.0, tokens, 1), number, vocabulary) for number, tokens in lengths.items()}
    requests = [Request(f"other-{number}", ids[number], params, 0.0) for number in others]
    requests.insert(len(requests) // 2, Request(TRIED, prompt_ids(Arrival(0.0, prompt, 1), 0, vocabulary), params, 0.0))
    for request in requests:
        engine.submit(request)
    found = []
    while not engine.idle:
        events = engine.step()
        found += [(event.token, event.logprobs) for event in events if isinstance(event, Token) and event.request_id == TRIED]
    if len(found) != params.max_tokens:
        raise ConfigError(f"the request ended after {len(found)} of {params.max_tokens} tokens: give it more K/V memory")
    return found
