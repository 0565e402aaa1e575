"""Bodies by themselves: which fields are refused, which are taken, and what errors say."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.component_spec import make_order, make_policy
from orcinus.core.orders import ORDERS
from orcinus.core.policies import POLICIES
from orcinus.errors import ConfigError
from orcinus.serve.body import parse
from orcinus.serve.component_schema import numbers_below, spelled_schema
from orcinus.serve.errors import ApiError
from orcinus.serve.object_schema import Object
from orcinus.serve.schema import ChatBody, CompletionBody, DetokenizeBody, TokenizeBody
from orcinus.serve.validation import check_fields
from tests.examples import examples

HI = [{"role": "user", "content": "Hi"}]
STARTS: dict[type[Object], dict[str, Any]] = {
    ChatBody: {"messages": HI},
    CompletionBody: {"prompt": "Once"},
    TokenizeBody: {"prompt": "Once"},
    DetokenizeBody: {"tokens": [5]},
}


def read(kind: type[Object], *, strict: bool = False, **fields: Any) -> list[str]:
    return check_fields(parse(json.dumps(STARTS[kind] | fields).encode(), kind), strict=strict)


def refusal(kind: type[Object], *, strict: bool = False, **fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read(kind, strict=strict, **fields)
    assert caught.value.status == 400
    return caught.value


WISHES: dict[str, Any] = {
    "guided_decoding_backend": "outlines",
    "structural_tag": {"type": "structural_tag"},
    "logprob_token_ids": [5],
    "max_new_tokens": 5,
    "n_predict": 5,
    "num_predict": 0,
    "min_new_tokens": 5,
    "repeat_penalty": 1.1,
    "repeat_last_n": 64,
    "rep_pen": 1.2,
    "mirostat": 2,
    "mirostat_tau": 5.0,
    "mirostat_mode": 1,
    "dry_multiplier": 0.8,
    "dry_sequence_breakers": ["\n"],
    "xtc_probability": 0.5,
    "xtc_threshold": 0.1,
    "typical_p": 0.9,
    "tfs_z": 0.9,
    "cfg_scale": 1.5,
    "guidance_scale": 2,
    "dynatemp_range": 0.5,
    "top_a": 0.1,
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "wav"},
    "documents": [{"text": "x"}],
    "chat_template": "{{ messages }}",
    "functions": [{"name": "look"}],
    "function_call": {"name": "look"},
    "suffix": "the end",
    "use_beam_search": True,
    "num_beams": 4,
    "do_sample": False,
    "stop_sequences": ["x"],
    "system": "Be brief.",
    "extra_body": {"top_k": 1},
    "options": {"temperature": 0},
    "format": "json",
    "enable_thinking": False,
    "lora_path": "x",
    "sampling_seed": 5,
    "tokens_to_generate": 5,
    "maxOutputTokens": 0,
    "topK": 1,
    "frequencyPenalty": 0.5,
    "stopSequences": ["x"],
    "candidate_count": 2,
    "eos_token_id": 5,
    "banned_phrases": ["x"],
    "response_schema": {"type": "object"},
    "adapters": ["x"],
    "return_full_text": True,
    "reasoning_budget": 5,
    "num_ctx": 5,
}


@pytest.mark.parametrize("kind", [ChatBody, CompletionBody])
@pytest.mark.parametrize("name", WISHES)
def test_a_wish_that_cannot_be_met_is_refused_by_its_name(kind: type[Object], name: str) -> None:
    error = refusal(kind, **{name: WISHES[name]})
    assert (error.code, error.param) == ("unsupported_parameter", name)
    assert error.message.startswith(f"{name}: not supported; ")
    assert len(error.message) > len(f"{name}: not supported; ") + 5, "it says what to do instead"


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (ChatBody, {"echo": True}),
        (ChatBody, {"prompt": "Once"}),
        (CompletionBody, {"messages": HI}),
        (CompletionBody, {"tools": [{"type": "function", "function": {"name": "look"}}]}),
        (CompletionBody, {"tool_choice": "required"}),
        (CompletionBody, {"include_reasoning": False}),
        (CompletionBody, {"max_completion_tokens": 5}),
        (CompletionBody, {"top_logprobs": 5}),
        (CompletionBody, {"add_generation_prompt": True}),
        (CompletionBody, {"continue_final_message": True}),
        (TokenizeBody, {"chat_template": "x"}),
        (TokenizeBody, {"content": "x"}),
        (TokenizeBody, {"truncate_prompt_tokens": 5}),
        (DetokenizeBody, {"token_ids": [5]}),
    ],
)
def test_a_field_of_another_route_is_refused(kind: type[Object], fields: dict[str, Any]) -> None:
    error = refusal(kind, **fields)
    assert (error.code, error.param) == ("unsupported_parameter", next(iter(fields)))


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "x", "function_call": {"name": "look", "arguments": "{}"}},
        {"role": "assistant", "content": None, "audio": {"id": "a"}},
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "assistant", "content": "x", "prefix": True},
        {"role": "user", "content": "x", "images": ["data"]},
    ],
)
def test_a_field_of_a_message_is_refused_with_its_place(message: dict[str, Any]) -> None:
    error = refusal(ChatBody, messages=[*HI, message])
    assert error.code == "unsupported_parameter"
    assert error.param == f"messages[1].{list(message)[-1]}"


OFF: list[dict[str, Any]] = [
    *({name: None} for name in WISHES),
    *({name: False} for name in ("use_beam_search", "echo", "guided_json", "json_schema", "raw", "early_stopping", "logprobs")),
    *({name: ""} for name in ("suffix", "grammar", "regex", "guided_regex", "guided_json", "system", "user")),
    *({name: "none"} for name in ("tool_choice", "function_call")),
    *({name: "auto"} for name in ("tool_choice", "function_call")),
    *({name: []} for name in ("tools", "functions", "documents", "stop", "stop_token_ids", "lora", "samplers")),
    *({name: {}} for name in ("structured_outputs", "logit_bias", "stream_options", "options")),
    *({name: 0} for name in ("mirostat", "dry_multiplier", "xtc_probability", "top_a", "no_repeat_ngram_size", "min_tokens")),
    *({name: 1} for name in ("typical_p", "tfs_z", "cfg_scale", "guidance_scale", "repeat_penalty", "rep_pen", "num_beams")),
    *({"parallel_tool_calls": value} for value in (True, False)),
    {"response_format": {"type": "text"}},
    {"modalities": ["text"]},
    {"do_sample": True},
    {"truncation": "disabled"},
    {"mirostat": 0, "mirostat_tau": 5.0, "mirostat_eta": 0.1},
    {"dry_multiplier": 0.0, "dry_base": 1.75, "dry_allowed_length": 2, "dry_sequence_breakers": ["\n"]},
    {"xtc_probability": 0, "xtc_threshold": 0.1},
    {"repeat_penalty": 1.0, "repeat_last_n": 64},
]


@pytest.mark.parametrize("kind", [ChatBody, CompletionBody])
@pytest.mark.parametrize("fields", OFF, ids=str)
def test_a_value_that_means_off_is_taken(kind: type[Object], fields: dict[str, Any]) -> None:
    assert read(kind, **fields, strict=True) == []


def test_values_that_only_look_off_are_not() -> None:
    for fields in ({"num_beams": True}, {"mirostat": True}, {"typical_p": 0}, {"max_new_tokens": 0}):
        assert refusal(ChatBody, **fields).code == "unsupported_parameter"


@pytest.mark.parametrize("fields", [{"logprobs": False}, {"prompt_logprobs": False}, {"top_logprobs": 0}])
def test_completions_take_false_for_no_log_probabilities(fields: dict[str, Any]) -> None:
    assert read(CompletionBody, **fields) == []


def test_chats_take_zero_for_no_log_probabilities() -> None:
    body = parse(json.dumps({"messages": HI, "logprobs": 0, "top_logprobs": False}).encode(), ChatBody)
    assert (body.logprobs, body.top_logprobs) == (None, None)


def test_an_assistants_content_may_be_null() -> None:
    for message in ({"role": "assistant", "content": None}, {"role": "assistant"}):
        assert read(ChatBody, messages=[*HI, message]) == []


def test_all_unsupported_fields_are_named() -> None:
    error = refusal(ChatBody, mirostat=2, mirostat_tau=5, functions=[{"name": "look"}])
    assert error.param == "mirostat"
    assert all(name in error.message for name in ("mirostat, mirostat_tau", "functions: not supported; use tools"))


def test_unknown_fields_are_named_wherever_they_are_and_refused_if_strict() -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {}}], "weight": 1}
    fields: dict[str, Any] = {"messages": [message, message], "stream": True, "stream_options": {"include_obfuscation": False}}
    named = ["messages[0].content[0].cache_control", "messages[0].weight", "stream_options.include_obfuscation", "wibble"]
    assert read(ChatBody, **fields, wibble=1) == named
    error = refusal(ChatBody, **fields, wibble=1, strict=True)
    assert error.code == "unknown_parameter"
    assert all(name in error.message for name in named)
    for kind in STARTS:
        assert read(kind, wibble=1) == ["wibble"]
        assert refusal(kind, wibble=1, wobble=2, strict=True).message.startswith("unknown: wibble, wobble; ")


def test_fields_that_change_no_answer_are_named_and_never_refused() -> None:
    fields = {"metadata": {"a": "b"}, "store": False, "verbosity": "low", "prediction": None}
    assert read(ChatBody, **fields, strict=True) == ["metadata", "store", "verbosity"]
    repeated = {"role": "assistant", "content": "x", "refusal": None, "audio": None, "annotations": [], "function_call": None}
    assert read(ChatBody, messages=[*HI, repeated | {"tool_calls": None}], strict=True) == []


BROKEN: list[tuple[bytes, str | None, str]] = [
    (b"", None, "the body is empty"),
    (b" \n", None, "the body is empty"),
    (b'{"prompt": [', None, "expecting value at line 1, column 13"),
    (b'{"prompt":\n "x",\n}', None, "line 3, column 1"),
    (b'{"prompt": "x', None, "unterminated string starting at line 1, column 12"),
    (b'{"prompt": "a\tb"}', None, "invalid control character at line 1, column 14"),
    (b"{} {}", None, "extra data at line 1, column 4"),
    (b"{'prompt': 1}", None, "property name enclosed in double quotes at line 1, column 2"),
    (b"\xef\xbb\xbf{}", None, "byte order mark"),
    (b'{"prompt": "\xff"}', None, "not UTF-8: byte 12 is 0xff"),
    (b"\x1f\x8b\x08", None, "not UTF-8: byte 1 is 0x8b"),
    (b'{"prompt": "x", "temperature": NaN}', "temperature", "NaN is not a number"),
    (b'{"prompt": "x", "logit_bias": {"5": -Infinity}}', "logit_bias.5", "-Infinity is not a number"),
    (b'{"prompt": "x", "temperature": 1e400}', "temperature", "out of range"),
    (b'{"prompt": [[1, ' + b"9" * 5000 + b"]]}", "prompt[0][1]", "out of range"),
    (b'{"messages": [{"content": "\\ud800"}]}', "messages[0].content", "half a surrogate pair"),
    (b'{"\\ud800": 1}', None, "name of a field has half a surrogate pair"),
    (b"[" * 20_000, None, "nested more than 64 deep"),
    (b"[" * 100 + b"]" * 100, None, "not a list"),
    (b'{"a": ' * 65 + b"{}" + b"}" * 65, None, "nested more than 64 deep"),
    (b"[]", None, "must be a JSON object, not a list"),
    (b'"Hi"', None, "must be a JSON object, not 'Hi'"),
]


@pytest.mark.parametrize(("raw", "param", "says"), BROKEN, ids=[str(raw[:30]) for raw, _, _ in BROKEN])
def test_a_body_that_is_no_request_is_told_why(raw: bytes, param: str | None, says: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(raw, CompletionBody)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "invalid_json", param)
    assert says in caught.value.message
    assert param is None or caught.value.message.startswith(param)


def test_each_cause_has_a_message_of_its_own() -> None:
    said = set()
    for raw in (b"{", b"", b'{"prompt": "\xff"}', b'{"top_p": NaN}', b'{"top_p": 1e999}', b'{"prompt": {"a": []}}', b"[]"):
        with pytest.raises(ApiError) as caught:
            parse(raw, CompletionBody)
        said.add(caught.value.message)
    assert len(said) == 7


IMAGE = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0].type", "reads no images"),
    ({"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, "messages[0].content[0].type", "not 'smell'"),
    ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role", "not a list"),
    ({"messages": [{"role": "user", "content": {"text": "x"}}]}, "messages[0].content", "must be a string, not an object"),
    ({"model": ["a"]}, "model", "must be a string, not a list"),
    ({"stop": {"text": "a"}}, "stop", "must be a string, not an object"),
    ({"user": {"a": 1}}, "user", "must be a string, not an object"),
    ({"stop": [["a"]]}, "stop[0]", "must be a string, not a list"),
    ({"temperature": "hot"}, "temperature", "must be a number, not 'hot'"),
    ({"temperature": 2.5}, "temperature", "must be at most 2, not 2.5"),
    ({"top_p": 0}, "top_p", "must be above 0, not 0"),
    ({"max_tokens": 2.5}, "max_tokens", "must be a whole number, not 2.5"),
    ({"n": 129}, "n", "must be at most 128, not 129"),
    ({"stream": None, "stop": 7}, "stop", "must be a string, not 7"),
    ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens", "must be at least 1, or -1"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": 5}}]}]},
     "messages[0].tool_calls[0].function.arguments", "must be a string or an object, not 5"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param", "says"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_field_is_told_with_what_it_must_be(fields: dict[str, Any], param: str, says: str) -> None:
    error = refusal(ChatBody, **fields)
    assert (error.code, error.param) == ("invalid_value", param)
    assert error.message.startswith(f"{param}: ")
    assert says in error.message


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"logit_bias": {"a": 1, "b": 2, "5": "x"}}, ["logit_bias.a", "logit_bias.b", "logit_bias.5"]),
        (
            {"chat_template_kwargs": {"messages": 1, "tools": 2}},
            ["chat_template_kwargs.messages", "chat_template_kwargs.tools"],
        ),
        (
            {"stream": True, "stream_options": {"include_usage": "yes", "continuous_usage_stats": 1}},
            ["stream_options.include_usage", "stream_options.continuous_usage_stats"],
        ),
        ({"stop_token_ids": [5, -1, -2]}, ["stop_token_ids[1]", "stop_token_ids[2]"]),
        ({"temperature": -1, "top_p": 7}, ["temperature", "top_p"]),
    ],
)
def test_every_wrong_key_is_named(fields: dict[str, Any], names: list[str]) -> None:
    error = refusal(ChatBody, **fields)
    assert error.param == names[0]
    assert all(f"{name}: " in error.message for name in names)


LONG = "x" * 10_000


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": LONG},
        {"stop": {LONG: LONG}},
        {"messages": [{"role": LONG, "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": LONG}]}]},
        {"logit_bias": {LONG: 1, LONG + "y": 2}},
        {"chat_template_kwargs": {LONG: 1}},
        {"cache_salt": LONG},
        {"mirostat" + LONG: 1},
        {"seed": 10**4000},
        {"tools": LONG},
    ],
)
def test_no_value_is_repeated_at_length(fields: dict[str, Any]) -> None:
    error = refusal(ChatBody, **fields)
    assert "x" * 200 not in error.message
    assert "0" * 200 not in error.message
    assert len(error.message) < 1000
    assert len(error.param or "") < 200
    assert len(refusal(ChatBody, strict=True, **{LONG: 1}).message) < 500


@pytest.mark.parametrize("name", ["\n", "a\r\nb", "\x00", "\u2028"])
@pytest.mark.parametrize("nested", [True, False])
def test_names_cannot_break_the_line(name: str, nested: bool) -> None:
    error = refusal(ChatBody, strict=True, **({"logit_bias": {name: None}} if nested else {name: 1}))
    assert repr(name)[1:-1] in error.message
    assert error.message.isprintable()
    assert (error.param or "").isprintable()


def test_a_million_errors_are_told_in_no_time() -> None:
    """Not by a clock: a list that is too long is refused as such, before its entries are looked at."""
    for fields in ({"messages": [1] * 5000}, {"logit_bias": {str(i): "x" for i in range(5000)}}, {"stop": [1] * 5000}):
        error = refusal(ChatBody, **fields)
        assert "must have at most" in error.message
        assert "not 5000" in error.message
    assert refusal(CompletionBody, prompt=[-1] * 5000).message == "prompt[0]: must be at least 0, not -1"


@pytest.mark.parametrize("limit", [1, 2, 9, 10, 11, 99, 100, 101, 2048, 4099, 32000, 151936])
def test_a_pattern_of_numbers_knows_its_limit(limit: int) -> None:
    pattern = re.compile(numbers_below(limit))
    around = {*range(min(limit, 1200)), limit - 1, limit // 2}
    assert all(pattern.search(str(number)) for number in around)
    assert not any(pattern.search(str(number)) for number in (limit, limit + 1, 10 * limit, 10**9))
    assert not any(pattern.search(text) for text in ("", "-1", "a", "1.0", "1 "))


@pytest.mark.parametrize(("known", "make"), [(POLICIES, make_policy), (ORDERS, make_order)], ids=["policies", "orders"])
def test_whatever_the_schema_of_a_policy_or_order_allows_can_be_made(known: Any, make: Any) -> None:
    arms = spelled_schema(known)["anyOf"]
    assert isinstance(arms, list)
    assert arms[0] == {"enum": list(known)}
    for arm in arms[1:]:
        pattern = re.compile(arm["pattern"])  # type: ignore[index,call-overload,arg-type]

        @examples(30)
        @given(st.from_regex(pattern, fullmatch=True))
        def can_be_made(spelled: str) -> None:
            make(spelled)

        can_be_made()
    for wrong in ("magic", "sarathi:", "sarathi:chunk_size=0", "fcfs:x=1"):
        assert wrong not in known
        assert not any(re.search(arm["pattern"], wrong) for arm in arms[1:])  # type: ignore[index,call-overload,arg-type]
        with pytest.raises(ConfigError):
            make(wrong)


def test_the_last_of_equal_keys_counts() -> None:
    """As in Python's own reader and OpenAI's API (ADR 11)."""
    assert parse(b'{"prompt": "x", "max_tokens": 1, "max_tokens": 2}', CompletionBody).max_tokens == 2
