"""A server of the OpenAI API as a system to measure."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from orcinus.bench.client.bodies import Form
from orcinus.bench.client.load import Load, execute
from orcinus.bench.client.probe import meet
from orcinus.bench.client.prompts import asked
from orcinus.bench.client.target import Target
from orcinus.bench.config import LoadConfig, ServerConfig, work_of
from orcinus.bench.keep import Bar, Interrupted, make_result, measure_sides, no_bar
from orcinus.bench.measure import read_objectives
from orcinus.bench.record import Repeat
from orcinus.bench.result import Result, Setting, Work
from orcinus.errors import ConfigError
from orcinus.workload.processes import AllAtOnce
from orcinus.workload.workload import Workload

WARM_UP = 8  # requests


@dataclass(frozen=True, slots=True)
class ServerSystem:
    """A server that was met, and how it is measured."""

    name: str
    form: Form
    config: ServerConfig

    @property
    def settings(self) -> dict[str, Setting]:
        return {
            "url": self.form.target.url,
            "api": self.form.target.api,
            "prompts": "text" if self.form.target.text else "ids",
            "exact_lengths": self.form.exact_lengths,
            "tokens_counted_by": self.form.counted,
            "fields_refused": ", ".join(self.form.dialect.unused),
        }

    def measure(self, workload: Workload, number: int = 0, watch: Callable[[int], None] | None = None) -> Repeat:
        timeout, delay = self.config.timeout, self.config.max_delay
        load = Load(self.form, workload, timeout=timeout, max_delay=delay, round=number, watch=watch)
        try:
            return execute(load.run())
        except KeyboardInterrupt:
            raise Interrupted(load.so_far()) from None

    def warm_up(self, workload: Workload) -> None:
        """A few requests at once."""
        few = WARM_UP if workload.requests is None else min(WARM_UP, workload.requests)
        self.measure(replace(workload, arrivals=AllAtOnce(), requests=few))


def server_system(config: ServerConfig, load: LoadConfig, model: str | None, seed: int) -> tuple[ServerSystem, Work]:
    """Meet the server: find its model and what it understands. Raises `ConfigError` if it cannot be measured."""
    workload = load.make(seed)
    if workload.endless:
        raise ConfigError("the workload has no end: say how many requests")
    form = execute(meet(_target(config, model), exact_lengths=not config.any_length))
    requests = list(asked(workload, form.prompts, exact_lengths=form.exact_lengths))
    name = f"{form.target.model} at {form.target.place.netloc}"
    work = work_of(load, seed, requests, form.target.model)
    tokens = sum(arrival.prompt_tokens for arrival in workload.untimed())  # which words are not
    return ServerSystem(name, form, config), replace(work, prompt_tokens=tokens)


def run_server(config: ServerConfig, load: LoadConfig, model: str | None, seed: int, bar: Bar = no_bar) -> Result:
    """Let a server serve the workload, as often as `load` says. Ctrl-C ends it with what was measured until then.

    Raises `ConfigError` before the load begins.
    """
    objectives = read_objectives(load.goodput)
    system, work = server_system(config, load, model, seed)
    sides, complete = measure_sides([system], load.make(seed), load.repeats, work.requests, bar)
    return make_result("serve", work, sides, objectives=objectives, complete=complete)


def _target(config: ServerConfig, model: str | None) -> Target:
    key = config.api_key or os.environ.get("OPENAI_API_KEY")
    words: Any = {"api": config.api, "prompts": config.prompts}
    return Target(config.url or "", model or "", key=key or None, **words)
