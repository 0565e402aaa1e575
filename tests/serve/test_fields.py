"""What the fields of requests do, by a real server: those of vLLM's that are cheap, and the defaults of OpenAI's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from orcinus.serve import response_schema
from orcinus.text.tokenizer import load_tokenizer
from orcinus.tiny import MODEL_DIR
from tests.serve.conftest import Running
from tests.serve.in_process import serving_in_process
from tests.serve.test_answers import stream

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HI = [{"role": "user", "content": "Hi"}]
STORY = [{"role": "user", "content": "Tell me a story about a fox."}, {"role": "assistant", "content": "Once upon a time, "}]
START = "Once upon a time there was a fox who"


def post(server: Running, path: str, **fields: Any) -> dict[str, Any]:
    answer = server.http.post(path, json={"temperature": 0} | fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def complete(server: Running, **fields: Any) -> dict[str, Any]:
    return post(server, TEXT, **{"prompt": START, "max_tokens": 6, "return_token_ids": True} | fields)


def chat(server: Running, **fields: Any) -> dict[str, Any]:
    return post(server, CHAT, **{"messages": HI, "max_tokens": 6, "return_token_ids": True} | fields)


def tokens(server: Running, **fields: Any) -> list[int]:
    answer = server.http.post("/tokenize", json=fields)
    assert answer.status_code == 200, answer.text
    found: list[int] = answer.json()["tokens"]
    return found


def test_a_completion_without_max_tokens_has_sixteen(server: Running) -> None:
    for fields in ({}, {"max_tokens": None}):
        found = post(server, TEXT, prompt=START, ignore_eos=True, **fields)
        assert found["usage"]["completion_tokens"] == 16
        assert found["choices"][0]["finish_reason"] == "length"
    chatting = post(server, CHAT, messages=STORY[:1], stop=".")
    assert chatting["usage"]["completion_tokens"] > 16


def test_the_paths_without_a_version_are_the_same(server: Running) -> None:
    plain = complete(server)["choices"]
    assert post(server, "/completions", prompt=START, max_tokens=6, return_token_ids=True)["choices"] == plain
    plain = chat(server)["choices"]
    assert post(server, "/chat/completions", messages=HI, max_tokens=6, return_token_ids=True)["choices"] == plain
    assert server.http.get("/completions").status_code == 405


def test_every_response_and_frame_has_the_same_fingerprint(server: Running) -> None:
    found = {complete(server)["system_fingerprint"], chat(server)["system_fingerprint"]}
    options = {"stream_options": {"include_usage": True}, "return_progress": True}
    for path, start in ((CHAT, {"messages": HI}), (TEXT, {"prompt": START})):
        found |= {frame["system_fingerprint"] for frame in stream(server, path, max_tokens=3, **start, **options)}
    (one,) = found
    assert one.startswith("fp_")


def test_as_many_answers_as_the_queue_holds(server: Running) -> None:
    found = complete(server, n=64, max_tokens=1, temperature=1, ignore_eos=True)
    assert [choice["index"] for choice in found["choices"]] == list(range(64))
    for n in (65, 128):
        refused = server.http.post(TEXT, json={"prompt": START, "n": n}).json()["error"]
        assert (refused["code"], refused["param"]) == ("too_many_answers", "n")
    properties = server.http.get("/openapi.json").json()["components"]["schemas"]["CompletionBody"]["properties"]
    assert properties["n"]["anyOf"][0]["exclusiveMaximum"] == 65


def test_a_last_message_is_continued(server: Running) -> None:
    fields = {"continue_final_message": True, "add_generation_prompt": False}
    ids = chat(server, messages=STORY, **fields)["prompt_token_ids"]
    text = server.http.post("/detokenize", json={"tokens": ids}).json()["prompt"]
    assert text.endswith("assistant\nOnce upon a time, ")
    assert chat(server, messages=STORY, continue_final_message=True)["prompt_token_ids"] == ids
    assert tokens(server, messages=STORY, **fields) == ids
    said = chat(server, messages=STORY, **fields)["choices"][0]["token_ids"]
    assert said == complete(server, prompt=ids)["choices"][0]["token_ids"]
    special = [{"role": "assistant", "content": "<|im_end|>x"}]
    assert tokens(server, messages=special, **fields)[-1] == tokens(server, prompt="x")[0]


def test_a_conversation_without_the_next_turn(server: Running) -> None:
    closed = chat(server, messages=HI, add_generation_prompt=False)["prompt_token_ids"]
    opened = chat(server, messages=HI)["prompt_token_ids"]
    assert len(closed) < len(opened)
    assert opened[: len(closed)] == closed
    assert tokens(server, messages=HI, add_generation_prompt=False) == closed
    for path in (CHAT, "/tokenize"):
        both = server.http.post(path, json={"messages": STORY, "add_generation_prompt": True, "continue_final_message": True})
        assert both.status_code == 400
        assert both.json()["error"]["param"] == "continue_final_message"
    nothing = [*HI, {"role": "assistant", "content": None}]
    assert server.http.post(CHAT, json={"messages": nothing, "continue_final_message": True}).status_code == 400


@pytest.mark.parametrize("kind", ["text", "ids", "several"])
def test_a_prompt_is_cut_to_its_last_tokens(server: Running, kind: str) -> None:
    ids = tokens(server, prompt=START)
    prompt: Any = {"text": START, "ids": ids, "several": [START, START]}[kind]
    found = complete(server, prompt=prompt, truncate_prompt_tokens=4, echo=True)
    for choice in found["choices"]:
        assert choice["prompt_token_ids"] == ids[-4:]
        assert choice["text"].startswith(server.http.post("/detokenize", json={"tokens": ids[-4:]}).json()["prompt"])
        assert choice["token_ids"] == complete(server, prompt=ids[-4:])["choices"][0]["token_ids"]
    assert found["usage"]["prompt_tokens"] == 4 * len(found["choices"])


def test_a_cut_prompt_may_be_longer_than_the_context(server: Running) -> None:
    long = "word " * 5000
    assert server.http.post(TEXT, json={"prompt": long}).status_code == 400
    ids = tokens(server, prompt=long)
    found = complete(server, prompt=long, truncate_prompt_tokens=-1)["choices"][0]
    assert found["prompt_token_ids"] == ids[-(2048 - 6) :]
    assert complete(server, prompt=ids, truncate_prompt_tokens=100)["choices"][0]["prompt_token_ids"] == ids[-100:]
    first = complete(server, prompt=ids, truncate_prompt_tokens=100, truncation_side="right")["choices"][0]
    assert first["prompt_token_ids"] == ids[:100]
    whole = complete(server, truncate_prompt_tokens=2048)["choices"][0]
    assert whole["prompt_token_ids"] == tokens(server, prompt=START)
    messages = [{"role": "user", "content": long}]
    assert len(chat(server, messages=messages, truncate_prompt_tokens=10)["prompt_token_ids"]) == 10
    for wrong in (0, -2, 2049, 10**12, 1.5, "4"):
        refused = server.http.post(TEXT, json={"prompt": START, "truncate_prompt_tokens": wrong})
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "truncate_prompt_tokens"


def test_log_probabilities_of_a_prompt(server: Running) -> None:
    ids = tokens(server, prompt=START)
    legacy = complete(server, echo=True, logprobs=2, max_tokens=0)["choices"][0]["logprobs"]
    found = complete(server, prompt_logprobs=2, n=2, temperature=1)
    response_schema.TextCompletion.model_validate(found)
    for choice in found["choices"]:
        entries = choice["prompt_logprobs"]
        assert entries[0] is None
        assert len(entries) == len(ids)
        for token, entry, logprob in zip(ids[1:], entries[1:], legacy["token_logprobs"][1:], strict=True):
            assert entry[str(token)]["logprob"] == pytest.approx(logprob, abs=0.02)
            assert next(iter(entry)) == str(token)
            assert 2 <= len(entry) <= 3
            assert {1, 2} <= {one["rank"] for one in entry.values()}
        assert "".join(entry[str(token)]["decoded_token"] for token, entry in zip(ids[1:], entries[1:], strict=True)) in START
    alone = complete(server, prompt_logprobs=0)["choices"][0]["prompt_logprobs"]
    assert [len(entry) for entry in alone[1:]] == [1] * (len(ids) - 1)


def test_log_probabilities_of_a_conversation(server: Running) -> None:
    found = chat(server, prompt_logprobs=1)
    response_schema.ChatCompletion.model_validate(found)
    assert found["prompt_token_ids"] == tokens(server, messages=HI)
    assert len(found["prompt_logprobs"]) == len(found["prompt_token_ids"])
    first, *others = stream(server, CHAT, messages=HI, max_tokens=3, prompt_logprobs=1, return_token_ids=True)
    assert (first["prompt_token_ids"], first["prompt_logprobs"]) == (found["prompt_token_ids"], found["prompt_logprobs"])
    assert not any("prompt_logprobs" in frame or "prompt_token_ids" in frame for frame in others)
    first, *others = stream(server, TEXT, prompt=START, max_tokens=3, return_token_ids=True)
    assert first["choices"][0]["prompt_token_ids"] == tokens(server, prompt=START)
    assert not any("prompt_token_ids" in frame["choices"][0] for frame in others)


def test_echo_and_log_probabilities_of_a_prompt_are_cut_apart(server: Running) -> None:
    choice = complete(server, echo=True, logprobs=1, prompt_logprobs=4)["choices"][0]
    assert {len(top) for top in choice["logprobs"]["top_logprobs"][1:]} <= {1, 2}
    assert {len(entry) for entry in choice["prompt_logprobs"][1:]} <= {4, 5}


def test_tokens_may_be_spelled_as_ids(server: Running) -> None:
    choice = complete(server, logprobs=2, return_tokens_as_token_ids=True)["choices"][0]
    names = [f"token_id:{token}" for token in choice["token_ids"]]
    assert choice["logprobs"]["tokens"] == names
    plain = complete(server, logprobs=2)["choices"][0]["logprobs"]
    assert choice["logprobs"]["text_offset"] == plain["text_offset"]
    for name, top in zip(names, choice["logprobs"]["top_logprobs"], strict=True):
        assert name in top
        assert all(one.startswith("token_id:") for one in top)
    choice = chat(server, logprobs=True, top_logprobs=1, return_tokens_as_token_ids=True)["choices"][0]
    content = choice["logprobs"]["content"]
    assert [one["token"] for one in content] == [f"token_id:{token}" for token in choice["token_ids"]]
    assert [one["top_logprobs"][0]["token"] for one in content] == [one["token"] for one in content]


def test_only_allowed_tokens_are_written_and_bad_words_are_not(server: Running) -> None:
    allowed = [300, 301, 302]
    for found in (complete(server, allowed_token_ids=allowed), chat(server, allowed_token_ids=allowed)):
        assert set(found["choices"][0]["token_ids"]) <= set(allowed)
    plain = complete(server, max_tokens=20)["choices"][0]["text"]
    word = max(plain.split(), key=len)
    assert word not in complete(server, max_tokens=20, bad_words=[word])["choices"][0]["text"]
    assert complete(server, max_tokens=20, bad_words=[], allowed_token_ids=None)["choices"][0]["text"] == plain
    for fields, param in (
        ({"allowed_token_ids": [5, 10**6]}, "allowed_token_ids[1]"),
        ({"allowed_token_ids": []}, "allowed_token_ids"),
        ({"bad_words": [3]}, "bad_words[0]"),
        ({"bad_words": ["a", " "]}, "bad_words[1]"),
    ):
        assert server.http.post(TEXT, json={"prompt": START} | fields).json()["error"]["param"] == param


def test_a_stop_string_and_a_stop_token_may_be_part_of_the_text(server: Running) -> None:
    plain = complete(server, max_tokens=20)["choices"][0]
    word = plain["text"].split()[3]
    for fields in ({"stop": [word, "never"]}, {"stop": word, "stream": True}):
        for included in (False, True):
            body = fields | {"include_stop_str_in_output": included, "max_tokens": 20}
            if fields.get("stream"):
                frames = stream(server, TEXT, prompt=START, **body)
                text, reason = "".join(f["choices"][0]["text"] for f in frames), frames[-1]["choices"][0]["finish_reason"]
            else:
                choice = complete(server, **body)["choices"][0]
                text, reason = choice["text"], choice["finish_reason"]
            place = plain["text"].index(word)
            assert (text, reason) == (plain["text"][: place + len(word) * included], "stop")
    token = plain["token_ids"][2]
    ended = {
        included: complete(server, stop_token_ids=[token], include_stop_str_in_output=included) for included in (False, True)
    }
    texts = {included: found["choices"][0]["text"] for included, found in ended.items()}
    ids = ended[True]["choices"][0]["token_ids"]
    assert ids == ended[False]["choices"][0]["token_ids"] == plain["token_ids"][:3]
    assert texts[True] == server.http.post("/detokenize", json={"tokens": ids}).json()["prompt"] != texts[False]


def test_special_tokens_may_have_a_text(server: Running) -> None:
    (end,) = tokens(server, prompt="<|im_end|>")
    fields = {"messages": HI, "logit_bias": {str(end): 100}, "max_tokens": 3, "ignore_eos": True}
    for skip, text in ((None, ""), (True, ""), (False, "<|im_end|>" * 3)):
        choice = post(server, CHAT, skip_special_tokens=skip, **fields)["choices"][0]
        assert choice["message"]["content"] == text
        frames = stream(server, CHAT, skip_special_tokens=skip, **fields)
        assert "".join(frame["choices"][0]["delta"].get("content", "") for frame in frames) == text
    ends = fields | {"ignore_eos": False}
    assert post(server, CHAT, skip_special_tokens=False, **ends)["choices"][0]["message"]["content"] == ""
    included = post(server, CHAT, skip_special_tokens=False, include_stop_str_in_output=True, **ends)["choices"][0]
    assert (included["message"]["content"], included["finish_reason"]) == ("<|im_end|>", "stop")
    echoed = complete(server, prompt=[end, *tokens(server, prompt="a")], echo=True, max_tokens=0, skip_special_tokens=False)
    assert echoed["choices"][0]["text"] == "<|im_end|>a"
    for skip, text in ((True, "a"), (False, "<|im_end|>a")):
        body = {"tokens": [end, *tokens(server, prompt="a")], "skip_special_tokens": skip}
        assert server.http.post("/detokenize", json=body).json()["prompt"] == text


def test_no_answer_is_longer_than_what_is_echoed_of_a_wrong_value(server: Running) -> None:
    long = "x" * 5000
    answers = [
        server.http.get(f"/{long}"),
        server.http.get(f"/v1/models/{long}"),
        server.http.post(f"/v1/requests/{long}/cancel"),
        server.http.post(TEXT, json={"prompt": START, "model": long}),
        server.http.post(TEXT, json={"prompt": START, "logit_bias": {long: 1}}),
        server.http.put("/v1/scheduler", json={"policy": long[:1000]}),
        server.http.put("/v1/scheduler", json={"policy": f"sarathi:chunk_size={'9' * 900}x"}),
        server.http.put("/v1/scheduler", json={"order": f"fair:{long[:900]}=1"}),
        server.http.put("/v1/scheduler", json={long: 1, "y" * 900: 2}),
    ]
    for answer in answers:
        error = answer.json()["error"]
        assert answer.status_code in (400, 404)
        for part in (error["message"], error["param"] or ""):
            assert not any(char * 200 in part for char in "x9y")


def test_all_ids_that_are_none_are_named(server: Running) -> None:
    for fields, names in (
        ({"logit_bias": {"5": 1, "99999": 1, "88888": 1}}, ["logit_bias.99999", "logit_bias.88888"]),
        ({"stop_token_ids": [5, 99999, 88888]}, ["stop_token_ids[1]", "stop_token_ids[2]"]),
        ({"prompt": [5, 99999, 88888]}, ["prompt[1]", "prompt[2]"]),
    ):
        error = server.http.post(TEXT, json={"prompt": START} | fields).json()["error"]
        assert error["param"] == names[0]
        assert all(name in error["message"] for name in names)


def test_unknown_fields_are_named_on_every_route(server: Running) -> None:
    for path, body in (("/tokenize", {"prompt": "x"}), ("/detokenize", {"tokens": [5]}), (TEXT, {"prompt": "x"})):
        answer = server.http.post(path, json=body | {"wibble": 1, "wo\r\nbble": 2})
        assert answer.status_code == 200
        assert answer.headers["x-ignored-fields"] == "wibble, wo??bble"


@pytest.fixture(scope="module")
def strict() -> Iterator[Running]:
    with serving_in_process("--strict", "--simulate", "llama-7b", "--speed", "1000") as running:
        yield running


def test_a_strict_server_refuses_unknown_fields_on_every_route(strict: Running) -> None:
    bodies: list[tuple[str, dict[str, Any]]] = [
        (CHAT, {"messages": HI}),
        (TEXT, {"prompt": "x"}),
        ("/completions", {"prompt": "x"}),
        ("/tokenize", {"prompt": "x"}),
        ("/tokenize", {"messages": HI}),
        ("/detokenize", {"tokens": [5]}),
    ]
    for path, body in bodies:
        assert strict.http.post(path, json=body).status_code == 200
        error = strict.http.post(path, json=body | {"wibble": 1, "wobble": 2}).json()["error"]
        assert (error["code"], error["param"]) == ("unknown_parameter", "wibble")
        assert "wobble" in error["message"]
    nested = {"messages": [HI[0] | {"weight": 1}]}
    assert strict.http.post(CHAT, json=nested).json()["error"]["param"] == "messages[0].weight"
    assert strict.http.put("/v1/scheduler", json={"wibble": 1}).status_code == 400
    assert strict.http.post(CHAT, json={"messages": HI, "store": False, "metadata": {}}).status_code == 200


def test_tools_and_variables_reach_the_template_of_tokenize(server: Running) -> None:
    """The bundled template shows neither: tools become a system text; the tokenizer's own test has one that shows both."""
    tool = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}}
    ids = tokens(server, messages=HI, tools=[tool], chat_template_kwargs={"enable_thinking": False})
    assert ids == chat(server, messages=HI, tools=[tool], max_tokens=1)["prompt_token_ids"]
    assert "Looks." in server.http.post("/detokenize", json={"tokens": ids}).json()["prompt"]
    for fields in ({"tools": [tool]}, {"add_generation_prompt": True}, {"chat_template_kwargs": {"thinking": True}}):
        answer = server.http.post("/tokenize", json={"prompt": "x", **fields})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(fields)))
    assert tokens(server, prompt="x", tools=[], add_generation_prompt=False) == tokens(server, prompt="x")
    wrong = server.http.post("/tokenize", json={"messages": HI, "tools": [{"type": "function"}]})
    assert wrong.json()["error"]["param"] == "tools[0].function"
    refused = server.http.post("/tokenize", json={"messages": HI, "chat_template": "x"})
    assert refused.json()["error"]["code"] == "unsupported_parameter"


TOOL_TEMPLATE = (
    "{% for tool in tools or () %}[{{ tool.function.name }}: {{ tool.function.description }}]{% endfor %}"
    "{% for message in messages %}<{{ message.role }}>{{ message.content.strip() }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_a_template_is_given_tools_and_endings() -> None:
    tokenizer = load_tokenizer(MODEL_DIR)
    assert tokenizer is not None
    tokenizer._tokenizer.chat_template = TOOL_TEMPLATE
    tools = [{"type": "function", "function": {"name": "look", "description": "See <|im_end|>."}}]
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well, "}]

    def text(**options: Any) -> str:
        ids = tokenizer.encode_chat(messages, **options)
        return "".join(tokenizer.token_bytes(token).decode() for token in ids)

    assert text() == "<user>Hi</><assistant>Well,</><assistant>"
    assert text(add_generation_prompt=False) == "<user>Hi</><assistant>Well,</>"
    assert text(continue_final_message=True) == "<user>Hi</><assistant>Well,"  # as the template strips it
    assert text(tools=tools, add_generation_prompt=False).startswith("[look: See <|im_end|>.]<user>")
    (end,) = tokenizer.encode("<|im_end|>")
    assert end not in tokenizer.encode_chat(messages, tools=tools), "a tool cannot end the message it stands in"
