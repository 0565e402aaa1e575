"""Prometheus metrics of LoRA adapters: what each of them serves."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from orcinus.serve.engine_metrics import LiveRequests
from orcinus.serve.messages import Ending


class AdapterMetrics:
    """Counts by adapter, in the server's registry: requests may change their engine, and not their adapter.

    The label `adapter` has the names of `--lora` alone. Each has its series from the start.
    """

    def __init__(self, adapters: Sequence[str], live: LiveRequests, registry: CollectorRegistry) -> None:
        self._live, label = live, ("adapter",)

        def counter(name: str, doc: str, *labels: str) -> Counter:
            return Counter(f"orcinus_lora_{name}", doc, ("adapter", *labels), registry=registry)

        running = Gauge("orcinus_lora_requests_live", "Requests of an adapter that have not ended.", label, registry=registry)
        self.success = counter("request_success", "Requests of an adapter that ended, by the reason.", "finished_reason")
        self.prompt_tokens = counter("prompt_tokens", "Prompt tokens of an adapter's requests.")
        self.generation_tokens = counter("generation_tokens", "Tokens that an adapter generated.")
        for adapter in adapters:
            running.labels(adapter).set_function(partial(self._count, adapter))
            self.prompt_tokens.labels(adapter)
            self.generation_tokens.labels(adapter)

    def _count(self, adapter: str) -> int:
        return Tally(self._live.adapters.values())[adapter]

    def on_end(self, ending: Ending) -> None:
        """Count a request that ended, if it had an adapter."""
        adapter = self._live.adapters.pop(ending.finished.request_id, None)
        if adapter is None:
            return
        self.success.labels(adapter, ending.finished.reason).inc()
        if ending.timeline is not None:
            self.prompt_tokens.labels(adapter).inc(ending.timeline.prompt_tokens)
            self.generation_tokens.labels(adapter).inc(ending.timeline.output_tokens)
