"""A server of the OpenAI API, as a system to measure."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from orcinus.bench.client.bodies import Form
from orcinus.bench.client.cache_counters import cache_counters
from orcinus.bench.client.load_generator import LoadGenerator, execute
from orcinus.bench.client.probe import find_revision, meet
from orcinus.bench.client.prompts import asked
from orcinus.bench.client.target import Target
from orcinus.bench.config import EndpointConfig, LoadConfig, work_of
from orcinus.bench.measure import is_good, read_slo
from orcinus.bench.record import Repeat, RequestOutcome
from orcinus.bench.result import Result, Setting, Work
from orcinus.bench.runner import Bar, Interrupted, make_result, measure_sides, no_bar
from orcinus.errors import ConfigError
from orcinus.server_address import KEYS
from orcinus.workload.processes import AllAtOnce
from orcinus.workload.workload import Workload

WARM_UP = 8  # requests


def _new_draws() -> Iterator[int]:
    """Draw numbers that no other run uses, in any process."""
    return count(secrets.randbits(48) + 1)


@dataclass(frozen=True, slots=True)
class ServerSystem:
    """A server under load; every run and the warm-up have new prompts."""

    name: str
    form: Form
    config: EndpointConfig
    _draws: Iterator[int] = field(default_factory=_new_draws)

    @property
    def settings(self) -> dict[str, Setting]:
        return {
            "url": self.form.target.url,
            "api": self.form.target.api,
            "prompts": "text" if self.form.target.text else "ids",
            "exact_lengths": self.form.exact_lengths,
            "tokens_counted_by": self.form.counted,
            "slo": self.config.slo,
            "fields_refused": ", ".join(self.form.dialect.unused),
            "revision": self.form.revision,
        }

    def measure(self, workload: Workload, number: int = 0, watch: Callable[[int], None] | None = None) -> Repeat:
        timeout, delay = self.config.timeout, self.config.max_delay
        draw = 0 if self.config.keep_prompts else next(self._draws)
        load = LoadGenerator(self.form, workload, timeout=timeout, max_delay=delay, round=number, draw=draw, watch=watch)
        try:
            return execute(self._run(load))
        except KeyboardInterrupt:
            raise Interrupted(load.so_far()) from None

    async def _run(self, load: LoadGenerator) -> Repeat:
        """One run, with the server's prefix hit rate if it reports one."""
        before = await cache_counters(self.form.target)
        repeat = self._with_promises(await load.run())
        after = None if before is None else await cache_counters(self.form.target)
        share = None if before is None or after is None else after.share_since(before)
        return repeat if share is None else replace(repeat, counters=repeat.counters | {"prefix_hit_rate": share})

    def _with_promises(self, repeat: Repeat) -> Repeat:
        """The run with the shares of promises kept and requests refused, if requests had an SLO."""
        slo = read_slo(self.config.slo)
        accepted = [request for request in repeat.requests if request.outcome is not RequestOutcome.REJECTED]
        if not slo.bounds or not repeat.requests:
            return repeat
        kept = sum(request.outcome is RequestOutcome.OK and is_good(request, slo) for request in accepted)
        shares = {"refused": 1 - len(accepted) / len(repeat.requests)}
        shares |= {"promises_kept": kept / len(accepted)} if accepted else {}
        return replace(repeat, counters=repeat.counters | shares)

    def warm_up(self, workload: Workload) -> None:
        """Send a few requests at once."""
        few = WARM_UP if workload.requests is None else min(WARM_UP, workload.requests)
        self.measure(replace(workload, arrivals=AllAtOnce(), requests=few))


def server_system(config: EndpointConfig, load: LoadConfig, model: str | None, seed: int) -> tuple[ServerSystem, Work]:
    """The server as a system, and its work. Raises `ConfigError`."""
    workload = load.make(seed)
    if workload.endless:
        raise ConfigError("the workload has no end: say how many requests")
    form = execute(meet(_target(config, model), exact_lengths=not config.any_length))
    if model:
        form = replace(form, revision=execute(find_revision(form.target)))
    requests = list(asked(workload, form.prompts, exact_lengths=form.exact_lengths))
    if slo := dict(read_slo(config.slo).bounds):
        form = replace(form, target=replace(form.target, extra={**form.target.extra, "slo": slo}))
    name = f"{form.target.model} at {form.target.place.netloc}"
    work = work_of(load, seed, requests, form.target.model)
    tokens = sum(arrival.prompt_tokens for arrival in workload.untimed())  # counted in tokens, not in words
    shared = form.prompts.tokens(work.shared_tokens or 0, len(requests))
    work = replace(work, prompt_tokens=tokens, shared_tokens=shared, keep_prompts=config.keep_prompts)
    return ServerSystem(name, form, config), work


def run_server(config: EndpointConfig, load: LoadConfig, model: str | None, seed: int, bar: Bar = no_bar) -> Result:
    """Measure a server under load. Ctrl-C keeps the measurements so far.

    Raises `ConfigError` before the load begins.
    """
    load = config.counted(load)
    slo = read_slo(load.goodput)
    system, work = server_system(config, load, model, seed)
    sides, complete = measure_sides([system], load.make(seed), load.repeats, work.requests, bar)
    return make_result("serve", work, sides, objectives=dict(slo.bounds), complete=complete)


def _target(config: EndpointConfig, model: str | None) -> Target:
    key = config.api_key or next(filter(None, map(os.environ.get, KEYS)), None)
    words: Any = {"api": config.api, "prompts": config.prompts}
    return Target(config.url or "", model or "", key=key, **words)
