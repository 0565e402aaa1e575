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
from numpy.typing import NDArray
from torch import Tensor

from orcinus.core.batch import Batch, BatchResult, Chunk, NewRequest
from orcinus.core.executor_state import RequestStates, Row, accepted, rows_to_draw
from orcinus.core.request import NO_CONTEXT, Failure, FinishCode, Logprobs, Overlap
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.view import Limits
from orcinus.errors import cause
from orcinus.runtime.batch_columns import BatchColumns
from orcinus.runtime.input_batch import Before, Inputs, Ran, Runner
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.models import Decoder
from orcinus.runtime.pack import PackedBatch, Shape, shape_of
from orcinus.runtime.parallel.argmax import gathered_argmax
from orcinus.runtime.row_matcher import RowMatcher
from orcinus.runtime.sampling import Choice, Sampled, Scores, choose
from orcinus.runtime.transfers import Link, Mark
from orcinus.text.grammar_source import GrammarVocabulary
from orcinus.text.grammars import Grammars

MANY_ROWS = 48  # `ENOUGH` of `packed_rows_product`, the most that any kernel for many rows asks for
SCORED_AT_ONCE = 128  # rows of logits, so that a long prompt's logits do not fill the memory
GREEDY = SamplingParams(temperature=0)
log = logging.getLogger(__name__)


def lone_batch(batch_id: int, tokens: int, context: int, table: tuple[int, ...], params: SamplingParams = GREEDY) -> Batch:
    """A warm-up batch of one request: its last `tokens` tokens.

    The request's context has `context` tokens, and the batch introduces it.
    """
    new = NewRequest("warm-up", (0,) * context, (), params, NO_CONTEXT, (table,))
    return Batch(batch_id, (Chunk("warm-up", (0,) * tokens, context - tokens),), (new,))


def first_batches(limits: Limits) -> tuple[Batch, ...]:
    """A decode, a short prompt and one of as many tokens as make kernels take many rows, in blocks of any size."""
    counts = sorted({min(count, limits.max_batch_tokens, limits.max_model_len) for count in (1, 2, MANY_ROWS)})
    return tuple(lone_batch(0, count, count, (0,) * count) for count in counts)


class Chooser(Protocol):
    """Chooses a token for each row of logits.

    `logits` are `[len(rows), vocab_size]` and may be overwritten.
    """

    def __call__(self, logits: Tensor, rows: Sequence[Row]) -> Choice: ...


class Eager:
    """Runs a model eagerly; stages of a pipeline pass hidden states on."""

    def __init__(self, model: Decoder, kv: Sequence[LayerKV], inputs: Inputs) -> None:
        self.model, self.kv, self.inputs = model, kv, inputs

    def __call__(self, columns: BatchColumns, shape: Shape, before: Before | None) -> Ran:
        packed, firsts = self.inputs.load(columns, shape, before)
        model = self.model
        # Scored prompts need all rows. Rows of adapters stay together, as they are packed.
        in_order = model.place.last and not (columns.scored or packed[0].adapters)
        rows = _asked_rows(packed[0]) if in_order else None
        hidden = model(packed, self.kv, received(model, shape.rows), rows)
        if not model.place.last:
            model.collectives.send(hidden)
        return Ran(hidden, None if in_order else packed[0].sample_rows, firsts)


def _asked_rows(packed: PackedBatch) -> Tensor | None:
    """The rows whose hidden states are used, those that sample; None: all rows sample, in the order of their chunks.

    If none samples, it is some row: operators need not know batches without rows.
    """
    sampled = packed.sample_rows
    if len(sampled) == len(packed.positions):
        return None
    return sampled if len(sampled) else torch.zeros_like(packed.positions[:1])


def received(model: Decoder, rows: int) -> Tensor | None:
    """Hidden states `[rows, hidden_size]` from the stage before; None without one."""
    if model.place.first:
        return None
    return model.collectives.recv((rows, model.spec.hidden_size), model.dtype)


@dataclass(slots=True)
class LaunchedBatch:
    """A batch between submit and collect."""

    batch: Batch
    errors: dict[int, Failure] = field(default_factory=dict)  # chunk -> why it did not run
    rows: tuple[int, ...] = ()  # the chunks that run
    choice: Choice | None = None
    scores: dict[int, list[Scores]] = field(default_factory=dict)  # row -> scores of its prompt tokens, piece by piece
    began: Mark | None = None
    done: Mark | None = None  # None: not launched yet


class TorchExecutor:
    """Launches batches in order, and reads their results.

    With `overlap`, a batch is launched when it is submitted, so the device has the next one before it finishes the last;
    otherwise it runs in the thread that collects it. A batch that raises fails only its own requests; one that runs out of
    memory fails its request with the most tokens, and runs again without it. If collecting is interrupted (Ctrl-C), the batch
    stays the oldest in flight. Raises `EngineError` when the device itself has failed.

    In a mesh every rank has an executor for its part of the model. Only the last stage draws tokens and scores prompts: the
    results of the others are empty. A batch's exception is raised again there, because the other ranks cannot repeat the batch.
    """

    def __init__(
        self, model: Decoder, kv: Sequence[LayerKV], link: Link, *, run: Runner | None = None, choose: Chooser = choose,
        overlap: bool = False,
    ) -> None:  # fmt: skip
        self.model, self.kv, self.link, self.choose = model, kv, link, choose
        mesh = model.place.mesh
        self.alone = mesh.size == 1
        self.overlap = Overlap(overlap, overlap and mesh.pp == 1)  # the first stage gets tokens with the next batch
        self.ahead = overlap
        self.run = run or Eager(model, kv, Inputs(link, kv[0].keys.shape[2]))
        self.depth = 2 if overlap else 1
        self.timed = False  # whether `busy` and `idle` are measured
        self.waited = self.busy = self.idle = 0.0  # seconds: host waits for device; device works; device idles
        self.launches = 0
        self.grammars: Grammars | None = None  # of a model with a tokenizer
        self.requests = RequestStates()  # built from the batches and their results
        self._queue: deque[LaunchedBatch] = deque()
        self._before: Before | None = None
        self._last: Mark | None = None  # end of the batch collected last, on the device

    def warm_up(self, batches: Iterable[Batch]) -> None:
        """Run batches and drop the results, so that kernels are compiled.

        Warm-up writes only to block 0; its first real owner overwrites it.
        """
        for batch in batches:
            self.requests.apply(batch)
            flight = LaunchedBatch(batch)
            self._launch(flight)
            self._read(flight)
            self._before = _to_follow(flight) if self.overlap.decode else None
        self.requests.clear()

    def prepare(self, grammar: str, vocabulary: GrammarVocabulary | None) -> None:
        """Compile a grammar in the background; the first comes with the vocabulary."""
        if vocabulary is not None:
            self.grammars = Grammars(lambda: vocabulary)
        if self.grammars is not None and self.model.place.last:
            self.grammars.compile(grammar)

    def submit(self, batch: Batch) -> None:
        self.requests.apply(batch)
        for new in batch.new:
            if new.params.constrained and self.model.place.last:
                matcher = RowMatcher(new.params, self.grammars, self.model.spec.vocab_size)
                self.requests[new.request_id].matcher = matcher
        self._queue.append(LaunchedBatch(batch))
        if self.ahead:
            for flight in self._queue:  # in order, because an earlier one may have been interrupted
                if flight.done is None:
                    self._start(flight)

    def collect(self) -> BatchResult:
        flight = self._queue[0]
        if flight.done is None:
            self._start(flight)
        try:
            result = self._read(flight)
        except Exception as error:
            self._raise_if_fatal(error)
            result = _failed(flight.batch, error)
        self._queue.popleft()
        self.requests.receive(flight.batch, result)
        return result

    def close(self) -> None:
        self._queue.clear()

    def _raise_if_fatal(self, error: Exception) -> None:
        """Raise an error that ends the engine, not its batch alone."""
        self.link.check()
        if not self.alone:
            raise error

    def _start(self, flight: LaunchedBatch) -> None:
        try:
            self._launch(flight)
        except Exception as error:
            self._raise_if_fatal(error)
            flight.rows, flight.choice, flight.errors = (), None, dict(_failed(flight.batch, error).errors)
            with self.link.on():
                flight.done = self.link.mark(timed=self.timed)
        if self.overlap.decode:
            self._before = _to_follow(flight)

    @torch.inference_mode()
    def _launch(self, flight: LaunchedBatch) -> None:
        """Launch the batch, or the part of it that fits into memory."""
        with self.link.on():
            flight.began = self.link.mark(timed=self.timed) if self.timed else None
            flight.rows, flight.errors = tuple(range(len(flight.batch.chunks))), {}
            while flight.rows and not self._computed(flight):
                _give_up_one(flight)
                self.link.free()  # only now: the exception, which is gone, held the tensors computed so far
            flight.done = self.link.mark(timed=self.timed)
        self.launches += 1

    def _computed(self, flight: LaunchedBatch) -> bool:
        """Launch the rest of the batch; False if memory is short."""
        try:
            self._compute(flight)
        except Exception as error:
            if not (self.alone and out_of_memory(error)):
                raise
            return False
        return True

    def _compute(self, flight: LaunchedBatch) -> None:
        batch, flight.scores, flight.choice = flight.batch, {}, None
        if flight.errors:
            batch = replace(batch, chunks=tuple(batch.chunks[row] for row in flight.rows))
        columns = BatchColumns.of(batch, self.requests)
        ran = self.run(columns, shape_of(columns), self._before)
        if not self.model.place.last:
            return
        flight.scores = self._score_prompts(flight, columns, ran)
        rows = rows_to_draw(columns.requests, columns.ends, columns.drafts)
        if rows:
            flight.choice = self._choose(ran.sampled(len(rows)), rows)

    def _choose(self, hidden: Tensor, rows: Sequence[Row]) -> Choice:
        if self.model.place.mesh.tp > 1 and all(row.request.unadjusted_greedy for row in rows):
            return gathered_argmax(self.model, hidden, self.link)
        return self.choose(self.model.logits(hidden), rows)

    def _score_prompts(self, flight: LaunchedBatch, columns: BatchColumns, ran: Ran) -> dict[int, list[Scores]]:
        """Log-probabilities of prompt tokens, for requests that ask for them.

        Each is that of a token after those before it.
        """
        found = {}
        for place, scored in columns.scored.items():
            nexts, top = np.array(scored, np.int64), columns.requests[place].params.prompt_logprobs or 0
            first = ran.firsts[place]
            found[flight.rows[place]] = [
                self._scores(ran.hidden[first + at : first + at + SCORED_AT_ONCE], nexts[at : at + SCORED_AT_ONCE], top)
                for at in range(0, len(nexts), SCORED_AT_ONCE)
            ]
        return found

    def _scores(self, hidden: Tensor, tokens: NDArray[np.int64], top: int) -> Scores:
        logits = self.model.logits(hidden[: len(tokens)]).float()
        return Scores.of(logits.log_softmax(dim=-1), self.link.numbers(tokens), top).down(self.link)

    def _read(self, flight: LaunchedBatch) -> BatchResult:
        """Wait for the device, and distribute its results over all chunks."""
        if flight.done is not None:
            asked = time.perf_counter()
            flight.done.wait()
            self.waited += time.perf_counter() - asked
            self._measure(flight.began, flight.done)
        chunks = flight.batch.chunks
        sampled = flight.choice.read() if flight.choice else Sampled([], {}, {})
        tokens: list[tuple[int, ...]] = [()] * len(chunks)
        logprobs: list[tuple[Logprobs, ...]] = [()] * len(chunks)
        errors = dict(flight.errors)
        for row, first, count in _drawn(flight):
            good = count  # rows behind a bad row are invalid
            if sampled.errors:
                good = next((place for place in range(count) if first + place in sampled.errors), count)
            if good == 0:
                matcher = self.requests[chunks[row].request_id].matcher
                errors[row] = (matcher and matcher.failure) or sampled.errors[first]
                continue
            drawn = tuple(sampled.tokens[first : first + good])
            tokens[row] = accepted(chunks[row], drawn) if count > 1 else drawn
            if sampled.logprobs:
                mine = range(first, first + len(tokens[row]))
                logprobs[row] = tuple([sampled.logprobs[place] for place in mine if place in sampled.logprobs])
        tops = {row: self.requests[chunks[row].request_id].params.prompt_logprobs or 0 for row in flight.scores}
        prompts = {row: _scored(scores, tops[row]) for row, scores in flight.scores.items()}
        return BatchResult(flight.batch.id, tuple(tokens), tuple(logprobs) if any(logprobs) else None, prompts, errors)

    def _measure(self, began: Mark | None, done: Mark) -> None:
        if began is not None:
            self.busy += began.seconds_until(done)
            self.idle += max(0.0, self._last.seconds_until(began)) if self._last is not None else 0.0
        self._last = done if began is not None else None


def _drawn(flight: LaunchedBatch) -> list[tuple[int, int, int]]:
    """Per drawing chunk: place in the batch, first row, number of rows."""
    first, found = 0, []
    for row in flight.rows:
        drafts = flight.batch.chunks[row].drafts
        if drafts is not None:
            found.append((row, first, drafts + 1))
            first += drafts + 1
    return found


def _to_follow(flight: LaunchedBatch) -> Before:
    """This batch's tokens and their places, for the next batch.

    Empty if this batch draws no token.
    """
    places = {flight.batch.chunks[row].request_id: first for row, first, _ in _drawn(flight)}
    tokens = flight.choice.tokens if flight.choice else torch.empty(0, dtype=torch.int64)
    return Before(flight.batch.id, tokens, places)


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an exception means that memory was short.

    Less work would then have found enough. Chained exceptions count, too: the end of a capture in which memory ran out says
    only that something failed.
    """
    said = "not enough memory", "out of memory"  # torch for a CPU; CUDA for memory outside torch's allocator
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in said):
            return True
        error = error.__context__
    return False


def _give_up_one(flight: LaunchedBatch) -> None:
    """Leave out the request with the most tokens; the last of equals."""
    chunks = flight.batch.chunks
    worst = max(flight.rows, key=lambda row: (len(chunks[row].tokens), row))
    flight.errors[worst] = Failure(
        FinishCode.OUT_OF_MEMORY,
        f"memory was short in an iteration in which this request had the most tokens ({len(chunks[worst].tokens)}): "
        "lower max_batch_tokens, or give K/V memory less",
    )
    flight.rows = tuple(row for row in flight.rows if row != worst)
    log.warning("batch %d runs again without request %s, because memory was short", flight.batch.id, chunks[worst].request_id)


def _failed(batch: Batch, error: Exception) -> BatchResult:
    log.debug("batch %d failed", batch.id, exc_info=error)
    failure = Failure(FinishCode.EXECUTOR_FAILED, f"the iteration failed: {cause(error)}")
    return BatchResult(batch.id, ((),) * len(batch.chunks), errors=dict.fromkeys(range(len(batch.chunks)), failure))


def _scored(scores: Sequence[Scores], top: int) -> tuple[Logprobs, ...]:
    return tuple(one for piece in scores for one in piece.read([top] * len(piece.ranks)))
