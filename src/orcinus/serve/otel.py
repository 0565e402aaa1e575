"""Traces of requests for OpenTelemetry, made from their ledgers when they have ended.

Names of attributes are those of OpenTelemetry's semantic conventions for generative AI and HTTP; our own begin with `orcinus.`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes, AttributeValue

import orcinus
from orcinus.observe.ledger import Account, Ledger, PromptChunk
from orcinus.serve.answers import Answers
from orcinus.serve.ended_request import EndedRequest, tbt

OPERATIONS = {  # traced routes, by their `gen_ai.operation.name`
    **dict.fromkeys(("/v1/chat/completions", "/chat/completions", "/v1/responses", "/responses", "/v1/messages"), "chat"),
    **dict.fromkeys(("/v1/completions", "/completions"), "text_completion"),
}
LIBRARIES = ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk._shared_internal")
FLUSH_S = 2.0  # that a server which leaves waits for the last spans
log = logging.getLogger(__name__)


class Tracer:
    """Sends a trace of each request for answers to an OTLP endpoint; without one, to where the environment says.

    Spans go through a bounded queue to a thread, which sends them. If that fails, they are lost, and the log says so once.
    """

    def __init__(self, endpoint: str | None = None) -> None:
        self._exporter = _TellingExporter(OTLPSpanExporter(endpoint=endpoint))
        resource = Resource({SERVICE_VERSION: orcinus.__version__}).merge(Resource.create())
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "orcinus"}))
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("orcinus", orcinus.__version__)
        self._callers = TraceContextTextMapPropagator()

    def record(self, request: EndedRequest) -> None:
        """Queue the spans of a request, if it asked for answers and its caller's trace is sampled."""
        operation = OPERATIONS.get(request.route)
        if operation is None or request.method != "POST":
            return
        clock = _EpochClock()
        root = self._tracer.start_span(
            " ".join(filter(None, (operation, request.model))),
            self._callers.extract(request.trace_headers),
            SpanKind.SERVER,
            start_time=clock.ns(request.began),
        )
        if root.is_recording():
            root.set_attributes(_about_request(request, operation))
            if request.status >= 500:
                root.set_status(StatusCode.ERROR)
            for index, ledger in enumerate(request.ledgers):
                self._answer(root, clock, ledger, index if len(request.ledgers) > 1 else None)
        root.end(clock.ns(request.ended))

    def _answer(self, root: Span, clock: _EpochClock, ledger: Ledger, index: int | None) -> None:
        """The spans of an answer: in the root's, or below a span of their own if there are several answers."""
        ended = ledger.arrival if ledger.ended is None else ledger.ended
        parent = root
        if index is not None:
            parent = self._span(root, clock, "answer", ledger.arrival, ended, {"orcinus.answer.index": index}, end=False)
        parent.set_attributes(_about_answer(ledger))
        first = ledger.chunks[0].launched if ledger.chunks else ended
        self._span(parent, clock, "queue", ledger.arrival, first)
        if ledger.chunks:
            until = ledger.first_token or ledger.chunks[-1].returned
            counts = {"orcinus.chunks": ledger.prefill_chunks, "orcinus.cached_tokens": ledger.cached_tokens}
            prefill = self._span(parent, clock, "prefill", first, until, counts, end=False)
            for chunk in ledger.chunks:
                prefill.add_event("chunk", _about_chunk(chunk), clock.ns(chunk.launched))
            prefill.end(clock.ns(until))
        if ledger.first_token is not None and ledger.output_tokens > 1:
            self._span(parent, clock, "decode", ledger.first_token, ended, _about_decode(ledger))
        for lost in ledger.interruptions:
            name = "preemption" if lost.account is Account.PREEMPTED else "restart"
            span = self._span(parent, clock, name, lost.began, ended, end=False)
            if lost.resumed is not None:
                span.add_event("resumed", timestamp=clock.ns(lost.resumed))
            span.end(clock.ns(ledger.recovered(lost) or ended))
        if parent is not root:
            parent.end(clock.ns(ended))

    def _span(
        self,
        parent: Span,
        clock: _EpochClock,
        name: str,
        began: float,
        ended: float,
        facts: Attributes = None,
        *,
        end: bool = True,
    ) -> Span:
        span = self._tracer.start_span(name, set_span_in_context(parent), attributes=facts, start_time=clock.ns(began))
        if end:
            span.end(clock.ns(ended))
        return span

    def close(self) -> None:
        """Send what is queued, for two seconds at most; nothing if the last attempt failed."""
        flush = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        flush.start()
        flush.join(0.0 if self._exporter.lost else FLUSH_S)


class _EpochClock:
    """Nanoseconds since the epoch from seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._offset = time.time_ns() - time.monotonic_ns()

    def ns(self, moment: float) -> int:
        return int(1e9 * moment) + self._offset


class _TellingExporter(SpanExporter):
    """An exporter that tells the log once that spans are lost, and once that they are not any more."""

    def __init__(self, inner: OTLPSpanExporter) -> None:
        self._inner, self.lost = inner, 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; they are lost if that fails."""
        result: SpanExportResult = self._inner.export(spans)
        if result is SpanExportResult.SUCCESS:
            if self.lost:
                log.warning("traces are sent again; %d spans were lost", self.lost)
            self.lost = 0
        else:
            if not self.lost:
                why = WORDS.text or "the endpoint fails"
                log.warning("cannot send traces: %s; spans are lost until they can be sent", why)
            self.lost += len(spans)
        return result

    def shutdown(self) -> None:
        """Give up what is being sent."""
        self._inner.shutdown()


class _LastWords(logging.Filter):
    """Keeps a library's last message from the log, for one of ours."""

    text = ""

    def filter(self, record: logging.LogRecord) -> bool:
        self.text = record.getMessage()
        return False


WORDS = _LastWords()
for _name in LIBRARIES:
    logging.getLogger(_name).addFilter(WORDS)


def _about_request(request: EndedRequest, operation: str) -> dict[str, AttributeValue]:
    facts: dict[str, AttributeValue | None] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "orcinus",
        "gen_ai.request.model": request.model,
        "http.request.method": request.method,
        "http.route": request.route,
        "url.path": request.path,
        "http.response.status_code": request.status,
        "error.type": request.error or (str(request.status) if request.status >= 400 else None),
        "orcinus.request_id": request.request_id,
    }
    if request.answers is not None:
        facts |= _about_answers(request.answers, [ledger.finish or "" for ledger in request.ledgers])
    return {name: value for name, value in facts.items() if value is not None}


def _about_answers(answers: Answers, finishes: list[str]) -> dict[str, AttributeValue | None]:
    usage, params = answers.usage(), next(iter(answers.prompts.values())).params
    return {
        "gen_ai.response.id": answers.call.id,
        "gen_ai.response.finish_reasons": finishes,
        "gen_ai.usage.input_tokens": usage.prompt,
        "gen_ai.usage.cache_read.input_tokens": usage.cached,
        "gen_ai.usage.output_tokens": usage.completion,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning,
        "gen_ai.request.choice.count": answers.n if answers.n > 1 else None,
        "gen_ai.request.max_tokens": params.max_tokens,
        "gen_ai.request.temperature": params.temperature,
        "gen_ai.request.top_p": params.top_p,
        "orcinus.adapter": answers.adapter,
    }


def _about_answer(ledger: Ledger) -> dict[str, AttributeValue]:
    """Seconds by account, and counts."""
    facts: dict[str, AttributeValue] = {
        f"orcinus.seconds.{account}": ledger.seconds[account] for account in Account if ledger.seconds[account]
    }
    if ledger.ttft is not None:
        facts["orcinus.ttft_s"] = ledger.ttft
    if ledger.replica is not None:
        facts["orcinus.replica"] = ledger.replica
    counts = {"preemptions": ledger.preemptions, "restarts": ledger.restarts, "recomputed_tokens": ledger.recomputed_tokens}
    return facts | {f"orcinus.{name}": count for name, count in counts.items() if count}


def _about_chunk(chunk: PromptChunk) -> dict[str, AttributeValue]:
    return {
        "orcinus.chunk.start": chunk.start,
        "orcinus.chunk.tokens": chunk.tokens,
        "orcinus.chunk.waited_s": chunk.waited,
        "orcinus.chunk.computed_s": chunk.returned - chunk.launched,
    }


def _about_decode(ledger: Ledger) -> dict[str, AttributeValue]:
    facts: dict[str, AttributeValue] = {"orcinus.iterations": ledger.decode_iterations}
    if ledger.draft_tokens:
        facts |= {"orcinus.draft_tokens": ledger.draft_tokens, "orcinus.accepted_draft_tokens": ledger.accepted_draft_tokens}
    return facts | {f"orcinus.tbt_ms.{name}": value for name, value in (tbt(ledger) or {}).items()}
