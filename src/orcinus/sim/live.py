"""Composition of a simulated engine for real clients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orcinus.clock import MonotonicClock
from orcinus.core.component_spec import make_order, make_policy
from orcinus.core.engine import Engine
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.ports import KVManager, Observer
from orcinus.core.scheduler import Scheduler
from orcinus.core.view import Limits
from orcinus.observe.dropped_observers import warn_of_dropped
from orcinus.observe.recorder import StepRecorder
from orcinus.sim.live_config import LiveConfig
from orcinus.sim.random_answers import AnswerGenerator, answer_lengths, read_vocabulary
from orcinus.sim.real_time import RealTimeClock, RealTimeExecutor
from orcinus.sim.replica import fixed_slots
from orcinus.sim.simulate import record_header, set_up


class _SlotsOfPolicy(Observer):
    """A switch of policy or limits also changes how many slots each iteration is charged for."""

    def __init__(self, executor: RealTimeExecutor, kv: KVManager) -> None:
        self._executor, self._kv = executor, kv

    def on_use(self, policy: str, order: str, limits: Limits, now: float) -> None:
        self._executor.slots = fixed_slots(make_policy(policy), self._kv, limits)


def build_live(config: LiveConfig, folder: Path, observers: Sequence[Observer] = ()) -> tuple[Engine, RealTimeExecutor]:
    """A simulated engine and its executor, for a server.

    Its texts come from the tokenizer in a folder. Its clock is the machine's, so measured latencies are real seconds: the
    simulated ones / `speed`. Raises `ConfigError` or `ModelError`.
    """
    setup = set_up(config)
    generator = AnswerGenerator(read_vocabulary(folder), answer_lengths(config.answer_lengths))
    policy, limits = make_policy(config.policy), setup.machine.limits
    kv = KV_MANAGERS[config.kv](setup.machine.num_blocks, setup.machine.block_size, limits)
    slots = fixed_slots(policy, kv, limits)
    machine, clock = setup.machine, RealTimeClock(config.speed)
    jitter = machine.jitter(f"seed {config.seed}, replica 0")
    executor = RealTimeExecutor(machine.cost, clock, generator, config.in_flight, slots, jitter)
    scheduler = Scheduler(policy, kv, limits, make_order(config.order))
    recorders = []
    if config.record is not None:
        recorders.append(StepRecorder(config.record, record_header(setup, executor.depth)))
    heard = [*observers, *recorders, _SlotsOfPolicy(executor, kv)]
    return Engine(scheduler, executor, MonotonicClock(), heard, on_dropped=warn_of_dropped), executor
