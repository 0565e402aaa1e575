"""Why requests are not in an iteration: for observers, never for executors."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Reason(StrEnum):
    """Why a request has no part in an iteration."""

    BATCH_FULL = "batch full"
    BUDGET_SPENT = "budget spent"
    NO_BLOCKS = "no blocks"
    BEHIND = "behind an older request"
    NOT_READY = "not ready"  # an earlier request computes a prefix that both share
    STATIC_BATCH = "static batch running"
    PROMPTS_FIRST = "prompts first"
    ONE_PROMPT = "one prompt at a time"
    LATENCY = "latency target"
    PREEMPTED = "preempted"
    NOT_CHOSEN = "not chosen"


class Unserved(NamedTuple):
    """The requests that are not in an iteration, with reasons.

    The counts say how full the engine was when it was planned.
    """

    reasons: Mapping[str, Reason]  # of running requests that could have run, and of refused ones
    others: Reason  # of all other requests in the queue
    num_waiting: int
    num_running: int
    free_blocks: int
