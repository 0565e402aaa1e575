"""The executor that runs a real model on one device."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from orcinus.core.batch import Batch, BatchResult, Chunk
from orcinus.core.request import Logprobs
from orcinus.core.sampling_params import SamplingParams
from orcinus.errors import cause
from orcinus.runtime.inputs import Before, Inputs, Ran, Runner
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.models import Decoder
from orcinus.runtime.pack import Shape, shape_of
from orcinus.runtime.sampling import Choice, Sampled, Scores, choose
from orcinus.runtime.transfers import Link, Mark

SCORED_AT_ONCE = 128  # rows of logits, so that a long prompt's do not fill the memory
GREEDY = SamplingParams(temperature=0)
# A decode and a prompt, in blocks of any size:
FIRST = tuple(Batch(0, (Chunk("warm-up", (0,) * count, 0, (0,) * count, True, GREEDY),)) for count in (1, 2))
log = logging.getLogger(__name__)


class Chooser(Protocol):
    """Chooses a token for each row of logits `[len(chunks), vocab_size]`, which it may overwrite."""

    def __call__(self, logits: Tensor, chunks: Sequence[Chunk]) -> Choice: ...


class Eager:
    """Runs a model one operation after the other."""

    def __init__(self, model: Decoder, kv: Sequence[LayerKV], inputs: Inputs) -> None:
        self.model, self.kv, self.inputs = model, kv, inputs

    def __call__(self, batch: Batch, shape: Shape, before: Before | None) -> Ran:
        packed, firsts = self.inputs.load(batch, shape, before)
        return Ran(self.model(packed, self.kv), packed.sample_rows, firsts)


@dataclass(slots=True)
class Flight:
    """A batch between submit and collect."""

    batch: Batch
    errors: dict[int, str] = field(default_factory=dict)  # row -> why it did not run
    rows: tuple[int, ...] = ()  # those that run
    choice: Choice | None = None
    scores: dict[int, list[Scores]] = field(default_factory=dict)  # row -> of its prompt tokens, piece by piece
    began: Mark | None = None
    done: Mark | None = None  # None: nobody tried to launch it yet


class TorchExecutor:
    """Launches batches in order, and reads what became of them.

    If it `chains`, a batch is launched when it is submitted, so that the device has the next one before it is done with the
    last; otherwise it runs in the thread that collects it. A batch that raises fails its own requests and nothing else; one
    that runs out of memory fails the request with most tokens in it, and runs again without that one. If collecting is
    interrupted (Ctrl-C), the batch stays the oldest in flight. Raises `EngineError` when the device itself has failed.
    """

    def __init__(
        self, model: Decoder, kv: Sequence[LayerKV], link: Link, *, run: Runner | None = None, choose: Chooser = choose,
        chains: bool = False,
    ) -> None:  # fmt: skip
        self.model, self.kv, self.link, self.choose, self.chains = model, kv, link, choose, chains
        self.run = run or Eager(model, kv, Inputs(link, kv[0].keys.shape[2]))
        self.depth = 2 if chains else 1
        self.timed = False  # whether `busy` and `idle` are measured
        self.waited = self.busy = self.idle = 0.0  # seconds: the host for the device; the device at work, and between batches
        self.launches = 0
        self._queue: deque[Flight] = deque()
        self._before: Before | None = None
        self._last: Mark | None = None  # when the device was done with the batch collected last

    def warm_up(self, batches: Iterable[Batch] = FIRST) -> None:
        """Run batches whose results nobody wants, so that kernels are compiled before the first request comes.

        Their block tables are to name the first block alone, where they leave keys: whoever is given it overwrites them.
        """
        for batch in batches:
            flight = Flight(batch)
            self._launch(flight)
            self._read(flight)
            self._before = _to_follow(flight) if self.chains else None

    def submit(self, batch: Batch) -> None:
        self._queue.append(Flight(batch))
        if self.chains:
            for flight in self._queue:  # in their order, should one of them have been interrupted
                if flight.done is None:
                    self._start(flight)

    def collect(self) -> BatchResult:
        flight = self._queue[0]
        if flight.done is None:
            self._start(flight)
        try:
            result = self._read(flight)
        except Exception as error:
            self.link.check()
            result = _failed(flight.batch, error)
        self._queue.popleft()
        return result

    def close(self) -> None:
        self._queue.clear()

    def _start(self, flight: Flight) -> None:
        try:
            self._launch(flight)
        except Exception as error:
            self.link.check()
            flight.rows, flight.choice, flight.errors = (), None, dict(_failed(flight.batch, error).errors)
            with self.link.on():
                flight.done = self.link.mark(timed=self.timed)
        if self.chains:
            self._before = _to_follow(flight)

    @torch.inference_mode()
    def _launch(self, flight: Flight) -> None:
        """Give the batch to the device: all of it, or what memory is enough for."""
        with self.link.on():
            flight.began = self.link.mark(timed=self.timed) if self.timed else None
            flight.rows, flight.errors = tuple(range(len(flight.batch.chunks))), {}
            while flight.rows and not self._computed(flight):
                _give_up_one(flight)
                self.link.free()  # only now, when nobody holds the error any more, and with it what was computed so far
            flight.done = self.link.mark(timed=self.timed)
        self.launches += 1

    def _computed(self, flight: Flight) -> bool:
        """Launch what is left of the batch; False if memory is not enough for it."""
        try:
            self._compute(flight)
        except Exception as error:
            if not out_of_memory(error):
                raise
            return False
        return True

    def _compute(self, flight: Flight) -> None:
        batch, flight.scores, flight.choice = flight.batch, {}, None
        if flight.errors:
            batch = replace(batch, chunks=tuple(batch.chunks[row] for row in flight.rows))
        ran = self.run(batch, shape_of(batch), self._before)
        flight.scores = self._score_prompts(flight, batch, ran)
        chunks = [chunk for chunk in batch.chunks if chunk.samples]
        if chunks:
            hidden = ran.hidden.index_select(0, ran.sample_rows[: len(chunks)])
            flight.choice = self.choose(self.model.logits(hidden), chunks)

    def _score_prompts(self, flight: Flight, batch: Batch, ran: Ran) -> dict[int, list[Scores]]:
        """How likely each prompt token was after those before it, for requests that want to know."""
        found = {}
        for row, chunk, first in zip(flight.rows, batch.chunks, ran.firsts, strict=True):
            if chunk.scored:
                nexts = np.array(chunk.history[chunk.start + 1 : chunk.start + 1 + chunk.scored], np.int64)
                scores: list[Scores] = []
                for at in range(0, chunk.scored, SCORED_AT_ONCE):
                    some = self.link.numbers(nexts[at : at + SCORED_AT_ONCE])
                    logits = self.model.logits(ran.hidden[first + at : first + at + len(some)]).float()
                    top = chunk.params.prompt_logprobs or 0
                    scores.append(Scores.of(logits.log_softmax(dim=-1), some, top).down(self.link))
                found[row] = scores
        return found

    def _read(self, flight: Flight) -> BatchResult:
        """Wait for the device, and spread what it found over all chunks of the batch."""
        if flight.done is not None:
            asked = time.perf_counter()
            flight.done.wait()
            self.waited += time.perf_counter() - asked
            self._measure(flight.began, flight.done)
        chunks = flight.batch.chunks
        sampling = _sampling(flight)
        sampled = flight.choice.read() if flight.choice else Sampled([], [], {})
        tokens: list[tuple[int, ...]] = [()] * len(chunks)
        logprobs: list[tuple[Logprobs, ...]] = [()] * len(chunks)
        for row, token, asked_for in zip(sampling, sampled.tokens, sampled.logprobs, strict=True):
            tokens[row] = (token,)
            logprobs[row] = (asked_for,) if asked_for else ()
        errors = flight.errors | {sampling[place]: reason for place, reason in sampled.errors.items()}
        prompts = {row: _scored(chunks[row], scores) for row, scores in flight.scores.items()}
        return BatchResult(flight.batch.id, tuple(tokens), tuple(logprobs) if any(logprobs) else None, prompts, errors)

    def _measure(self, began: Mark | None, done: Mark) -> None:
        if began is not None:
            self.busy += began.seconds_until(done)
            self.idle += max(0.0, self._last.seconds_until(began)) if self._last is not None else 0.0
        self._last = done if began is not None else None


def _sampling(flight: Flight) -> list[int]:
    """The rows that are given a token."""
    return [row for row in flight.rows if flight.batch.chunks[row].samples]


def _to_follow(flight: Flight) -> Before:
    """What the next batch has to know of this one: nothing, if nobody in it was given a token."""
    places = {flight.batch.chunks[row].request_id: place for place, row in enumerate(_sampling(flight))}
    tokens = flight.choice.tokens if flight.choice else torch.empty(0, dtype=torch.int64)
    return Before(flight.batch.id, tokens, places)


def out_of_memory(error: BaseException | None) -> bool:
    """Whether memory was short, and less work would have found enough of it.

    Also of an error that hides such a one: the end of a capture in which memory ran out says only that something failed.
    """
    said = "not enough memory", "out of memory"  # torch of a CPU's; CUDA of what others than torch's allocator ask for
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in said):
            return True
        error = error.__context__
    return False


def _give_up_one(flight: Flight) -> None:
    """Leave out the request with most tokens, the last of them if several have as many."""
    chunks = flight.batch.chunks
    worst = max(flight.rows, key=lambda row: (len(chunks[row].tokens), row))
    flight.errors[worst] = (
        f"memory was short in an iteration in which this request had the most tokens ({len(chunks[worst].tokens)}): "
        "lower max_batch_tokens, or give K/V memory less"
    )
    flight.rows = tuple(row for row in flight.rows if row != worst)
    log.warning("batch %d runs again without request %s, for want of memory", flight.batch.id, chunks[worst].request_id)


def _failed(batch: Batch, error: Exception) -> BatchResult:
    log.debug("batch %d failed", batch.id, exc_info=error)
    reason = f"the iteration failed: {cause(error)}"
    return BatchResult(batch.id, ((),) * len(batch.chunks), errors=dict.fromkeys(range(len(batch.chunks)), reason))


def _scored(chunk: Chunk, scores: Sequence[Scores]) -> tuple[Logprobs, ...]:
    top = chunk.params.prompt_logprobs or 0
    return tuple(one for piece in scores for one in piece.read([top] * len(piece.ranks)))
