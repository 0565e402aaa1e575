"""What goes beyond OpenAI's API: timings, timelines, cancelling, metrics, and steering the scheduler while it runs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from orcinus.serve import response_schema as responses
from orcinus.serve.engine_client import EngineClient, EngineSilent
from tests.serve.conftest import Running
from tests.waiting import wait_until

LONG = {"prompt": "Once upon a time", "max_tokens": 1500, "ignore_eos": True, "temperature": 0}
SHORT = LONG | {"max_tokens": 5}
STAGES = ("queue_ms", "prefill_ms", "decode_ms", "preempted_ms")


def complete(server: Running, **fields: Any) -> dict[str, Any]:
    answer = server.http.post("/v1/completions", json=SHORT | fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def frames(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


class Streaming:
    """A stream in a thread of its own. `id` is there when its first frame is."""

    def __init__(self, server: Running, **fields: Any) -> None:
        self.id = ""
        self.lines: list[str] = []
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(server.url, LONG | fields | {"stream": True}))
        self._thread.start()

    def _read(self, url: str, body: dict[str, Any]) -> None:
        with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as answer:
            for line in answer.iter_lines():
                self.lines.append(line)
                if line.startswith("data: {") and not self.id:
                    self.id = json.loads(line[6:])["id"]
                    self._begun.set()

    def begun(self) -> Streaming:
        assert self._begun.wait(20)
        return self

    def rest(self) -> list[str]:
        self._thread.join(30)
        return self.lines


def test_timings_add_up_to_the_time_that_the_request_took(server: Running) -> None:
    began = time.perf_counter()
    timings = complete(server, max_tokens=50)["timings"]
    took = 1000 * (time.perf_counter() - began)
    assert sum(timings[stage] for stage in STAGES) == pytest.approx(timings["total_ms"])
    assert 1 < timings["total_ms"] <= took
    assert timings["prefill_iterations"] == 1
    assert timings["decode_iterations"] == 49
    assert timings["preemptions"] == 0


def test_a_stream_has_them_in_its_last_frame_and_the_timeline_says_the_same(server: Running) -> None:
    lines = Streaming(server, max_tokens=20).rest()
    *others, last = frames(lines)
    assert all("timings" not in frame for frame in others)
    timeline = server.http.get(f"/v1/requests/{last['id']}/timeline").json()
    responses.TimelineOfRequest.model_validate(timeline)
    answer = timeline["answers"][0]
    assert {name: answer[name] for name in last["timings"]} == last["timings"]
    assert answer["finish"] == "length"


def test_the_timeline_of_a_live_request_ends_now(server: Running) -> None:
    streaming = Streaming(server).begun()
    first = server.http.get(f"/v1/requests/{streaming.id}/timeline").json()["answers"][0]
    time.sleep(0.1)
    second = server.http.get(f"/v1/requests/{streaming.id}/timeline").json()["answers"][0]
    assert first["finish"] is None
    assert second["total_ms"] >= first["total_ms"] + 100
    server.http.post(f"/v1/requests/{streaming.id}/cancel")
    streaming.rest()


def test_cancelling_ends_a_running_request_and_frees_its_blocks(server: Running) -> None:
    streaming = Streaming(server).begun()
    answer = server.http.post(f"/v1/requests/{streaming.id}/cancel").json()
    assert answer == {"id": streaming.id, "cancelled": 1}
    assert server.idle()
    lines = [line for line in streaming.rest() if line]
    error = json.loads(lines[-2][6:])
    assert error["error"]["code"] == "cancelled"
    assert error["request_id"] == streaming.id
    assert lines[-1] == "data: [DONE]"
    assert all(frame.get("choices", [{}])[0].get("finish_reason") is None for frame in frames(lines[:-2]))
    again = server.http.post(f"/v1/requests/{streaming.id}/cancel").json()
    assert again["cancelled"] == 0


def test_cancelling_ends_a_queued_request(server: Running) -> None:
    server.http.post("/pause")
    try:
        body = LONG | {"stream": True}
        with httpx.stream("POST", f"{server.url}/v1/completions", json=body, headers={"X-Request-ID": "mine"}) as answer:
            assert server.scheduler()["waiting"] == 1
            assert server.http.post("/v1/requests/mine/cancel").status_code == 404, "a client's own id is no key"
            name = answer.headers["x-response-id"]
            assert server.http.post(f"/v1/requests/{name}/cancel").json()["cancelled"] == 1
            assert [line for line in answer.iter_lines() if line][-1] == "data: [DONE]"
        assert server.scheduler()["waiting"] == 0
        assert server.idle()
    finally:
        server.http.post("/resume")


def test_unknown_requests_are_404(server: Running) -> None:
    for path, method in (("/v1/requests/nope/cancel", "POST"), ("/v1/requests/nope/timeline", "GET")):
        answer = server.http.request(method, path)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "request_not_found"


def samples(server: Running) -> dict[str, float]:
    text = server.http.get("/metrics").text
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("model_name") == "orcinus-tiny"
            assert labels.pop("engine", "0") == "0"
            found[sample.name + ("[le]" if "le" in labels else "".join(f"[{value}]" for value in labels.values()))] = (
                sample.value
            )
    return found


def test_metrics_count_what_was_done(server: Running) -> None:
    before = samples(server)
    usage = complete(server, max_tokens=7, prompt="A prompt that nobody has asked before, of some length.")["usage"]
    after = samples(server)

    def more(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert more("orcinus_prompt_tokens_total") == usage["prompt_tokens"]
    assert more("orcinus_generation_tokens_total") == 7
    assert more("orcinus_time_to_first_token_seconds_count") == 1
    assert more("orcinus_inter_token_latency_seconds_count") == 6
    assert more("orcinus_e2e_request_latency_seconds_count") == 1
    assert more("orcinus_request_queue_time_seconds_count") == 1
    assert more("orcinus_request_success_total[length]") == 1
    assert more("orcinus_iteration_duration_seconds_count") == 7
    assert more("orcinus_iteration_tokens_by_phase_total[prefill]") == usage["prompt_tokens"]
    assert more("orcinus_iteration_tokens_by_phase_total[decode]") == 6
    assert more("orcinus_prefix_cache_queries_total") == usage["prompt_tokens"]
    assert after["orcinus_num_requests_running"] == after["orcinus_num_requests_waiting"] == 0
    assert more("orcinus_http_requests_total[/v1/completions][200]") == 1
    for name, sum_ in (("n", 1), ("max_tokens", 7)):
        assert more(f"orcinus_request_params_{name}_count") == 1
        assert more(f"orcinus_request_params_{name}_sum") == sum_
    stages = [more(f"orcinus_request_{stage}_time_seconds_sum") for stage in ("prefill", "decode", "inference")]
    assert stages[0] + stages[1] == pytest.approx(stages[2])
    assert more("orcinus_request_time_per_output_token_seconds_sum") == pytest.approx(stages[1] / 6)
    assert more("orcinus_request_num_preemptions_count") == 1
    assert more("orcinus_request_num_preemptions_sum") == 0
    assert more("orcinus_iteration_tokens_total_count") == 7
    assert more("orcinus_iteration_tokens_total_sum") == usage["prompt_tokens"] + 6


def test_metrics_say_what_was_asked_for_and_why_requests_were_turned_away(server: Running) -> None:
    before = samples(server)
    complete(server, n=3, max_tokens=4)
    assert server.http.post("/v1/completions", json=SHORT | {"n": 65}).status_code == 400
    assert server.http.post("/v1/completions", json=SHORT | {"max_tokens": 2048}).status_code == 400
    assert server.http.post("/v1/completions", json=SHORT | {"temperature": -1}).status_code == 400
    server.http.post("/drain")
    assert server.http.post("/v1/completions", json=SHORT).status_code == 503
    assert server.http.get("/ready").status_code == 503
    server.http.post("/resume")
    after = samples(server)

    def more(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert (more("orcinus_request_params_n_count"), more("orcinus_request_params_n_sum")) == (1, 3)
    assert (more("orcinus_request_params_max_tokens_count"), more("orcinus_request_params_max_tokens_sum")) == (3, 12)
    longest = "orcinus_request_max_num_generation_tokens"
    assert (more(f"{longest}_count"), more(f"{longest}_sum")) == (1, 4)
    reasons = ("too_many_answers", "context_length_exceeded", "draining", "queue_full", "loading")
    assert [more(f"orcinus_admission_rejections_total[{reason}]") for reason in reasons] == [1, 1, 1, 0, 0]
    families = text_string_to_metric_families(server.http.get("/metrics").text)
    (info,) = (family.samples[0] for family in families if family.name == "orcinus_cache_config_info")
    state = server.scheduler()
    assert info.labels == {
        "model_name": "orcinus-tiny",
        "engine": "0",
        "block_size": "16",
        "num_gpu_blocks": str(state["num_blocks"]),
        "cache_dtype": "float32",
        "kv_manager": "prefix-cache",
        "enable_prefix_caching": "True",
    }


def test_metrics_say_why_requests_wait(server: Running) -> None:
    streams = [Streaming(server, max_tokens=600) for _ in range(12)]  # the batch holds 8
    for stream in streams[:1]:
        stream.begun()
    wait_until(lambda: samples(server).get("orcinus_num_requests_waiting_by_reason[batch full]", 0) == 4)
    found = samples(server)
    assert found["orcinus_num_requests_running"] == 8
    assert found["orcinus_num_requests_waiting"] == found["orcinus_num_requests_waiting_by_reason[batch full]"] == 4
    assert 0 < found["orcinus_kv_cache_usage_perc"] <= 1
    for stream in streams:
        server.http.post(f"/v1/requests/{stream.begun().id}/cancel")
    for stream in streams:
        stream.rest()


def test_a_pause_keeps_requests_and_a_deadline_holds_all_the_same(server: Running) -> None:
    server.http.post("/pause")
    try:
        assert server.scheduler()["paused"]
        assert server.http.get("/ready").json() == {"status": "paused"}
        assert server.http.get("/health").status_code == 200
        late = server.http.post("/v1/completions", json=SHORT | {"timeout": 0.3})
        assert late.status_code == 408
        streaming = Streaming(server, max_tokens=5)
        time.sleep(0.3)
        assert not streaming.id
    finally:
        assert server.http.post("/resume").json() == {"status": "ready"}
    assert streaming.rest()[-2] == "data: [DONE]"
    assert server.idle()


def test_draining_refuses_new_requests_until_it_is_resumed(server: Running) -> None:
    streaming = Streaming(server, max_tokens=100).begun()
    assert server.http.post("/drain").json() == {"status": "draining"}
    try:
        refused = server.http.post("/v1/completions", json=SHORT)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "draining"
        assert int(refused.headers["retry-after"]) >= 1
        assert server.http.get("/ready").status_code == 503
        assert server.http.get("/health").status_code == 200
    finally:
        server.http.post("/resume")
    assert len(frames(streaming.rest())) == 100
    assert complete(server)


def test_iterations_can_be_watched_live(server: Running) -> None:
    seen: list[dict[str, Any]] = []
    ready = threading.Event()

    def watch() -> None:
        with httpx.stream("GET", f"{server.url}/v1/scheduler/iterations", timeout=30) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            ready.set()
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    seen.append(json.loads(line[6:]))
                    if len(seen) == 10:
                        return

    watching = threading.Thread(target=watch)
    watching.start()
    assert ready.wait(10)
    found = complete(server, max_tokens=10, prompt="Watch this one closely")
    watching.join(20)
    mine = [event for event in seen if any(chunk["id"] == f"{found['id']}-0" for chunk in event["chunks"])]
    assert len(mine) == 10
    first, second = mine[0]["chunks"][0], mine[1]["chunks"][0]
    assert (first["start"], first["tokens"], first["prefill"]) == (0, found["usage"]["prompt_tokens"], True)
    assert (second["start"], second["tokens"], second["prefill"]) == (found["usage"]["prompt_tokens"], 1, False)
    assert [event["batch"] for event in mine] == list(range(mine[0]["batch"], mine[0]["batch"] + 10))


@pytest.mark.parametrize(
    ("model", "call"),
    [
        (
            responses.TextCompletion,
            lambda s: s.post("/v1/completions", json=SHORT | {"logprobs": 2, "return_token_ids": True}),
        ),
        (responses.TextCompletion, lambda s: s.post("/v1/completions", json=SHORT | {"logprobs": 0, "echo": True})),
        (
            responses.ChatCompletion,
            lambda s: s.post(
                "/v1/chat/completions",
                json={"messages": [{"role": "user", "content": "Hi"}], "logprobs": True, "top_logprobs": 2, "n": 2},
            ),
        ),
        (responses.ModelList, lambda s: s.get("/v1/models")),
        (responses.ModelCard, lambda s: s.get("/v1/models/orcinus-tiny")),
        (responses.Tokenized, lambda s: s.post("/tokenize", json={"prompt": "Hi"})),
        (responses.Tokenized, lambda s: s.post("/tokenize", json={"messages": [{"role": "user", "content": "Hi"}]})),
        (responses.Detokenized, lambda s: s.post("/detokenize", json={"tokens": [5, 6]})),
        (responses.TokenizerInfo, lambda s: s.get("/tokenizer_info")),
        (responses.SchedulerState, lambda s: s.get("/v1/scheduler")),
        (responses.LiveRequestList, lambda s: s.get("/v1/scheduler/requests")),
        (responses.LoadOutcome, lambda s: s.post("/v1/scheduler/load", json={"requests": [{"prompt": "Hi", "max_tokens": 2}]})),
        (responses.StatusMessage, lambda s: s.get("/health")),
        (responses.Error, lambda s: s.get("/nope")),
        (responses.Error, lambda s: s.post("/v1/completions", json={})),
    ],
    ids=range(15),
)
def test_the_document_says_what_responses_look_like(
    server: Running, model: type[responses.Exact], call: Callable[[httpx.Client], httpx.Response]
) -> None:
    model.model_validate(call(server.http).json())


def test_the_document_names_every_route_once(server: Running) -> None:
    document = server.http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert {path for path, operations in document["paths"].items() if "post" in operations} == {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/tokenize",
        "/detokenize",
        "/v1/requests/{id}/cancel",
        "/pause",
        "/resume",
        "/drain",
        "/v1/scheduler/step",
        "/v1/scheduler/load",
    }
    assert "422" not in json.dumps([list(o["responses"]) for p in document["paths"].values() for o in p.values()])
    for reference in set(json.dumps(document).split('"#/components/schemas/')[1:]):
        assert reference.split('"')[0] in document["components"]["schemas"]


def test_every_get_can_be_a_head(server: Running) -> None:
    for path in ("/v1/models", "/health", "/ready", "/metrics", "/openapi.json", "/v1/scheduler", "/v1/scheduler/iterations"):
        answer = server.http.head(path)
        assert answer.status_code == 200, path
        assert not answer.content
    refused = server.http.head("/v1/completions")
    assert refused.status_code == 405


def test_tokenizing_there_and_back(server: Running) -> None:
    text = "Hello, wörld 🎉"
    found = server.http.post("/tokenize", json={"prompt": text, "return_token_strs": True}).json()
    assert found["count"] == len(found["tokens"]) == len(found["token_strs"])
    assert server.http.post("/detokenize", json={"tokens": found["tokens"]}).json() == {"prompt": text}
    bare = server.http.post("/tokenize", json={"prompt": text, "add_special_tokens": False}).json()
    assert bare["tokens"] == found["tokens"]  # this model wants nothing before a text
    chat = server.http.post("/tokenize", json={"messages": [{"role": "user", "content": "Hi"}]}).json()
    assert chat["count"] > 2
    both = server.http.post("/tokenize", json={"prompt": "a", "messages": [{"role": "user", "content": "Hi"}]})
    assert both.status_code == 400
    assert set(server.http.get("/version").json()) == {"version"}


def test_an_engine_that_is_slow_to_answer_is_not_called_gone(server: Running) -> None:
    with patch.object(EngineClient, "use", side_effect=EngineSilent("the engine lives but does not answer")):
        answer = server.http.get("/v1/scheduler")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.json()["error"]["code"] == "engine_silent"
    assert "gone" not in answer.json()["error"]["message"]
    assert server.http.get("/v1/scheduler").status_code == 200
