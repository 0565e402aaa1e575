"""A server's prefix cache counters, from its Prometheus page."""

from __future__ import annotations

import re
from dataclasses import dataclass

from orcinus.bench.client.fetch import fetch
from orcinus.bench.client.target import Target

PATH, PATIENCE_S = "/metrics", 5.0
PAIRS = (  # names after a prefix such as `vllm:`: tokens found, tokens looked up
    ("prefix_cache_hits", "prefix_cache_queries"),  # vLLM, Orcinus
    ("cached_tokens", "prompt_tokens"),  # SGLang
)
NAMES = "|".join(name for pair in PAIRS for name in pair)
SAMPLE = re.compile(rf"^(?:\w+[:_])?(?:gpu_)?({NAMES})_total(?:{{.*}})? (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class CacheCounters:
    """Prompt tokens found and looked up in a prefix cache since start."""

    hits: float
    queries: float

    def share_since(self, before: CacheCounters) -> float | None:
        """The hit rate since earlier counters.

        None after a restart or without look-ups.
        """
        hits, queries = self.hits - before.hits, self.queries - before.queries
        return hits / queries if 0 <= hits <= queries and queries else None


def read_counters(page: str) -> CacheCounters | None:
    """The counters of a Prometheus page, summed over labels; None if missing."""
    found: dict[str, float] = {}
    for name, value in SAMPLE.findall(page):
        found[name] = found.get(name, 0.0) + float(value)
    pairs = (CacheCounters(found[hits], found[queries]) for hits, queries in PAIRS if hits in found and queries in found)
    return next(pairs, None)


async def cache_counters(target: Target) -> CacheCounters | None:
    """A server's counters now; None if it does not report them."""
    try:
        status, body = await fetch(target, PATH, PATIENCE_S)
        return read_counters(body.decode()) if status == 200 else None
    except (TimeoutError, ConnectionError, ValueError):
        return None
