"""Traces of requests: spans that an OTLP receiver reads, and servers that never wait for one."""

from __future__ import annotations

import gzip
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from orcinus.errors import ConfigError
from orcinus.observe.ledger import BookedIteration, Ledger
from orcinus.serve.config import ServerConfig
from orcinus.serve.ended_request import EndedRequest
from orcinus.serve.tracing import open_tracer
from tests.serve.in_process import serving_in_process

CALLER = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SECRET = "nothing of this may be sent"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests do not depend on the machine's own collector."""
    for name in ("ENDPOINT", "TRACES_ENDPOINT", "PROTOCOL", "HEADERS"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)


@pytest.fixture
def installed() -> None:
    """The rest of the test needs the extra `otel`."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")


class Collector:
    """An OTLP receiver over HTTP; `status` is its answer, and `wait` how long it takes."""

    def __init__(self) -> None:
        self.bodies, self.headers = list[bytes](), list[dict[str, str]]()
        self.paths = set[str]()
        self.status, self.wait = 200, threading.Event()
        self.wait.set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.wait.wait(20)
                collector.paths.add(self.path)
                collector.headers.append(dict(self.headers))
                collector.bodies.append(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
                self.send_response(collector.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def requests(self) -> list[Any]:
        """What came, decoded by OpenTelemetry's own schema."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        return [ExportTraceServiceRequest.FromString(body) for body in self.bodies]

    def spans(self) -> list[Any]:
        scopes = [scope for one in self.requests() for part in one.resource_spans for scope in part.scope_spans]
        return [span for scope in scopes for span in scope.spans]

    def resource(self) -> dict[str, Any]:
        return attributes(self.requests()[0].resource_spans[0].resource)


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    thread = threading.Thread(target=found.server.serve_forever)
    thread.start()
    try:
        yield found
    finally:
        found.wait.set()
        found.server.shutdown()
        found.server.server_close()
        thread.join()


def attributes(one: Any) -> dict[str, Any]:
    """The attributes of a span, an event or a resource."""

    def value(any_value: Any) -> Any:
        kind = any_value.WhichOneof("value")
        found = getattr(any_value, kind)
        return [value(each) for each in found.values] if kind == "array_value" else found

    return {attribute.key: value(attribute.value) for attribute in one.attributes}


def ended(ledger: Ledger | None = None, **headers: str) -> EndedRequest:
    """A request that ended now, half a second after it began."""
    now, route = time.monotonic(), "/v1/completions"
    facts = {"client": None, "key": None, "error": None, "model": "m", "trace_headers": headers}
    return EndedRequest("r", "POST", route, route, 200, now - 0.5, now, **facts, ledgers=(ledger,) if ledger else ())  # type: ignore[arg-type]


@contextmanager
def tracing(collector: Collector) -> Iterator[Any]:
    tracer = open_tracer(collector.url)
    assert tracer is not None
    try:
        yield tracer
    finally:
        tracer.close()


@pytest.mark.usefixtures("installed")
def test_a_request_is_a_trace_of_its_caller(collector: Collector) -> None:
    arguments = ("--simulate", "opt-13b", "--speed", "20", "--max-batch-tokens", "64", "--policy", "stall-free")
    with serving_in_process(*arguments, "--otlp-endpoint", collector.url) as server:
        body: dict[str, Any] = {"prompt": SECRET * 50, "max_tokens": 8, "ignore_eos": True, "temperature": 0.5}
        headers = {"traceparent": f"00-{CALLER}-{PARENT}-01"}
        done = server.http.post("/v1/completions", json=body, headers=headers).json()
        server.http.post("/v1/chat/completions", json={"messages": []})
        server.http.post("/v1/completions", json=body, headers={"traceparent": f"00-{CALLER}-{PARENT}-00"})  # not sampled
        server.http.get("/v1/models")
    assert collector.paths == {"/v1/traces"}
    assert not any(SECRET.encode() in one for one in collector.bodies)
    assert collector.resource()["service.name"] == "orcinus"
    spans = collector.spans()
    by_name = {span.name: span for span in spans}
    assert len(spans) == len(by_name) == 5
    root, refused = by_name["text_completion opt-13b"], by_name["chat"]
    facts, usage = attributes(root), done["usage"]
    assert (root.trace_id.hex(), root.parent_span_id.hex(), root.kind) == (CALLER, PARENT, 2)  # 2: a server's
    assert facts["gen_ai.request.model"] == "opt-13b"
    assert facts["gen_ai.response.id"] == done["id"]
    assert facts["gen_ai.response.finish_reasons"] == ["length"]
    assert (facts["gen_ai.usage.input_tokens"], facts["gen_ai.usage.output_tokens"]) == (usage["prompt_tokens"], 8)
    assert (facts["gen_ai.request.max_tokens"], facts["gen_ai.request.temperature"]) == (8, 0.5)
    assert facts["http.response.status_code"] == 200
    assert attributes(refused)["error.type"] == "invalid_value"
    assert (refused.parent_span_id, refused.trace_id.hex() != CALLER) == (b"", True)

    queue, prefill, decode = (by_name[name] for name in ("queue", "prefill", "decode"))
    assert {span.parent_span_id for span in (queue, prefill, decode)} == {root.span_id}
    moments = [moment for span in (queue, prefill, decode) for moment in (span.start_time_unix_nano, span.end_time_unix_nano)]
    moments = [root.start_time_unix_nano, *moments, root.end_time_unix_nano]
    assert moments == sorted(moments)
    assert abs(root.start_time_unix_nano / 1e9 - time.time()) < 120
    chunks = [attributes(event) for event in prefill.events]
    assert len(chunks) == attributes(prefill)["orcinus.chunks"] == -(-usage["prompt_tokens"] // 64)
    assert sum(chunk["orcinus.chunk.tokens"] for chunk in chunks) == usage["prompt_tokens"]
    assert attributes(decode)["orcinus.iterations"] == 7
    booked = sum(seconds for name, seconds in facts.items() if name.startswith("orcinus.seconds."))
    assert booked == pytest.approx((decode.end_time_unix_nano - queue.start_time_unix_nano) / 1e9, abs=1e-5)


@pytest.mark.usefixtures("installed")
def test_preemptions_and_deaths_of_engines_are_spans(collector: Collector) -> None:
    now = time.monotonic()
    ledger = Ledger(now - 0.4, prompt_tokens=5)
    ledger.ran(0, 5, True, BookedIteration(0, now - 0.39, now - 0.3, 0.0, 0.1))
    ledger.preempt(now - 0.25, 0.0)
    ledger.ran(0, 5, True, BookedIteration(0, now - 0.2, now - 0.15, 0.0, 0.1))
    ledger.tokens.append(now - 0.15)
    ledger.lose_engine(now - 0.1)
    ledger.end(now, "cancelled")
    with tracing(collector) as tracer:
        tracer.record(ended(ledger))
    by_name = {span.name: span for span in collector.spans()}
    preempted, restart = by_name["preemption"], by_name["restart"]
    assert (preempted.end_time_unix_nano - preempted.start_time_unix_nano) / 1e9 == pytest.approx(0.1, abs=1e-4)
    assert [event.name for event in preempted.events] == ["resumed"]
    assert (restart.end_time_unix_nano - restart.start_time_unix_nano) / 1e9 == pytest.approx(0.1, abs=1e-4)
    assert not restart.events
    facts = attributes(by_name["text_completion m"])
    assert (facts["orcinus.preemptions"], facts["orcinus.restarts"], facts["orcinus.recomputed_tokens"]) == (1, 1, 5)


@pytest.mark.usefixtures("installed")
def test_the_environment_says_where_and_as_what(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_tracer(None) is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20xyz")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "llm")
    tracer = open_tracer(None)
    assert tracer is not None
    tracer.record(ended())
    tracer.close()
    assert (collector.resource()["service.name"], collector.headers[0]["authorization"]) == ("llm", "Bearer xyz")
    for name, value in (("OTEL_TRACES_EXPORTER", "none"), ("OTEL_SDK_DISABLED", "true")):
        with monkeypatch.context() as one:
            one.setenv(name, value)
            assert open_tracer(None) is None


@pytest.mark.usefixtures("installed")
def test_a_collector_that_fails_costs_no_request_and_one_line(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    collector.status = 400
    with serving_in_process("--simulate", "opt-13b", "--speed", "20", "--otlp-endpoint", collector.url) as server:

        def ask_until(done: Callable[[], bool]) -> None:
            until = time.monotonic() + 20
            while not done() and time.monotonic() < until:
                assert server.http.post("/v1/completions", json={"prompt": "Hi", "max_tokens": 2}).status_code == 200
                time.sleep(0.05)

        ask_until(lambda: len(collector.bodies) > 2)
        collector.status = 200
        ask_until(lambda: len(caplog.messages) > 1)
    failed, back = caplog.messages
    assert failed.startswith("cannot send traces: ")
    assert "400" in failed
    assert "traces are sent again" in back


@pytest.mark.usefixtures("installed")
def test_a_collector_that_hangs_keeps_neither_requests_nor_memory(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The queue is bounded; a server that leaves waits for two seconds at most."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "32")
    collector.wait.clear()
    caplog.set_level(logging.WARNING)
    began = time.monotonic()
    with tracing(collector) as tracer:
        for _ in range(500):
            tracer.record(ended())
        assert len(tracer._provider._active_span_processor._span_processors[0]._batch_processor._queue) <= 64
    assert time.monotonic() - began < 5
    assert caplog.messages == []  # a full queue is no news for each span


def test_without_the_extra_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(sys.modules, "orcinus.serve.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match=r"^sending traces needs opentelemetry\S+: .*pip install .*\[otel\]'$"):
        open_tracer("http://127.0.0.1:4318")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")  # may be meant for other programs
    assert open_tracer(None) is None
    (line,) = caplog.messages
    assert line.startswith("no traces: sending traces needs opentelemetry")


@pytest.mark.usefixtures("installed")
def test_a_protocol_that_is_not_spoken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(ConfigError, match=r"OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc', but traces are sent as http/protobuf"):
        open_tracer("http://127.0.0.1:4317")


@pytest.mark.parametrize("endpoint", ["localhost:4318", "grpc://localhost:4317", "http://", "http://a:b", "x"])
def test_an_endpoint_is_a_url(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="otlp_endpoint must be a URL such as http://localhost:4318, not "):
        ServerConfig(otlp_endpoint=endpoint)
