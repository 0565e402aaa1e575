"""Scheduling policies. One policy a file, and one line here."""

from __future__ import annotations

from orcinus.core.policies.chunked_only import ChunkedOnly
from orcinus.core.policies.fastertransformer import FasterTransformer
from orcinus.core.policies.latency_target import LatencyTarget
from orcinus.core.policies.orca import Orca
from orcinus.core.policies.prefill_first import PrefillFirst
from orcinus.core.policies.request_level import RequestLevel
from orcinus.core.policies.sarathi import Sarathi
from orcinus.core.policies.stall_free import StallFree
from orcinus.core.ports import Policy

POLICIES: dict[str, type[Policy]] = {
    "request-level": RequestLevel,
    "fastertransformer": FasterTransformer,
    "orca": Orca,
    "prefill-first": PrefillFirst,
    "sarathi": Sarathi,
    "stall-free": StallFree,
    "latency-target": LatencyTarget,
    "chunked-only": ChunkedOnly,
}

__all__ = [
    "POLICIES",
    "ChunkedOnly",
    "FasterTransformer",
    "LatencyTarget",
    "Orca",
    "PrefillFirst",
    "RequestLevel",
    "Sarathi",
    "StallFree",
]
