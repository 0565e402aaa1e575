"""Prometheus metrics of a server.

Names are vLLM's behind our own prefix; times are seconds, counters end in `_total`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, Metric, disable_created_metrics
from prometheus_client.exposition import choose_encoder

import orcinus
from orcinus.core.promises import PromiseOutcome
from orcinus.serve.adapter_metrics import AdapterMetrics
from orcinus.serve.engine_metrics import FAST, EngineMetrics, LiveRequests
from orcinus.serve.streams import ServingEngine
from orcinus.text.input_processor import TokenizedRequest

# Codes of errors that do not depend on the request, except on its size.
REJECTIONS = (
    *("queue_full", "client_queue_full", "too_many_answers", "context_length_exceeded"),
    *("loading", "draining", "engine_dead"),
)
LAG_EVERY_S = 0.1
disable_created_metrics()  # type: ignore[no-untyped-call]  # creation times of series are not of use


class _Labelled:
    """Joined registries whose samples carry the model's name.

    Samples of engines also carry the engine's number, as vLLM's do.
    """

    def __init__(self, model: str, server: CollectorRegistry, engines: Sequence[CollectorRegistry]) -> None:
        model_name = {"model_name": model}
        self._parts = [(server, model_name)]
        self._parts += [(registry, model_name | {"engine": str(index)}) for index, registry in enumerate(engines)]

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for registry, labels in self._parts:
            for family in registry.collect():
                samples = [sample._replace(labels=labels | sample.labels) for sample in family.samples]
                if family.name in families:
                    families[family.name].samples += samples
                else:
                    family.samples = samples
                    families[family.name] = family
        yield from families.values()


class Metrics:
    """All metrics: the server's here, each engine's in its own part."""

    def __init__(self, model: str, replicas: int = 1, adapters: Sequence[str] = ()) -> None:
        self.model, self.registry = model, (r := CollectorRegistry())
        self.live = LiveRequests()
        self.engines = [EngineMetrics(self.live) for _ in range(replicas)]
        Info("orcinus", "The server.", registry=r).info({"version": orcinus.__version__, "model": model})
        self.adapters = AdapterMetrics(adapters, self.live, r) if adapters else None
        labels, doc = ("route", "status"), "Responses, by route and status (499 = the client hung up)."
        self.http = Counter("orcinus_http_requests", doc, labels, registry=r)
        doc = "Requests that found no place or no engine, by the reason."
        self.rejections = Counter("orcinus_admission_rejections", doc, ("reason",), registry=r)
        for reason in REJECTIONS:
            self.rejections.labels(reason)
        self.promises_made = Counter("orcinus_promises_made", "Answers with an SLO that were accepted.", registry=r)
        self.promises_kept = Counter("orcinus_promises_kept", "Those within their SLO.", registry=r)
        self.promises_broken = Counter("orcinus_promises_broken", "Those that missed it.", registry=r)
        self.promises_refused = Counter("orcinus_promises_refused", "Requests whose SLO could not be kept.", registry=r)
        doc = "How late the HTTP process's event loop is."
        self.lag = Histogram("orcinus_event_loop_lag_seconds", doc, buckets=FAST, registry=r)

    def on_admission(
        self, prepared: Sequence[TokenizedRequest], names: Sequence[str], engine_of: Callable[[str], ServingEngine | None]
    ) -> None:
        """Count the requested answers.

        `names` are those of its answers in the engines.
        """
        siblings: dict[int, list[int]] = {}
        for name, one in zip(names, prepared, strict=True):
            engine = engine_of(name)
            counted = self.engines[engine.index if engine else 0]
            if one.choice == 0:
                siblings[one.index] = [sum(other.index == one.index for other in prepared), 0]
                counted.params_n.observe(siblings[one.index][0])
            counted.params_max.observe(one.params.max_tokens or 0)
            self.live.siblings[name] = siblings[one.index]
            if one.context.lora:
                self.live.adapters[name] = one.context.lora

    def on_promise(self, outcome: PromiseOutcome) -> None:
        """Count a promise that ended; one whose client went away was neither kept nor broken."""
        if outcome.kept is not None:
            (self.promises_kept if outcome.kept else self.promises_broken).inc()

    @property
    def promises(self) -> dict[str, int]:
        """Answers with an SLO so far, by what became of them; as `PromiseCounts` describes them."""
        names = ("made", "kept", "broken", "refused")
        return {name: int(self.registry.get_sample_value(f"orcinus_promises_{name}_total") or 0) for name in names}

    def page(self, accept: str) -> tuple[bytes, str]:
        """The text for a scraper, and its content type."""
        try:
            encode, kind = choose_encoder(accept)
        except (TypeError, ValueError):  # it asks for a version that is no number
            encode, kind = choose_encoder("")
        return encode(_Labelled(self.model, self.registry, [engine.registry for engine in self.engines])), kind

    async def watch_loop(self) -> None:
        """Measure the event loop's delay while it runs."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self.lag.observe(max(0.0, loop.time() - due))
