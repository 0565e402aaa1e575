"""What clients get: whole and streamed answers, counts, names and shapes of OpenAI's API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orcinus import LLM, SamplingParams
from tests.serve.conftest import Running

HI = [{"role": "user", "content": "Hi"}]
STORY = [{"role": "user", "content": "Tell me a story about a fox."}]


def chat(server: Running, **fields: Any) -> dict[str, Any]:
    answer = server.http.post("/v1/chat/completions", json={"messages": HI, "temperature": 0} | fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def stream(server: Running, path: str, **fields: Any) -> list[dict[str, Any]]:
    """The frames of a stream, which must end with [DONE]."""
    frames = []
    with server.http.stream("POST", path, json={"temperature": 0, "stream": True} | fields) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    for line in lines[:-1]:
        assert line.startswith("data: ")
        frames.append(json.loads(line[6:]))
    return frames


def test_a_chat_gives_what_the_python_api_gives(server: Running) -> None:
    with LLM(dtype="float32") as llm:
        expected = llm.chat(STORY, SamplingParams(temperature=0, max_tokens=20))[0]
    found = chat(server, messages=STORY, max_tokens=20)
    choice = found["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": expected.text, "refusal": None}
    assert choice["finish_reason"] == "length"
    assert found["object"] == "chat.completion"
    assert found["usage"]["completion_tokens"] == 20
    assert found["usage"]["prompt_tokens"] == len(expected.prompt_token_ids)
    assert found["usage"]["total_tokens"] == 20 + len(expected.prompt_token_ids)


@pytest.mark.parametrize(
    "fields", [{"messages": HI}, {"max_tokens": 12}, {"stop": ["a"]}, {"logprobs": True, "top_logprobs": 2, "max_tokens": 12}]
)
def test_the_stream_says_what_the_whole_says(server: Running, fields: dict[str, Any]) -> None:
    asked = {"messages": STORY} | fields
    whole = chat(server, **asked)["choices"][0]
    options = {"stream_options": {"include_usage": True}, "return_token_ids": True}
    frames = stream(server, "/v1/chat/completions", **asked, **options)
    *frames, last = frames
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == sum(len(f["choices"][0].get("token_ids", [])) for f in frames)
    assert "".join(frame["choices"][0]["delta"]["content"] for frame in frames) == whole["message"]["content"]
    assert [frame["choices"][0]["delta"].get("role") for frame in frames] == ["assistant"] + [None] * (len(frames) - 1)
    reasons = [frame["choices"][0]["finish_reason"] for frame in frames]
    assert reasons == [None] * (len(frames) - 1) + [whole["finish_reason"]]


def test_bytes_that_are_no_character_are_streamed_as_they_come(server: Running) -> None:
    body = {"prompt": "Once", "max_tokens": 50, "logit_bias": {"225": 100}, "stop": ["END"]}  # the byte 0x80
    texts = [frame["choices"][0]["text"] for frame in stream(server, "/v1/completions", **body)]
    assert [text for text in texts if text] == ["\ufffd"] * 50


def test_completions_take_all_four_forms_of_prompt(server: Running) -> None:
    ids = server.http.post("/tokenize", json={"prompt": "Once upon"}).json()["tokens"]
    texts = []
    for prompt in ("Once upon", ["Once upon"], ids, [ids]):
        answer = server.http.post("/v1/completions", json={"prompt": prompt, "max_tokens": 6, "temperature": 0}).json()
        texts.append(answer["choices"][0]["text"])
    assert len(set(texts)) == 1
    assert texts[0]


def test_several_prompts_and_answers_are_numbered_in_order(server: Running) -> None:
    body = {"prompt": ["Once", "The sea"], "n": 2, "max_tokens": 4, "seed": 1, "temperature": 1.0}
    found = server.http.post("/v1/completions", json=body).json()
    assert [choice["index"] for choice in found["choices"]] == [0, 1, 2, 3]
    frames = stream(server, "/v1/completions", **body)
    for choice in found["choices"]:
        pieces = [f["choices"][0]["text"] for f in frames if f["choices"][0]["index"] == choice["index"]]
        assert "".join(pieces) == choice["text"]


def test_a_seed_repeats_an_answer_in_any_company(server: Running) -> None:
    body = {"messages": STORY, "seed": 7, "temperature": 1.0, "max_tokens": 10}
    alone = chat(server, **body)["choices"][0]["message"]["content"]
    together = [chat(server, **body, n=3)["choices"][0]["message"]["content"] for _ in range(2)]
    assert together == [alone] * 2


def test_logprobs_in_both_shapes(server: Running) -> None:
    content = chat(server, logprobs=True, top_logprobs=2, max_tokens=3)["choices"][0]["logprobs"]["content"]
    assert len(content) == 3
    for entry in content:
        assert entry["logprob"] == max(one["logprob"] for one in entry["top_logprobs"])
        assert bytes(entry["bytes"]).decode() == entry["token"]
    body = {"prompt": "Once", "max_tokens": 3, "temperature": 0, "logprobs": 1}
    legacy = server.http.post("/v1/completions", json=body).json()["choices"][0]["logprobs"]
    assert [len(legacy[name]) for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")] == [3] * 4


def test_shared_prompts_are_counted_as_cached(server: Running) -> None:
    long = [{"role": "system", "content": "You are helpful. " * 20}, *HI]
    chat(server, messages=long)
    usage = chat(server, messages=long)["usage"]
    assert 0 < usage["prompt_tokens_details"]["cached_tokens"] < usage["prompt_tokens"]
    salted = chat(server, messages=long, cache_salt="another tenant")["usage"]
    assert salted["prompt_tokens_details"]["cached_tokens"] == 0


def test_prefill_progress_on_request(server: Running) -> None:
    long = [{"role": "user", "content": "word " * 700}]
    frames = stream(server, "/v1/chat/completions", messages=long, max_tokens=2, return_progress=True)
    steps = [frame["prompt_progress"] for frame in frames if "prompt_progress" in frame]
    assert len(steps) > 1
    assert [step["processed"] for step in steps] == sorted(step["processed"] for step in steps)
    assert steps[-1]["processed"] == steps[-1]["total"]


def test_content_as_a_list_of_parts_and_developers(server: Running) -> None:
    parts = [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]
    assert chat(server, messages=[{"role": "user", "content": parts}])["choices"] == chat(server)["choices"]
    assert chat(server, messages=[{"role": "developer", "content": "Be brief."}, *HI])["choices"]


def test_request_ids_are_echoed_and_unknown_fields_named(server: Running) -> None:
    answer = server.http.post(
        "/v1/chat/completions", json={"messages": HI, "max_tokens": 1, "wibble": 1}, headers={"X-Request-ID": "abc"}
    )
    assert answer.headers["x-request-id"] == "abc"
    assert answer.headers["x-ignored-fields"] == "wibble"


def test_models_and_heads(server: Running) -> None:
    (model,) = server.http.get("/v1/models").json()["data"]
    assert model["id"] == "orcinus-tiny"
    assert server.http.get(f"/v1/models/{model['id']}").json() == model
    for path in ("/v1/models", "/health", "/ready"):
        assert server.http.head(path).status_code == 200


def test_tokens_there_and_back(server: Running) -> None:
    found = server.http.post("/tokenize", json={"prompt": "Grüße, 你好"}).json()
    assert server.http.post("/detokenize", json={"tokens": found["tokens"]}).json() == {"prompt": "Grüße, 你好"}


def test_the_policy_can_be_switched_while_answers_run(server: Running) -> None:
    expected = chat(server, messages=STORY, max_tokens=25)["choices"][0]["message"]["content"]
    before = server.scheduler()
    pieces = []
    with server.http.stream(
        "POST", "/v1/chat/completions", json={"messages": STORY, "max_tokens": 25, "temperature": 0, "stream": True}
    ) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                pieces.append(json.loads(line[6:])["choices"][0]["delta"]["content"])
            if len(pieces) == 3:
                found = server.http.put("/v1/scheduler", json={"policy": "sarathi:chunk_size=32", "order": "fair"}).json()
                assert (found["policy"], found["order"]) == ("sarathi:chunk_size=32", "fair")
    assert "".join(pieces) == expected
    server.http.put("/v1/scheduler", json={"policy": before["policy"], "order": before["order"]})


def test_cached_tokens_of_several_prompts_are_added_up_once_per_prompt(server: Running) -> None:
    prompts = ["the first long prompt " * 12, "and another long one " * 12]
    body = {"prompt": prompts, "n": 2, "max_tokens": 2, "cache_salt": "several"}

    def cached(**fields: Any) -> int:
        usage = server.http.post("/v1/completions", json=body | fields).json()["usage"]
        found: int = usage["prompt_tokens_details"]["cached_tokens"]
        return found

    assert cached() == 0
    both, each = cached(), [cached(prompt=one) for one in prompts]
    assert both == sum(each)
    assert min(each) > 0


def test_variables_of_the_template_are_taken_and_others_are_not(server: Running) -> None:
    def status(**options: Any) -> int:
        body = {"messages": HI, "max_tokens": 1, "chat_template_kwargs": options}
        return server.http.post("/v1/chat/completions", json=body).status_code

    assert status(enable_thinking=False) == 200
    for name in ("messages", "tools", "chat_template", "add_generation_prompt"):
        assert status(**{name: "x"}) == 400
