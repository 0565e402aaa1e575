"""Worlds without a machine, in which tests run the real engine: a clock that steps and an executor that only remembers.

The executor's "model" reads the whole sequence back through the block table it is given, and its next token is a hash of
what it finds. So a wrong table, a block given to two requests, a lost or doubled token, or a recomputation that forgets
something changes the text, as it would with a real model.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from orcinus.core.batch import Batch, BatchResult, Chunk, Event, Finished, Submitted, Token
from orcinus.core.component_spec import make_order
from orcinus.core.engine import Engine
from orcinus.core.executor_state import RequestStates, accepted
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.ports import Drafter, KVManager, Observer, Policy
from orcinus.core.request import Finish, Overlap, Request, RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.scheduler import NO_OVERLAP, Scheduler
from orcinus.core.unserved import Unserved
from orcinus.core.view import Limits

VOCABULARY = 50
OVERLAP = Overlap(prefill=True, decode=True)


def next_token(sequence: Sequence[int]) -> int:
    """The text of this world's model: any change of the past changes the future."""
    state = 17
    for token in sequence:
        state = (state * 31 + token + 1) % 1_000_003
    return state % VOCABULARY


def solo(prompt: Sequence[int], params: SamplingParams) -> list[int]:
    """What a request must be given, whatever its neighbours are."""
    sequence = list(prompt)
    assert params.max_tokens is not None
    for _ in range(params.max_tokens):
        sequence.append(next_token(sequence))
        if sequence[-1] in params.stop_token_ids:
            break
    return sequence[len(prompt) :]


class StepClock:
    """One second per look, so that every moment is different."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        self.time += 1.0
        return self.time


class MemoryExecutor:
    """Writes token ids where keys and values would go, and reads them back through the block tables it was told of."""

    def __init__(self, depth: int, block_size: int, overlap: Overlap = NO_OVERLAP) -> None:
        self.depth, self.block_size, self.overlap = depth, block_size, overlap
        self.requests = RequestStates()
        self.memory: dict[tuple[int, int], int] = {}  # (group of layers, slot) -> token
        self.sampled: dict[tuple[int, str], int] = {}  # (batch, request) -> its token
        self.in_flight: deque[Batch] = deque()
        self.last_batch = 0
        self.closed = False

    def submit(self, batch: Batch) -> None:
        assert len(self.in_flight) < self.depth
        for chunk in batch.chunks:
            assert chunk.follows in (None, self.last_batch), "a chunk may follow the last batch only"
            before = [one for other in self.in_flight for one in other.chunks if one.request_id == chunk.request_id]
            assert not before or (self.overlap.decode if before[-1].samples else self.overlap.prefill), "in flight twice"
            assert not any(one.drafts for one in before), "a batch is planned behind drafts"
        self.requests.apply(batch)
        self.in_flight.append(batch)
        self.last_batch = batch.id

    def collect(self) -> BatchResult:
        batch = self.in_flight.popleft()
        for chunk in batch.chunks:
            for offset, token in enumerate(self._tokens(chunk)):
                self._write(chunk, chunk.start + offset, token)
        rows = tuple(self._sample(chunk) for chunk in batch.chunks)
        self.sampled |= {(batch.id, chunk.request_id): row[0] for chunk, row in zip(batch.chunks, rows, strict=True) if row}
        result = BatchResult(batch.id, rows)
        self.requests.receive(batch, result)
        return result

    def _tokens(self, chunk: Chunk) -> tuple[int, ...]:
        if chunk.follows is None:
            return chunk.tokens
        assert self.overlap.decode, "this executor was told to follow"
        assert len(chunk.tokens) == 1
        return (self.sampled[chunk.follows, chunk.request_id],)

    def close(self) -> None:
        self.closed = True

    def _slots(self, chunk: Chunk, position: int) -> list[tuple[int, int]]:
        """Where a position lies in every group of layers."""
        block, offset = divmod(position, self.block_size)
        tables = self.requests[chunk.request_id].blocks
        return [(group, table[block] * self.block_size + offset) for group, table in enumerate(tables)]

    def _write(self, chunk: Chunk, position: int, token: int) -> None:
        self.memory |= dict.fromkeys(self._slots(chunk, position), token)

    def _read(self, chunk: Chunk, position: int) -> int:
        (token,) = {self.memory[slot] for slot in self._slots(chunk, position)}  # all groups agree
        return token

    def _sample(self, chunk: Chunk) -> tuple[int, ...]:
        """One token behind every row that draws one, and of these what holds."""
        if chunk.drafts is None:
            return ()
        known = [self._read(chunk, position) for position in range(chunk.end)]
        return accepted(chunk, tuple(next_token(known[:end]) for end in range(chunk.end - chunk.drafts, chunk.end + 1)))


class GuessingDrafter:
    """Knows this world's model, and errs now and then."""

    def __init__(self, seed: int = 0, right: float = 0.7) -> None:
        self.rng, self.right = random.Random(seed), right
        self.guesses = 0

    def draft(self, request: Request, most: int) -> tuple[int, ...]:
        sequence, guesses = [*request.prompt, *request.output], []
        for _ in range(self.rng.randint(0, min(most, 4))):
            guess = next_token(sequence)
            guesses.append(guess if self.rng.random() < self.right else (guess + 1) % VOCABULARY)
            sequence.append(guesses[-1])
        self.guesses += len(guesses)
        return tuple(guesses)


@dataclass
class Record(Observer):
    """An observer that writes everything down, and checks what must hold in every iteration."""

    limits: Limits
    block_size: int
    shares: bool  # whether the manager lets requests share blocks
    overlap: Overlap = NO_OVERLAP  # how a request may be in several batches in flight
    submitted: list[str] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    unserved: list[Unserved] = field(default_factory=list)  # beside each batch
    tokens: dict[str, list[int]] = field(default_factory=dict)
    endings: dict[str, Finished] = field(default_factory=dict)
    known: RequestStates = field(default_factory=RequestStates)  # what executors know
    _in_flight: list[tuple[Batch, dict[str, tuple[int, ...]]]] = field(default_factory=list)  # and every group's tables

    def on_submit(self, submitted: Submitted) -> None:
        self.submitted.append(submitted.request_id)
        self.tokens[submitted.request_id] = []

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        assert 1 <= len(batch.chunks) <= self.limits.max_batch_size
        assert 1 <= batch.num_tokens <= self.limits.max_batch_tokens
        assert all(chunk.tokens for chunk in batch.chunks)
        self._check_deltas(batch)
        self.known.apply(batch)
        self.batches.append(batch)
        self.unserved.append(unserved)
        tables = {chunk.request_id: tuple(chain(*self.known[chunk.request_id].blocks)) for chunk in batch.chunks}
        self._in_flight.append((batch, tables))
        chunks = [chunk for one, _ in self._in_flight for chunk in one.chunks]
        held = {name: table for _, tables in self._in_flight for name, table in tables.items()}  # the newest of each request
        blocks = [block for table in held.values() for block in table]
        if any(self.overlap) or len(set(blocks)) < len(blocks):  # else no two tables have a block in common
            self._check_private(chunks, held, Counter(blocks))
        ids = [chunk.request_id for chunk in chunks]
        assert any(self.overlap) or len(ids) == len(set(ids)), "a request is in flight twice"
        assert len({chunk.request_id for chunk in batch.chunks}) == len(batch.chunks), "a request is in a batch twice"

    def _check_deltas(self, batch: Batch) -> None:
        """`new` comes with a first chunk; `removed` names what executors know, once its last batch was collected."""
        new, removed, ids = ([one.request_id for one in batch.new], batch.removed, {chunk.request_id for chunk in batch.chunks})
        assert set(new) <= ids
        assert len(new) == len(set(new))
        assert len(removed) == len(set(removed))
        assert all(name in self.known for name in removed), "an executor does not know what it shall forget"
        assert all(name not in self.known or name in removed for name in new), "an executor knows a new request"
        assert all(name in new or (name in self.known and name not in removed) for name in ids), "a chunk of an unknown request"
        in_flight = {chunk.request_id for one, _ in self._in_flight for chunk in one.chunks}
        assert not in_flight.intersection(removed), "a request is removed while in flight"

    def _check_private(self, chunks: Sequence[Chunk], tables: Mapping[str, tuple[int, ...]], users: Counter[int]) -> None:
        """What is written belongs to one request alone; what is only read may be shared."""
        for chunk in chunks:
            groups = len(self.known[chunk.request_id].blocks)
            table = tables[chunk.request_id]
            size = len(table) // groups
            first, last = chunk.start // self.block_size, (chunk.end - 1) // self.block_size
            written = [table[group * size + place] for group in range(groups) for place in range(first, last + 1)]
            assert all(users[block] == 1 for block in (written if self.shares else table)), "a block belongs to two requests"

    def on_step(self, batch: Batch, result: BatchResult, now: float) -> None:
        assert self._in_flight.pop(0)[0] is batch, "batches return in order"
        self.known.receive(batch, result)

    def on_events(self, events: Sequence[Event]) -> None:
        for event in events:
            assert event.request_id not in self.endings, "something happened after the end"
            if isinstance(event, Token):
                self.tokens[event.request_id].append(event.token)
            else:
                self.endings[event.request_id] = event


@dataclass
class World:
    """A wired engine without a machine."""

    engine: Engine
    kv: KVManager
    record: Record


def build_world(
    policy: Policy,
    kv: str | Callable[[], KVManager],
    *,
    depth: int = 1,
    overlap: Overlap = NO_OVERLAP,
    drafter: Drafter | None = None,
    num_blocks: int = 24,
    block_size: int = 4,
    limits: Limits | None = None,
    order: str = "fcfs",
) -> World:
    limits = limits or Limits(max_batch_size=4, max_batch_tokens=64, max_model_len=40)
    manager = KV_MANAGERS[kv](num_blocks, block_size, limits) if isinstance(kv, str) else kv()
    record = Record(limits, manager.block_size, manager.stats is not None, overlap)
    executor = MemoryExecutor(depth, manager.block_size, overlap)
    engine = Engine(Scheduler(policy, manager, limits, make_order(order), drafter), executor, StepClock(), [record])
    return World(engine, manager, record)


@dataclass(frozen=True)
class Job:
    """A request that arrives before iteration `when`, and is perhaps cancelled before another."""

    when: int
    prompt: tuple[int, ...]
    params: SamplingParams
    cancelled_at: int | None = None
    context: RequestContext = RequestContext()


def random_jobs(rng: random.Random, count: int, *, cancels: bool = False, longest: int = 24) -> list[Job]:
    """Requests of all sizes in bursts and lulls; some begin alike, and some stop early at a stop token."""
    jobs, when = [], 0
    prefixes = [tuple(rng.randrange(VOCABULARY) for _ in range(length)) for length in (4, 9, longest - 2)]
    for _ in range(count):
        when += rng.choice([0, 0, 0, 1, 2, 9])
        prompt = tuple(rng.randrange(VOCABULARY) for _ in range(rng.choice([1, 2, 5, longest])))
        if rng.random() < 0.4:
            prompt = (rng.choice(prefixes) + prompt)[:longest]
        stops = tuple(rng.sample(range(VOCABULARY), 3)) if rng.random() < 0.5 else ()
        params = SamplingParams(max_tokens=rng.randint(1, 14), stop_token_ids=stops, seed=0)
        cancelled = when + rng.randrange(12) if cancels and rng.random() < 0.4 else None
        jobs.append(Job(when, prompt, params, cancelled, RequestContext(rng.randint(-1, 2), rng.choice("aab"))))
    return jobs


def run(world: World, jobs: Sequence[Job], *, most_steps: int = 5000) -> list[Request]:
    """Drive the engine through all jobs until it is idle."""
    engine, requests = world.engine, []
    waiting, step = deque(enumerate(jobs)), 0
    while waiting or not engine.idle:
        while waiting and waiting[0][1].when <= step:
            index, job = waiting.popleft()
            requests.append(Request(f"r{index}", job.prompt, job.params, engine.clock.now(), job.context))
            engine.submit(requests[-1])
        for index, job in enumerate(jobs):
            if job.cancelled_at == step:
                engine.cancel(f"r{index}")
        engine.step()
        step += 1
        assert step < most_steps, "the engine spins"
    return requests


def check_all(world: World, jobs: Sequence[Job], requests: Sequence[Request]) -> None:
    """What holds when everything is over, under any policy and manager."""
    assert world.kv.num_free == world.kv.num_blocks, "blocks leaked"
    assert world.engine.dropped_observers == []
    for job, request in zip(jobs, requests, strict=True):
        given, ending = world.record.tokens[request.id], world.record.endings[request.id]
        expected = solo(job.prompt, job.params)
        if ending.reason in (Finish.STOP, Finish.LENGTH):
            assert given == expected
            assert ending.reason is (Finish.STOP if expected[-1] in job.params.stop_token_ids else Finish.LENGTH)
        else:
            assert ending.reason in (Finish.CANCELLED, Finish.REJECTED)
            assert given == expected[: len(given)]
            assert job.cancelled_at is not None or ending.reason is Finish.REJECTED
