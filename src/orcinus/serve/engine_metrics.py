"""Prometheus metrics of one engine."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from orcinus.core.request import FinishCode
from orcinus.observe.timeline import Stage
from orcinus.serve.messages import Ending, EngineOutput, Ready, ScheduledBatch

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SLOW = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
COUNTS = (0, 1, 2, 4, 8, 16)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class LiveRequests:
    """Data of live requests, at whatever engine they are."""

    last_token: dict[str, float] = field(default_factory=dict)  # when it came
    siblings: dict[str, list[int]] = field(default_factory=dict)  # answers left to their prompt, tokens of the longest
    interrupted: dict[str, float] = field(default_factory=dict)  # when its engine died, until its next token
    adapters: dict[str, str] = field(default_factory=dict)  # of those that have one

    def keep(self, alive: Callable[[str], bool]) -> None:
        """Forget all other requests, such as those of a dead engine."""
        for remembered in (self.last_token, self.siblings, self.interrupted, self.adapters):
            for name in [name for name in remembered if not alive(name)]:
                del remembered[name]


class EngineMetrics:
    """One engine's metrics, in a registry of its own.

    They see every iteration before the requests do.
    """

    def __init__(self, live: LiveRequests) -> None:
        self.registry, self._live = (r := CollectorRegistry()), live
        self.num_blocks = 0

        def histogram(name: str, doc: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"orcinus_{name}", doc, buckets=buckets, registry=r)

        def counter(name: str, doc: str, *labels: str) -> Counter:
            return Counter(f"orcinus_{name}", doc, labels, registry=r)

        def gauge(name: str, doc: str, *labels: str) -> Gauge:
            return Gauge(f"orcinus_{name}", doc, labels, registry=r)

        self.ttft = histogram("time_to_first_token_seconds", "From the arrival of a request to its first token.", SLOW)
        self.itl = histogram("inter_token_latency_seconds", "Between two tokens of a request.", FAST)
        self.e2e = histogram("e2e_request_latency_seconds", "From the arrival of a request to its end.", SLOW)
        self.queue = histogram("request_queue_time_seconds", "In the queue, preemptions included.", SLOW)
        self.prefill = histogram("request_prefill_time_seconds", "From the first iteration of a prompt to its last.", SLOW)
        self.decode = histogram("request_decode_time_seconds", "From the first token to the last.", SLOW)
        self.inference = histogram("request_inference_time_seconds", "In prefill and decode.", SLOW)
        self.per_token = histogram("request_time_per_output_token_seconds", "Decode by tokens after the first.", FAST)
        self.lost = histogram("request_num_preemptions", "How often a request lost its K/V memory.", COUNTS)
        self.params_n = histogram("request_params_n", "Answers that a prompt was to have.", SIZES)
        self.params_max = histogram("request_params_max_tokens", "Most tokens that an answer was to have.", SIZES)
        self.prompt_length = histogram("request_prompt_tokens", "Tokens of a prompt.", SIZES)
        self.answer_length = histogram("request_generation_tokens", "Tokens of an answer.", SIZES)
        self.longest = histogram("request_max_num_generation_tokens", "Tokens of the longest of a prompt's answers.", SIZES)
        self.success = counter("request_success", "Requests that ended, by the reason.", "finished_reason")
        self.prompt_tokens = counter("prompt_tokens", "Prompt tokens computed or found in the prefix cache.")
        self.generation_tokens = counter("generation_tokens", "Tokens generated.")
        self.preemptions = counter("num_preemptions", "Requests that lost their K/V memory and began again.")
        self.queries = counter("prefix_cache_queries", "Prompt tokens looked up in the prefix cache.")
        self.hits = counter("prefix_cache_hits", "Prompt tokens found in the prefix cache.")
        self.drafts = counter("spec_decode_num_draft_tokens", "Draft tokens verified (speculative decoding).")
        self.accepted = counter("spec_decode_num_accepted_tokens", "Draft tokens accepted.")
        self.running = gauge("num_requests_running", "Requests that hold K/V memory.")
        self.waiting = gauge("num_requests_waiting", "Requests in the queue.")
        self.reasons = gauge("num_requests_waiting_by_reason", "Requests without a part in the last iteration.", "reason")
        self.kv_use = gauge("kv_cache_usage_perc", "Share of K/V blocks in use; 1 = 100 percent.")
        self.iteration = histogram("iteration_duration_seconds", "Of one iteration.", FAST)
        self.batch_tokens = histogram("iteration_tokens_total", "Tokens of one iteration.", SIZES)
        self.batch_size = histogram("iteration_requests", "Requests of one iteration.", SIZES)
        self.composition = counter("iteration_tokens_by_phase", "Tokens of all iterations.", "phase")
        self.budget_use = histogram("iteration_budget_use_ratio", "Tokens of an iteration by max_batch_tokens.", SHARES)
        self.up = gauge("engine_up", "1 while the engine lives.")
        self.restarts = counter("engine_restarts", "Dead engines that were started again.")
        self.pauses = histogram("engine_death_pause_seconds", "From an engine's death to a request's next token.", SLOW)
        self.cache_config = Info("orcinus_cache_config", "K/V memory.", registry=r)
        self._seen: set[str] = set()  # reasons shown so far

    def on_ready(self, ready: Ready) -> None:
        """Report the engine as ready, and how its K/V memory is divided."""
        self.up.set(1)
        self.num_blocks = ready.num_blocks
        facts = {"block_size": ready.block_size, "num_gpu_blocks": ready.num_blocks, "cache_dtype": ready.dtype}
        facts |= {"kv_manager": ready.kv_manager, "enable_prefix_caching": ready.kv_manager == "prefix-cache"}
        self.cache_config.info({name: str(facts[name]) for name in facts})

    def on_iteration(self, iteration: EngineOutput, arrival: Callable[[str], float | None]) -> None:
        """Count one iteration; `arrival` gives a live request's arrival."""
        for token in iteration.tokens:
            last = self._live.last_token.get(token.request_id)
            if last is not None:
                self.itl.observe(token.at - last)
            elif (came := arrival(token.request_id)) is not None:
                self.ttft.observe(token.at - came)
            self._live.last_token[token.request_id] = token.at
            if self._live.interrupted and (since := self._live.interrupted.pop(token.request_id, None)) is not None:
                self.pauses.observe(token.at - since)
        self.generation_tokens.inc(len(iteration.tokens))
        for ending in iteration.endings:
            for remembered in (self._live.last_token, self._live.interrupted):
                remembered.pop(ending.finished.request_id, None)
            self._end(ending)
        for batch in iteration.batches:
            self._scheduled(batch, iteration)
        self.running.set(iteration.running)
        self.waiting.set(iteration.waiting)
        self.kv_use.set(1 - iteration.free_blocks / self.num_blocks if self.num_blocks else 0)
        if not (iteration.running or iteration.waiting):
            self._show_reasons(Tally())

    def on_return(self, ready: Ready) -> None:
        """Report an engine that was started again."""
        self.restarts.inc()
        self.on_ready(ready)

    def on_death(self, requests: Iterable[str] = ()) -> None:
        """Report that the engine serves nothing any more; these requests of it go on."""
        self._live.interrupted.update(dict.fromkeys(requests, time.monotonic()))
        for gauge in (self.up, self.running, self.waiting, self.kv_use):
            gauge.set(0)
        self._show_reasons(Tally())

    def _end(self, ending: Ending) -> None:
        finished, timeline = ending.finished, ending.timeline
        tokens = 0 if timeline is None else timeline.output_tokens
        if (siblings := self._live.siblings.pop(finished.request_id, None)) is not None:
            siblings[:] = siblings[0] - 1, max(siblings[1], tokens)
            if not siblings[0]:
                self.longest.observe(siblings[1])
        self.success.labels(finished.code if finished.code is FinishCode.DEADLINE else finished.reason).inc()
        if timeline is None:
            return
        self.preemptions.inc(timeline.preemptions)
        self.lost.observe(timeline.preemptions)
        if timeline.output_tokens:
            seconds = timeline.seconds
            self.e2e.observe(timeline.total_seconds)
            self.queue.observe(seconds[Stage.QUEUED] + seconds[Stage.PREEMPTED])
            self.prefill.observe(seconds[Stage.PREFILL])
            self.decode.observe(seconds[Stage.DECODE])
            self.inference.observe(seconds[Stage.PREFILL] + seconds[Stage.DECODE])
            if timeline.output_tokens > 1:
                self.per_token.observe(seconds[Stage.DECODE] / (timeline.output_tokens - 1))
            self.prompt_length.observe(timeline.prompt_tokens)
            self.answer_length.observe(timeline.output_tokens)
            self.prompt_tokens.inc(timeline.prompt_tokens)
            self.queries.inc(timeline.prompt_tokens)
            self.hits.inc(timeline.cached_tokens)

    def _scheduled(self, batch: ScheduledBatch, iteration: EngineOutput) -> None:
        prompt = sum(chunk.tokens for chunk in batch.chunks if chunk.prefill)
        total = sum(chunk.tokens for chunk in batch.chunks)
        self.iteration.observe(iteration.seconds)
        self.batch_tokens.observe(total)
        self.batch_size.observe(len(batch.chunks))
        self.composition.labels("prefill").inc(prompt)
        self.composition.labels("decode").inc(total - prompt)
        self.drafts.inc(batch.draft_tokens)
        self.accepted.inc(batch.accepted_draft_tokens)
        self.budget_use.observe(total / max(1, batch.budget))
        unserved = batch.unserved
        reasons = Tally[str](unserved.reasons.values())
        in_queue = len(unserved.reasons) - max(0, unserved.num_running - len(batch.chunks))  # with a reason of their own
        reasons[unserved.others] += max(0, unserved.num_waiting - in_queue)
        self._show_reasons(reasons)

    def _show_reasons(self, reasons: Tally[str]) -> None:
        self._seen |= set(reasons)
        for reason in self._seen:
            self.reasons.labels(reason).set(reasons[reason])
