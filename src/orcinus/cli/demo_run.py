"""One run of the demo: all prompts under one policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from orcinus.core.batch import Batch, BatchResult
from orcinus.core.component_spec import make_policy
from orcinus.core.ports import Observer
from orcinus.core.sampling_params import SamplingParams
from orcinus.observe.latency import LatencyObserver
from orcinus.observe.slots import SlotObserver


@dataclass(slots=True)
class Run:
    """One policy's run, during and after it."""

    policy: str
    prompts: tuple[str, ...]
    slots: SlotObserver
    number: int = 0  # of the round
    latency: LatencyObserver = field(default_factory=LatencyObserver)
    texts: list[str] = field(default_factory=list)
    token_ids: list[list[int]] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.texts = [""] * len(self.prompts)
        self.token_ids = [[] for _ in self.prompts]
        self.reasons = [None] * len(self.prompts)

    @property
    def held(self) -> bool:
        """Whether the policy returns answers only when their batch has ended."""
        return make_policy(self.policy).holds_answers

    def index(self, request_id: str) -> int:
        """The prompt of a request, by the order of submission."""
        return list(self.latency.requests).index(request_id)


@dataclass(frozen=True, slots=True)
class _Watch(Observer):
    """Counts every iteration, also those without text."""

    look: Callable[[], None]

    def on_step(self, batch: Batch, result: BatchResult, now: float) -> None:
        self.look()


def serve(llm: Any, run: Run, prompts: list[Any], params: SamplingParams, watch: Callable[[], None]) -> None:
    """Serve all prompts with the run's policy.

    It calls `watch` after every iteration.
    """
    llm.engine.use(make_policy(run.policy))
    others = list(llm.engine.observers)
    llm.engine.observers += [run.slots, run.latency, _Watch(watch)]
    for piece in llm.stream(prompts, params, cache_salt=f"{run.policy} {run.number}"):  # shares no prefix with other runs
        run.texts[piece.index] += piece.text
        if piece.token_id is not None:
            run.token_ids[piece.index].append(piece.token_id)
        run.reasons[piece.index] = piece.finish_reason
        run.errors += [piece.error] if piece.error else []
    llm.engine.observers[:] = [one for one in llm.engine.observers if one in others]
