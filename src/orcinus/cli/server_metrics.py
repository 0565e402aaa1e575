"""What a running server says of itself: its metrics, and whether it takes requests."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from orcinus.distribution import needs
from orcinus.errors import ConfigError, EngineError, one_line
from orcinus.server_address import authorization, server_url

ENGINE_UP = "orcinus_engine_up"
Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Scrape:
    """All samples of `/metrics` at one moment, and the server's state."""

    at: float = 0.0  # seconds on the monotonic clock
    state: str = ""
    samples: dict[str, dict[Labels, float]] = field(default_factory=dict)

    def replicas(self) -> list[str]:
        """The numbers of the engines."""
        names = {dict(labels)["engine"] for labels in self.samples.get(ENGINE_UP, ())}
        return sorted(names, key=lambda name: (len(name), name))

    def fact(self, metric: str, label: str) -> str:
        """The value of a label of a metric; empty if there is none."""
        return next((dict(labels).get(label, "") for labels in self.samples.get(metric, ())), "")

    def total(self, metric: str, replica: str | None = None) -> float:
        """The sum of a metric's samples, of one replica or of all."""
        wanted = None if replica is None else ("engine", replica)
        return sum(value for labels, value in self.samples.get(metric, {}).items() if wanted is None or wanted in labels)

    def by(self, metric: str, label: str) -> dict[str, float]:
        """A metric's samples that are not 0, summed by a label."""
        found = defaultdict[str, float](float)
        for labels, value in self.samples.get(metric, {}).items():
            found[dict(labels).get(label, "")] += value
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class ScrapeWindow:
    """What happened between two scrapes of a server."""

    before: Scrape
    now: Scrape

    def increase(self, metric: str, replica: str | None = None) -> float:
        """By how much a counter grew; a server that began again counts from 0."""
        now, before = self.now.total(metric, replica), self.before.total(metric, replica)
        return now - before if now >= before else now

    def rate(self, metric: str, replica: str | None = None) -> float:
        """The same by seconds."""
        return self.increase(metric, replica) / max(1e-9, self.now.at - self.before.at)

    def mean(self, metric: str, replica: str | None = None) -> float | None:
        """The mean of a histogram's observations; None without any."""
        return self.share(f"{metric}_sum", f"{metric}_count", replica)

    def share(self, part: str, whole: str, replica: str | None = None) -> float | None:
        """One counter's growth by another's; None if that did not grow."""
        grown = self.increase(whole, replica)
        return self.increase(part, replica) / grown if grown else None

    def quantile(self, metric: str, q: float, replica: str | None = None) -> float | None:
        """A quantile of a histogram's observations, interpolated in its bucket as Prometheus does; None without any."""
        buckets = defaultdict[float, float](float)
        for scrape, sign in ((self.now, 1), (self.before, -1)):
            for labels, value in scrape.samples.get(f"{metric}_bucket", {}).items():
                facts = dict(labels)
                if replica in (None, facts.get("engine")):
                    buckets[float(facts["le"])] += sign * value
        return _quantile(sorted(buckets.items()), q)


def _quantile(cumulative: Iterable[tuple[float, float]], q: float) -> float | None:
    """A quantile of cumulative buckets, by their upper bounds."""
    buckets = list(cumulative)
    if not buckets or buckets[-1][1] <= 0:
        return None
    rank, lower, below = q * buckets[-1][1], 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (rank - below) / max(1e-9, count - below)
        lower, below = bound, count
    return lower


class ServerMetrics:
    """Reads a server's metrics at a URL, which may end in `/v1`. Raises `ConfigError` if the URL is none."""

    def __init__(self, url: str, key: str | None) -> None:
        with needs("orcinus top", "serve"):
            import httpx
            from prometheus_client.parser import text_string_to_metric_families
        self.url, self._parse = server_url(url), text_string_to_metric_families
        self._http = httpx.Client(base_url=self.url, headers=authorization(key), timeout=5)
        self._error = httpx.HTTPError

    def scrape(self) -> Scrape:
        """The server's metrics and state now.

        Raises `EngineError` if no server answers, and `ConfigError` if it does not let us in or is another kind of server.
        """
        try:
            found, state = self._http.get("/metrics"), self._http.get("/ready")
        except self._error as error:
            raise EngineError(f"cannot reach {self.url}: {one_line(error)}") from None
        if found.status_code in (401, 403):
            raise ConfigError(
                f"{self.url} shows its metrics to admins alone: give an admin key with --api-key or ORCINUS_ADMIN_KEY"
            )
        if found.status_code >= 500:
            raise EngineError(f"{self.url} answers with {found.status_code}")
        samples: dict[str, dict[Labels, float]] = {}
        try:
            for family in self._parse(found.text) if found.status_code == 200 else ():
                for sample in family.samples:
                    samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
        except ValueError:
            samples = {}
        if ENGINE_UP not in samples:
            raise ConfigError(f"{self.url} is no server of Orcinus: its /metrics has no {ENGINE_UP}")
        return Scrape(time.monotonic(), _state(state), samples)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


def _state(answer: Any) -> str:
    """The answer of `/ready` in words."""
    try:
        body = answer.json()
        return str(body["status"] if answer.status_code == 200 else body["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"/ready answers with {answer.status_code}"
