"""Policies against slow, literal transcriptions of the papers' pseudocode, on thousands of random workloads."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from orcinus.core.batch import Batch
from orcinus.core.kv import Reservation
from orcinus.core.policies import ChunkedOnly, FasterTransformer, PrefillFirst, RequestLevel, Sarathi, StallFree
from orcinus.core.ports import Policy
from orcinus.core.view import Limits
from tests.examples import fewer
from tests.worlds import Job, build_world, next_token, random_jobs, run

Planned = list[tuple["Pooled", int]]  # who runs, and how many tokens
WORKLOADS = 100  # of each policy at each depth


@dataclass(eq=False)
class Pooled:
    """A request as the pseudocode sees it."""

    name: str
    prompt: tuple[int, ...]
    most: int  # tokens it may hold when it is done
    stops: tuple[int, ...]
    prefilled: int = 0
    tokens: list[int] = field(default_factory=list)
    admitted: bool = False
    in_flight: bool = False

    @property
    def prompt_left(self) -> int:
        return len(self.prompt) - self.prefilled


@dataclass
class Machine:
    """What the pseudocode takes for granted: the pool in order of arrival, memory, and the largest batch."""

    max_bs: int
    n_slots: int
    pool: list[Pooled] = field(default_factory=list)
    reserved: int = 0

    @property
    def free_to_run(self) -> list[Pooled]:
        return [r for r in self.pool if r.admitted and not r.in_flight]

    @property
    def queue(self) -> list[Pooled]:
        return [r for r in self.pool if not r.admitted]

    def fits(self, request: Pooled) -> bool:
        return self.reserved + request.most <= self.n_slots

    def admit(self, request: Pooled) -> None:
        request.admitted = True
        self.reserved += request.most


Select = Callable[[Machine], Planned]


def batches_of(jobs: Sequence[Job], n_workers: int, machine: Machine, select: Select) -> list[tuple[tuple[str, int], ...]]:
    """The batches that a loop around `select` launches. One turn = launch all it can, wait for the oldest."""
    found: list[tuple[tuple[str, int], ...]] = []
    launched: deque[Planned] = deque()
    arrivals, turn = deque(enumerate(jobs)), 0
    while arrivals or machine.pool:
        while arrivals and arrivals[0][1].when <= turn:
            index, job = arrivals.popleft()
            most = len(job.prompt) + (job.params.max_tokens or 0)
            machine.pool.append(Pooled(f"r{index}", job.prompt, most, job.params.stop_token_ids))
        while len(launched) < n_workers and (batch := select(machine)):
            found.append(tuple((r.name, count) for r, count in batch))
            for r, _ in batch:
                r.in_flight = True
            launched.append(batch)
        turn += 1
        if not launched:
            continue
        for r, count in launched.popleft():
            r.in_flight = False
            r.prefilled = min(len(r.prompt), r.prefilled + count)
            if r.prompt_left:
                continue
            r.tokens.append(next_token([*r.prompt, *r.tokens]))
            if r.tokens[-1] in r.stops or len(r.prompt) + len(r.tokens) == r.most:
                machine.reserved -= r.most
                machine.pool.remove(r)
    return found


def request_level(machine: Machine) -> Planned:
    """Sarathi-Serve, Algorithm 1: admit only when the batch is empty, prefill all, then decode all to the end."""
    if any(r.admitted for r in machine.pool):
        return [(r, max(1, r.prompt_left)) for r in machine.free_to_run]
    batch: Planned = []
    for r in machine.queue:
        if len(batch) == machine.max_bs or not machine.fits(r):
            break
        machine.admit(r)
        batch.append((r, len(r.prompt)))
    return batch


def fastertransformer(machine: Machine) -> Planned:
    """Orca, section 6: the first iteration as if every prompt had the shortest length, the rest token by token."""
    if any(r.admitted for r in machine.pool):
        return [(r, 1) for r in machine.free_to_run]
    batch = machine.queue[: machine.max_bs]
    for r in batch:
        machine.admit(r)
    return [(r, min(len(other.prompt) for other in batch)) for r in batch]


def prefill_first(machine: Machine) -> Planned:
    """Sarathi-Serve, Algorithm 2: if anything can be admitted, a prefill-only iteration, else a decode for all."""
    batch: Planned = []
    for r in machine.queue:
        if len(machine.free_to_run) >= machine.max_bs or not machine.fits(r):
            break
        machine.admit(r)
        batch.append((r, len(r.prompt)))
    return batch or [(r, 1) for r in machine.free_to_run[: machine.max_bs]]


def sarathi(chunk_size: int) -> Select:
    """SARATHI, section 4.3: decodes, and one chunk of exactly one prompt that fills the batch up to the chunk size."""

    def select(machine: Machine) -> Planned:
        batch = [(r, 1) for r in machine.free_to_run if r.prompt_left == 0]
        room = chunk_size - len(batch)
        prompts = [r for r in machine.free_to_run if r.prompt_left]
        if room > 0 and not prompts:
            for r in machine.queue[:1]:
                if len(machine.free_to_run) < machine.max_bs and machine.fits(r):
                    machine.admit(r)
                    prompts = [r]
        if room > 0 and prompts:
            batch.append((prompts[0], min(prompts[0].prompt_left, room)))
        return batch

    return select


def stall_free(tau: int) -> Select:
    """Sarathi-Serve, Algorithm 3."""

    def select(machine: Machine) -> Planned:
        decodes = [(r, 1) for r in machine.free_to_run if r.prompt_left == 0]
        return decodes + chunks(machine, tau, len(decodes))

    return select


def chunks(machine: Machine, tau: int, n: int) -> Planned:
    """Sarathi-Serve, Algorithm 3, lines 9 to 20: chunks of prompts, up to tau tokens with the n that there are."""
    batch: Planned = []
    for r in [r for r in machine.free_to_run if r.prompt_left]:
        c = min(r.prompt_left, tau - n)
        if c > 0:
            batch.append((r, c))
            n += c
    for r in machine.queue:
        if n >= tau or len(machine.free_to_run) >= machine.max_bs or not machine.fits(r):
            break
        c = min(len(r.prompt), tau - n)
        machine.admit(r)
        batch.append((r, c))
        n += c
    return batch


def chunked_only(tau: int) -> Select:
    """Sarathi-Serve, section 5.4.2 and the artefact's simple chunking: iterations of chunks and of decodes take turns."""
    launched = 0

    def select(machine: Machine) -> Planned:
        nonlocal launched
        decodes = [(r, 1) for r in machine.free_to_run if r.prompt_left == 0][: machine.max_bs]
        batch = decodes if decodes and launched % 2 else chunks(machine, tau, 0) or decodes
        launched += bool(batch)
        return batch

    return select


PAIRS: dict[str, Callable[[random.Random], tuple[Policy, Select]]] = {
    "request-level": lambda rng: (RequestLevel(), request_level),
    "prefill-first": lambda rng: (PrefillFirst(), prefill_first),
    "sarathi": lambda rng: (Sarathi(size := rng.randint(1, 30)), sarathi(size)),
    "stall-free": lambda rng: (StallFree(tau := rng.randint(1, 30)), stall_free(tau)),
    "fastertransformer": lambda rng: (FasterTransformer(), fastertransformer),
    "chunked-only": lambda rng: (ChunkedOnly(tau := rng.randint(1, 30)), chunked_only(tau)),
}


@pytest.mark.parametrize("n_workers", [1, 2, 4])
@pytest.mark.parametrize("name", PAIRS)
def test_batches_equal_the_pseudocode(name: str, n_workers: int) -> None:
    for seed in range(fewer(WORKLOADS)):
        rng = random.Random(seed)
        policy, select = PAIRS[name](rng)
        max_bs = rng.randint(1, 6)
        n_slots = 10_000 if name == "fastertransformer" else rng.randint(40, 150)  # it has room for whole batches
        jobs = random_jobs(rng, 20)
        limits = Limits(max_bs, max_batch_tokens=10_000, max_model_len=40)
        world = build_world(policy, lambda n=n_slots: Reservation(n, 1), depth=n_workers, limits=limits)
        run(world, jobs)
        ours = [tuple((chunk.request_id, len(chunk.tokens)) for chunk in batch.chunks) for batch in world.record.batches]
        assert ours == batches_of(jobs, n_workers, Machine(max_bs, n_slots), select), f"workload {seed}"


@pytest.mark.parametrize("chunk_size", [1, 2, 5, 16])
def test_sarathi_keeps_the_batch_at_the_chunk_size(chunk_size: int) -> None:
    """Full chunks make batches of exactly C tokens; and however many decodes there are, the budget is never negative."""
    full = 0
    for seed in range(fewer(30)):
        world = build_world(Sarathi(chunk_size), "reservation", num_blocks=40)
        run(world, random_jobs(random.Random(seed), 25))
        for batch in world.record.batches:
            prompts = [chunk for chunk in batch.chunks if chunk.prefill]
            assert len(prompts) <= 1
            decodes = len(batch.chunks) - len(prompts)
            assert batch.num_tokens <= max(chunk_size, decodes)
            if prompts and not prompts[0].samples:
                assert batch.num_tokens == chunk_size
                full += 1
    assert full > 30


@pytest.mark.parametrize("token_budget", [1, 3, 64])
def test_stall_free_leaves_no_decode_out(token_budget: int) -> None:
    """A request that was given a token is in every batch from then on, until its last."""
    for seed in range(fewer(30)):
        world = build_world(StallFree(token_budget), "reservation", num_blocks=40)
        run(world, random_jobs(random.Random(seed), 25))
        ran: dict[str, list[Batch]] = {}
        for batch in world.record.batches:
            for chunk in batch.chunks:
                if not chunk.prefill:
                    ran.setdefault(chunk.request_id, []).append(batch)
        for batches in ran.values():
            assert [batch.id for batch in batches] == list(range(batches[0].id, batches[-1].id + 1))


@pytest.mark.parametrize("prompt_budget", [0, 5, 40])
def test_only_decodes_hold_the_first_prompt_of_a_stall_free_iteration_down(prompt_budget: int) -> None:
    """With a decode an iteration has `token_budget` tokens; without one the first prompt may have `prompt_budget`."""
    longest: dict[bool, int] = {True: 0, False: 0}
    for seed in range(fewer(30)):
        world = build_world(StallFree(8, prompt_budget), "reservation", num_blocks=40)
        run(world, random_jobs(random.Random(seed), 25))
        for batch in world.record.batches:
            decoding = any(not chunk.prefill for chunk in batch.chunks)
            longest[decoding] = max(longest[decoding], batch.num_tokens)
            assert len(batch.chunks[0].tokens) == batch.num_tokens or batch.num_tokens <= 8, (
                "beyond it there is one prompt alone"
            )
    assert longest[True] == 8
    assert 8 < longest[False] <= 40 if prompt_budget == 40 else longest[False] == 8


@pytest.mark.parametrize("policy", [PrefillFirst(), ChunkedOnly(8)])
def test_phases_are_never_mixed(policy: Policy) -> None:
    for seed in range(fewer(30)):
        world = build_world(policy, "paged", num_blocks=16)
        run(world, random_jobs(random.Random(seed), 25))
        for batch in world.record.batches:
            assert len({len(chunk.tokens) == 1 and not chunk.prefill for chunk in batch.chunks}) == 1
