"""A simulated replica: a real engine with a simulated executor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

from orcinus.core.batch import Event, Finished
from orcinus.core.component_spec import make_order, make_policy
from orcinus.core.engine import Engine
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.ports import KVManager, Observer, Policy
from orcinus.core.request import Request
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.scheduler import Scheduler
from orcinus.core.view import Limits
from orcinus.cost.work import CostModel
from orcinus.sim.clock import VirtualClock
from orcinus.sim.executor import END, SimulatedExecutor
from orcinus.sim.jitter import Jitter
from orcinus.sim.repeats import MADE_UP, NothingLearnt, RepeatingScheduler
from orcinus.workload.arrival import Arrival

ANSWER = 128  # tokens: what a request still generates, for routers
REMEMBERED = 1024  # lengths whose prompts and parameters are kept: more for arXiv's prompts of 16,000 tokens would be 100 MiB


@lru_cache(maxsize=REMEMBERED)
def params_of(max_tokens: int, ends_early: bool) -> SamplingParams:
    """A request's parameters; checking them takes as long as an iteration."""
    return SamplingParams(max_tokens=max_tokens, seed=0, stop_token_ids=(END,) if ends_early else ())


def _prefix_token(prefix: str) -> int:
    """The token of which a shared prefix is made: odd and negative, unlike those of requests and of a trace's blocks.

    It is found from the name alone, so that a long simulation need not remember every prefix.
    """
    return -1 - 2 * int.from_bytes(blake2b(prefix.encode(), digest_size=7).digest())


@lru_cache(maxsize=REMEMBERED)
def blank_prompt(tokens: int) -> tuple[int, ...]:
    """A prompt that shares nothing: without a prefix cache all of one length are equivalent, on every replica."""
    return (MADE_UP,) * tokens


def fixed_slots(policy: Policy, kv: KVManager, limits: Limits) -> int:
    """Batch size every iteration is charged for; 0 = the actual one."""
    if not getattr(policy, "pads_batches", False):
        return 0
    return min(limits.max_batch_size, kv.num_blocks * kv.block_size // limits.max_model_len)


class Replica:
    """A simulated engine, and its load.

    `repeat` lets it decide equal iterations at once. Its observers must then understand `RepeatedResult`.
    """

    def __init__(
        self,
        index: int,
        cost: CostModel,
        clock: VirtualClock,
        *,
        policy: str,
        order: str,
        kv: str,
        limits: Limits,
        num_blocks: int,
        block_size: int,
        depth: int | None = None,
        observers: Sequence[Observer] = (),
        repeat: bool = True,
        jitter: Jitter | None = None,
    ) -> None:
        self.index, self.clock = index, clock
        chosen = make_policy(policy)
        self.kv = KV_MANAGERS[kv](num_blocks, block_size, limits)
        self.executor = SimulatedExecutor(cost, clock, depth, fixed_slots(chosen, self.kv, limits), jitter)
        alone = self.executor.depth == cost.num_stages == 1
        kind = RepeatingScheduler if alone and repeat else Scheduler
        self.scheduler = kind(chosen, self.kv, limits, make_order(order))
        if getattr(chosen, "steady", False):
            self.scheduler.step_time = NothingLearnt()
        self.engine = Engine(self.scheduler, self.executor, clock, observers)
        self.left: dict[str, int] = {}  # tokens of every request that has not ended, prompt and answer
        self.work = 0  # their sum, which only a simulation knows
        self._queued_tokens = 0  # the sum of the next
        self._queued: dict[str, int] = {}  # prompt tokens of requests without a first token

    @property
    def outstanding(self) -> int:
        """Requests that have not ended."""
        return len(self.left)

    @property
    def answer_tokens(self) -> int:
        """A server's estimate of its answers' tokens.

        A constant per request, because the `max_tokens` of simulated requests are often their real lengths.
        """
        return ANSWER * self.outstanding

    @property
    def queued_tokens(self) -> int:
        """Prompt tokens of requests without a first token, which a server knows too."""
        begun = self.executor.begun(self.clock.now()) if self._queued else ()
        return self._queued_tokens - sum(self._queued.get(chunk.request_id, 0) for chunk in begun)

    @property
    def next_end(self) -> float | None:
        return self.executor.next_end

    def submit(self, request_id: str, arrival: Arrival) -> list[Finished]:
        """Submit a request; returns its rejection, if any. Call `dispatch` after the last one of a moment."""
        now = self.clock.now()
        self.executor.interrupt(now)
        ends_early = arrival.output_tokens < arrival.asked_tokens
        params = params_of(arrival.asked_tokens, ends_early)
        request = Request(request_id, self._prompt(request_id, arrival), params, now, arrival.context)
        self.left[request_id] = arrival.total_tokens
        self.work += arrival.total_tokens
        self._queued[request_id] = arrival.prompt_tokens
        self._queued_tokens += arrival.prompt_tokens
        if ends_early:
            self.executor.answers[request_id] = arrival.output_tokens
        return self._heard(self.engine.submit(request))

    def dispatch(self) -> None:
        self.engine.dispatch()

    def settle(self) -> list[Finished]:
        """Settle the oldest batch, which ends now, and start another; returns the endings."""
        endings = self._heard(self.engine.settle())
        self.engine.dispatch()
        return endings

    def _heard(self, events: list[Event]) -> list[Finished]:
        if self._queued:
            for event in events:
                self._queued_tokens -= self._queued.pop(event.request_id, 0)
        endings = [event for event in events if isinstance(event, Finished)]
        for ending in endings:
            self.work -= self.left.pop(ending.request_id)
            self.executor.answers.pop(ending.request_id, None)  # of a rejected one
        return endings

    def _prompt(self, request_id: str, arrival: Arrival) -> tuple[int, ...]:
        """A made-up prompt; prompts are equal only in their shared prefix."""
        count = arrival.prompt_tokens
        if self.kv.stats is None:
            return blank_prompt(count)
        own = 2 + int(request_id)
        if arrival.blocks:
            named = tuple(-2 - 2 * block for block in arrival.blocks for _ in range(arrival.block_tokens))[:count]
            return named + (own,) * (count - len(named))
        prefix = _prefix_token(arrival.prefix) if arrival.prefix else own
        return (prefix,) * arrival.prefix_tokens + (own,) * (count - arrival.prefix_tokens)
