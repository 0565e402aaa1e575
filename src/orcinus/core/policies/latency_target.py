"""The largest iteration that keeps a promise about latency, predicted from the iterations so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from orcinus.core.batch import Reason, pairs
from orcinus.core.policies.phases import by_phase
from orcinus.core.request import Request
from orcinus.core.view import Grant, Selection, View
from orcinus.errors import ConfigError

LEAST = 16  # tokens of an iteration without decodes, or of one that can keep no promise anyway


@dataclass(frozen=True, slots=True)
class LatencyTarget:
    """Stall-free batching whose token budget is chosen anew for every iteration.

    It is the largest with which the iteration is predicted to end before the deadlines of all its decodes: `tbt` seconds
    after their newest tokens. Requests are admitted only as long as their decodes together would keep the target too. If
    `ttft` is given, an iteration also ends before the first deadline of a prompt that can still be met. The prediction is
    `view.step_time`, with its margin; a cold engine begins with small iterations and at most doubles them.
    """

    holds_answers: ClassVar[bool] = False
    tbt: float = 0.1  # seconds between tokens
    ttft: float | None = None  # seconds to the first token

    def __post_init__(self) -> None:
        for name, value in (("tbt", self.tbt), ("ttft", self.ttft)):
            if value is not None and not (isinstance(value, (int, float)) and 0 < value < math.inf):
                raise ConfigError(f"{name} of the policy 'latency-target' must be above 0 seconds, not {value!r}")

    def select(self, view: View) -> Selection:
        decodes, prompts = by_phase(view.running)
        prompts += view.waiting[: self._room(view, decodes, prompts)]
        grants = [*map(Grant, decodes), *(Grant(request, divisible=True) for request in prompts)]
        return Selection(grants, self._budget(view, decodes, prompts), otherwise=Reason.LATENCY)

    def _room(self, view: View, decodes: Sequence[Request], prompts: Sequence[Request]) -> int:
        """How many more requests could decode together within the target; one may always run."""
        held = [*decodes, *prompts]
        context = sum(request.known for request in held)
        room = 0 if held else 1
        for request in view.waiting[room:]:
            context += request.known
            count = len(held) + room + 1
            if view.step_time.margin * view.step_time.predict(count + LEAST, context, count) > self.tbt:
                break
            room += 1
        return room

    def _budget(self, view: View, decodes: Sequence[Request], prompts: Sequence[Request]) -> int:
        """The largest budget that keeps the deadlines, found by bisection: time grows with the budget."""
        time_left = self._time_left(view, decodes, prompts) / view.step_time.margin
        least = max(LEAST, len(decodes))
        low, high = len(decodes), min(max(view.step_time.trusted_tokens, least), view.limits.max_batch_tokens)
        if _predicted(view, decodes, prompts, low) > time_left:  # the target is out of reach: go on, but slowly
            return len(decodes) + LEAST if self._hopeless(view, decodes) else max(1, low)
        while low < high:
            middle = (low + high + 1) // 2
            if _predicted(view, decodes, prompts, middle) <= time_left:
                low = middle
            else:
                high = middle - 1
        return max(low, 1 if decodes else LEAST)

    def _hopeless(self, view: View, decodes: Sequence[Request]) -> bool:
        """Whether the decodes alone take longer than the target, so that no budget could keep it."""
        return _predicted(view, decodes, (), len(decodes)) > self.tbt

    def _time_left(self, view: View, decodes: Sequence[Request], prompts: Sequence[Request]) -> float:
        """Seconds until the first deadline that can be met."""
        deadlines = [request.newest_token + self.tbt for request in decodes if request.newest_token is not None]
        if self.ttft is not None:
            deadlines += [d for request in prompts if not request.output and (d := request.arrival + self.ttft) > view.now]
        return min(deadlines, default=math.inf) - view.now


def _predicted(view: View, decodes: Sequence[Request], prompts: Sequence[Request], budget: int) -> float:
    """Seconds of the iteration that a budget would lead to."""
    tokens, requests = len(decodes), len(decodes)
    attended = sum(request.known for request in decodes)
    for request in prompts:
        share = min(request.pending, budget - tokens)
        if share <= 0:
            break
        tokens, requests = tokens + share, requests + 1
        attended += pairs(request.computed, share)
    return view.step_time.predict(tokens, attended, requests)
