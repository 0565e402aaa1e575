"""Measures iteration times of the real engine, for simulations of it.

Half of the time belongs to the cells of a design, in which some requests decode beside prompts of others. Batches differ in
size, context and share of prompts, so that the costs can be told apart; some begin after a pause. In the other half requests
are served as they come: decodes take longer directly after a prompt than later, so each must come as often as in service.

Cells run in random order, those of each kind evenly spread, several times, so that another program that is busy for a while
spoils some iterations of many cells, and all iterations of none. However short the time, one cell of each kind runs. One
reference cell runs before and after all others: if its times differ, or if other programs use the cores, the calibration is
marked as doubtful.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from orcinus.core.batch import Batch
from orcinus.core.policies.stall_free import StallFree
from orcinus.core.ports import Observer
from orcinus.core.request import Request
from orcinus.core.unserved import Unserved
from orcinus.core.view import Limits
from orcinus.cost.calibration import Calibration
from orcinus.cost.fitted import FEWEST, IterationSample, fit
from orcinus.cost.work import IterationWork, work_of
from orcinus.errors import ConfigError
from orcinus.llm import LLM
from orcinus.machine_load import cpu_times, crowded, load_average, taken, usable_cores
from orcinus.runtime.device import machine_of
from orcinus.workload.arrival import Arrival
from orcinus.workload.prompts import prompt_ids

STEADY = 8  # iterations of decodes alone
SHORT = 16  # tokens of a context with negligible cost
LONGEST = 1024  # tokens of a prompt, at most
CHUNKS = (4, 8, 16, 32, 64, 128, 256, 512, LONGEST)
SHARE = 0.004  # share of the time that the longest prompt may take alone
PROMPT_ANSWER = 2  # tokens: an iteration is measured until the next launch, so one follows the prompt's last
FILL = 512  # tokens in an iteration while contexts are filled, at most
ENOUGH = 2 * FEWEST  # iterations measured in any case
SERVED_AT_ONCE = 0.125  # of the time: a stretch of service between cells
LEAST, ANSWER = 8, 256  # tokens of the shortest prompt or answer served, and of the longest answer
PREPARED = 256  # requests of a stretch of service at most, made before it
REFERENCE_RUNS = 5  # runs of the reference cell, before and after all others
PAUSE_S = 0.2  # after which threads sleep
VARIES = 1.25  # largest accepted ratio between times of the same iteration


@dataclass(frozen=True, slots=True)
class CalibrationCell:
    """A batch to measure: some requests decode while others prefill."""

    decodes: int = 0
    context: int = SHORT  # prompt tokens of each request that generates
    prompts: int = 0
    length: int = 0  # tokens of each of them
    chunk: int = 1  # their tokens per iteration
    pause: float = 0.0  # seconds without work before it

    @property
    def kind(self) -> tuple[bool, int, bool]:
        """Whether some requests decode, how many prompts are read (2 for several), and whether there was a pause before."""
        return self.decodes > 0, min(self.prompts, 2), self.pause > 0

    @property
    def answer(self) -> int:
        """Output tokens of each request that decodes."""
        return STEADY - (-self.prompts * self.length // self.chunk)

    def fits(self, limits: Limits, kv_tokens: int, block_size: int) -> bool:
        """Whether the whole cell fits into an engine at once."""
        sizes = [self.context + self.answer] * self.decodes + [self.length + PROMPT_ANSWER] * self.prompts
        held = sum(size + block_size for size in sizes)
        tokens = self.decodes + self.chunk
        return max(sizes) <= limits.max_model_len and held <= kv_tokens and tokens <= limits.max_batch_tokens


def design(limits: Limits, longest: int) -> list[CalibrationCell]:
    """Cells with batches, contexts and prompts of all sizes.

    `longest` is the longest prompt; the contexts of a batch have at most eight times as many tokens together. Prompts are
    read beside decodes of short contexts and, the longest ones, of longer contexts too, as they are in service.
    """
    most = limits.max_batch_size
    sizes = sorted({most, *(2**power for power in range(most.bit_length()))})
    contexts = {size: min(8 * longest // size, limits.max_model_len - 4 * STEADY) for size in sizes}
    generating = [CalibrationCell(size, share) for size in sizes for share in (SHORT, contexts[size] // 2, contexts[size])]
    reading = [
        CalibrationCell(decodes, context, 1, length, chunk)
        for decodes in sorted({0, most // 2, most - 1})
        for length in (longest // 32, longest // 4, longest)
        for context in sorted({SHORT, 2 * longest // decodes} if decodes and length == longest else {SHORT})
        for chunk in CHUNKS
        if chunk <= length <= 32 * chunk and context <= limits.max_model_len - 4 * STEADY
    ]
    together = [
        CalibrationCell(0, SHORT, n, length, n * length) for n in sizes[1:4] for length in (8, 32, 128) if length <= longest
    ]
    paused = [CalibrationCell(0, SHORT, 1, length, length, PAUSE_S) for length in (longest // 32, longest // 4, longest)]
    return [cell for cell in (*generating, *reading, *together, *paused) if cell.context >= SHORT]


def in_random_order(cells: Sequence[CalibrationCell], rng: random.Random) -> list[CalibrationCell]:
    """Cells in a random order in which those of each kind are spread evenly, after one of each kind."""
    places = dict[CalibrationCell, float]()
    for kind in {cell.kind for cell in cells}:
        alike = [cell for cell in cells if cell.kind == kind]
        places |= {cell: at / len(alike) for at, cell in enumerate(rng.sample(alike, len(alike)))}
    return sorted(rng.sample(cells, len(cells)), key=places.__getitem__)


class IterationSampler(Observer):
    """Collects iterations, each from its launch to the next launch."""

    def __init__(self) -> None:
        self.found: list[IterationSample] = []
        self._begun: tuple[IterationWork, float] | None = None
        self._paused = False

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        if self._begun is not None:
            self.found.append(IterationSample(self._begun[0], now - self._begun[1]))
        self._begun = work_of(batch)._replace(paused=self._paused), now
        self._paused = False

    def idle(self) -> None:
        """Drop the last iteration: the engine has no more work, so its end is unknown."""
        self._begun = None

    def pause(self) -> None:
        """The engine waits for work: the next iteration is one after a pause."""
        self.idle()
        self._paused = True


class _Bench:
    """Runs cells on an engine, and serves requests."""

    def __init__(self, llm: LLM, watch: IterationSampler) -> None:
        self._llm, self._engine, self._watch = llm, llm.engine, watch
        self._numbers = itertools.count(time.time_ns())  # so that no prompt is in the prefix cache
        self._policy, self._rng = llm.engine.scheduler.policy, random.Random(0)

    def run(self, cell: CalibrationCell) -> None:
        """One cell, from an idle engine to an idle engine."""
        readers = self._requests(cell.prompts, cell.length, PROMPT_ANSWER)
        if cell.pause:
            time.sleep(cell.pause)
            self._watch.pause()
        self._engine.use(StallFree(FILL))
        self._submit(self._requests(cell.decodes, cell.context, cell.answer))
        scheduler = self._engine.scheduler
        while scheduler.num_waiting or not all(request.decoding for request in scheduler.running):
            self._engine.step()
        if readers:
            self._engine.use(StallFree(cell.decodes + cell.chunk))
            self._submit(readers)
        while not self._engine.idle:
            self._engine.step()
        self._watch.idle()

    def serve(self, places: int, longest: int, seconds: float) -> None:
        """Prompts and answers of all lengths for some time, up to so many requests at once, under the engine's own policy.

        One comes with each iteration, as long as there is a place for it.
        """
        self._engine.use(self._policy)
        most = self._llm.resolved.limits.max_model_len
        prompt, answer = min(longest, most // 2), min(ANSWER, most // 4)
        lengths = [(self._length(prompt), self._length(answer)) for _ in range(PREPARED)]
        waiting = [request for pair in lengths for request in self._requests(1, *pair)]
        scheduler, ends, served = self._engine.scheduler, time.monotonic() + seconds, list[Request]()
        while time.monotonic() < ends and (waiting or not self._engine.idle):
            if waiting and scheduler.num_running + scheduler.num_waiting < places:
                served.append(waiting.pop())
                self._submit(served[-1:])
            self._engine.step()
        for request in served:
            self._engine.cancel(request.id)
        while not self._engine.idle:
            self._engine.step()
        self._watch.idle()

    def _length(self, most: int) -> int:
        """A number of tokens; all orders of magnitude are equally likely."""
        return round(math.exp(self._rng.uniform(math.log(min(LEAST, most)), math.log(most))))

    def _requests(self, count: int, prompt: int, answer: int) -> list[Request]:
        """Requests without a common prefix, with default sampling parameters."""
        made = []
        for number in itertools.islice(self._numbers, count):
            ids = prompt_ids(Arrival(0.0, prompt, answer), number, self._llm.resolved.vocab_size)
            params = replace(self._llm.default_params, max_tokens=answer, min_tokens=0, seed=number, stop=(), stop_token_ids=())
            made.append(Request(f"calibration-{number}", ids, params, 0.0))
        return made

    def _submit(self, requests: Sequence[Request]) -> None:
        for request in requests:
            request.arrival = self._engine.clock.now()
            self._engine.submit(request)


def calibrate(llm: LLM, seconds: float = 30.0, watch: Callable[[float], None] | None = None) -> Calibration:
    """A calibration of an idle engine, measured for about `seconds` seconds.

    `watch` hears how many seconds have passed. Raises `ConfigError` if the engine serves only one request at a time, or only
    very short ones.
    """
    if llm.resolved.limits.max_batch_size < 2:
        raise ConfigError(
            "the cost of a second request cannot be measured with one at a time: calibrate with --max-batch-size 2 or more"
        )
    if llm.resolved.limits.max_model_len < SHORT + STEADY:
        raise ConfigError(
            f"a calibration has sequences of {SHORT + STEADY} tokens: calibrate with --max-model-len {SHORT + STEADY} or more"
        )
    engine, found = llm.engine, IterationSampler()
    policy = engine.scheduler.policy
    engine.observers.append(found)
    loads, before = [load_average()], cpu_times()
    try:
        reference = _measure(llm, found, seconds, watch)
    finally:
        engine.observers.remove(found)
        engine.use(policy)
    after, resolved = cpu_times(), llm.resolved
    if before is None or after is None:  # a system without /proc: the load average is all that it tells
        others = crowded([each for each in (*loads, load_average()) if each is not None], usable_cores())
    else:
        others = taken(before, after, usable_cores())
    return Calibration(
        model=str(llm.config.model or "the bundled model") + (f" at {resolved.revision}" if resolved.revision else ""),
        machine=machine_of(resolved.device),
        device=resolved.device,
        dtype=resolved.numbers,
        attention=resolved.attention,
        limits=resolved.limits,
        block_size=resolved.block_size,
        num_blocks=resolved.num_blocks,
        cost=fit(found.found),
        doubts=tuple(_doubts(others, reference)),
    )


def _doubts(others: str | None, reference: Sequence[float]) -> Iterator[str]:
    """Why the measurement must not be believed, a line each.

    `others` says what took the cores meanwhile; `reference` are the seconds of the same iteration at several times.
    """
    if others is not None:
        yield f"{others} while it was measured"
    _, fast, *_, slow, _ = sorted(reference)  # without the extremes
    if slow > VARIES * fast:
        yield f"the same iteration took {fast * 1e3:.2f} ms at one time and {slow * 1e3:.2f} ms at another"


def _measure(llm: LLM, found: IterationSampler, seconds: float, watch: Callable[[float], None] | None) -> list[float]:
    """Run cells in random order, and serve requests between them, until the time is over.

    Returns the seconds of the reference cell, before and after.
    """
    bench, rng, began = _Bench(llm, found), random.Random(0), time.monotonic()
    resolved = llm.resolved
    longest = _longest(llm, bench, found, seconds)
    cells = [c for c in design(resolved.limits, longest) if c.fits(resolved.limits, resolved.kv_tokens, resolved.block_size)]
    kinds = len({cell.kind for cell in cells})
    reference, in_service = _reference(bench, found), 0.0
    for number, cell in enumerate(itertools.chain.from_iterable(in_random_order(cells, rng) for _ in itertools.count())):
        passed = time.monotonic() - began
        if watch is not None:
            watch(min(passed, seconds))
        if passed >= seconds and number >= kinds and len(found.found) >= ENOUGH:
            break
        bench.run(cell)
        if in_service < (time.monotonic() - began) / 2:
            begun = time.monotonic()
            bench.serve(rng.randint(1, resolved.limits.max_batch_size), longest, seconds * SERVED_AT_ONCE)
            in_service += time.monotonic() - begun
    return reference + _reference(bench, found)


def _reference(bench: _Bench, found: IterationSampler) -> list[float]:
    """Seconds of a one-decode iteration: the medians of several runs."""
    medians = []
    for _ in range(REFERENCE_RUNS):
        begun = len(found.found)
        bench.run(CalibrationCell(1, SHORT))
        medians.append(median(each.seconds for each in found.found[begun:]))
    return medians


def _longest(llm: LLM, bench: _Bench, found: IterationSampler, seconds: float) -> int:
    """Tokens of the longest prompt worth measuring, at a warm engine's speed."""
    within = min(LONGEST, llm.resolved.limits.max_model_len // 2, llm.resolved.kv_tokens // 4)
    probe = min(128, within)
    for _ in range(3):
        found.found.clear()
        bench.run(CalibrationCell(1, probe))
    first = found.found[0]
    return max(32, min(within, int(first.work.tokens / first.seconds * seconds * SHARE)))
