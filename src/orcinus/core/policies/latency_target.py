"""The largest iterations predicted to keep a latency target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

from orcinus.core.batch import pairs
from orcinus.core.policies.phases import by_phase
from orcinus.core.request import Request
from orcinus.core.unserved import Reason
from orcinus.core.view import Selection, View, grants
from orcinus.errors import ConfigError, shown

LEAST = 16  # tokens of an iteration without decodes, or that misses the target anyway
SAFE = 0.8  # share of the target that recent iterations must not exceed to override the prediction


@dataclass(frozen=True, slots=True)
class LatencyTarget:
    """Stall-free batching whose token budget is chosen anew for every iteration.

    The budget is the largest for which the iteration is predicted to end before the deadlines of all its decodes: `tbt`
    seconds after their newest tokens. Requests are admitted only while their decodes together would keep the target too. If
    `ttft` is given, an iteration also ends before the first deadline of a prompt that can still be met. The prediction is
    `view.step_time`, with its margin; a cold engine begins with small iterations and at most doubles them.

    After a disturbance predictions may be too long. They must not stop admissions for ever, because without prompts nothing
    corrects them. So one prompt is always run, in small chunks, while the measured iterations stay well within the target.
    """

    holds_answers: ClassVar[bool] = False
    tbt: float = 0.1  # seconds between tokens
    ttft: float | None = None  # seconds to the first token

    def __post_init__(self) -> None:
        for name, value in (("tbt", self.tbt), ("ttft", self.ttft)):
            if value is not None and not (isinstance(value, (int, float)) and 0 < value < math.inf):
                raise ConfigError(f"{name} of the policy 'latency-target' must be above 0 seconds, not {shown(value)}")

    def select(self, view: View) -> Selection:
        decodes, prompts = by_phase(view.running)
        known = sum(request.known for request in decodes)
        prompts += view.waiting[: self._room(view, len(decodes), known, prompts)]
        chunks = grants(prompts, divisible=True)
        budget = self._budget(view, decodes, known, prompts)
        return Selection(chain(grants(decodes), chunks), budget, otherwise=Reason.LATENCY)

    def _room(self, view: View, decodes: int, known: int, prompts: Sequence[Request]) -> int:
        """How many more requests could decode together within the target.

        At least one may always run (see the class).
        """
        least = not prompts and view.step_time.measured <= SAFE * self.tbt
        count = decodes + len(prompts)
        known += sum(request.known for request in prompts)
        admitted = 0
        for request in view.waiting:
            count, known = count + 1, known + request.known
            if count > 1 and view.step_time.predict(count + LEAST, known, count) + view.step_time.margin > self.tbt:
                break
            admitted += 1
        return max(admitted, least)

    def _budget(self, view: View, decodes: Sequence[Request], known: int, prompts: Sequence[Request]) -> int:
        """The largest budget that keeps the deadlines.

        Found by bisection, because time grows with the budget.
        """
        count = len(decodes)
        time_left = self._time_left(view, decodes, prompts) - view.step_time.margin
        low, high = count, min(max(view.step_time.trusted_tokens, count + LEAST), view.limits.max_batch_tokens)
        if view.step_time.predict(count, known, count) > min(time_left, self.tbt):
            return count + LEAST  # missed even without a prompt: continue in small chunks
        while low < high:
            middle = (low + high + 1) // 2
            if self._predicted(view, count, known, prompts, middle) <= time_left:
                low = middle
            else:
                high = middle - 1
        return low if decodes else max(low, LEAST)

    def _time_left(self, view: View, decodes: Sequence[Request], prompts: Sequence[Request]) -> float:
        """Seconds until the first deadline that can still be met."""
        oldest = min((_newest(request, view.now) for request in decodes), default=math.inf)
        deadlines = [oldest + self.tbt]
        if self.ttft is not None:
            deadlines += [d for request in prompts if not request.output and (d := request.arrival + self.ttft) > view.now]
        return min(deadlines) - view.now

    def _predicted(self, view: View, decodes: int, known: int, prompts: Sequence[Request], budget: int) -> float:
        """Predicted seconds of the iteration that a budget leads to."""
        tokens, requests, attended = decodes, decodes, known
        for request in prompts:
            share = min(request.pending, budget - tokens)
            if share <= 0:
                break
            tokens, requests = tokens + share, requests + 1
            attended += pairs(request.launched, share)
        return view.step_time.predict(tokens, attended, requests)


def _newest(request: Request, now: float) -> float:
    """When its newest token came; `now` if one is in flight."""
    return now if request.promised or request.newest_token is None else request.newest_token
