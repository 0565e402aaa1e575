"""Checks of what a request's fields do."""

from __future__ import annotations

from typing import Any

from orcinus.conformance.registry import Body, Check, add, check
from orcinus.conformance.target import CHAT, HI, OPENING, STORY, TEXT, Json, ServerUnderTest, granted
from orcinus.conformance.verdict import Skip, expect, expect_equal

LONG = 40
NULLABLE = (
    *("max_tokens", "temperature", "top_p", "n", "stop", "stream", "seed", "logprobs", "top_logprobs", "logit_bias", "user"),
    *("tools", "tool_choice", "response_format", "stream_options", "presence_penalty", "frequency_penalty"),
)


def _text(answer: Json) -> str:
    return str(answer["choices"][0]["text"])


def _told(answer: Json) -> str:
    return str(answer["choices"][0]["message"]["content"])


@check("fields: max_tokens is kept, and the reason is length")
def _max_tokens(target: ServerUnderTest) -> None:
    found = target.chat(messages=STORY, max_tokens=5)
    expect_equal(found["usage"]["completion_tokens"], 5, "completion_tokens")
    expect_equal(found["choices"][0]["finish_reason"], "length", "finish_reason")


@check("fields: max_completion_tokens wins over max_tokens")
def _max_completion_tokens(target: ServerUnderTest) -> None:
    for fields in ({"max_completion_tokens": 4}, {"max_completion_tokens": 4, "max_tokens": 9}):
        expect_equal(target.chat(messages=STORY, **fields)["usage"]["completion_tokens"], 4, "completion_tokens")


@check("fields: n answers, numbered")
def _n(target: ServerUnderTest) -> None:
    found = target.chat(n=3, max_tokens=4, temperature=1)
    expect_equal([one["index"] for one in found["choices"]], [0, 1, 2], "the order of choices")


@check("fields: n answers to each of several prompts")
def _n_each(target: ServerUnderTest) -> None:
    found = target.complete(prompt=[OPENING, "Hello"], n=2, max_tokens=4, seed=1, temperature=1)["choices"]
    expect_equal([one["index"] for one in found], [0, 1, 2, 3], "the order of choices")


@check("fields: a greedy answer is the same every time")
def _greedy(target: ServerUnderTest) -> None:
    texts = {_told(target.chat(messages=STORY, max_tokens=LONG)) for _ in range(3)}
    expect(len(texts) == 1, f"{len(texts)} different texts")


@check("fields: a seed repeats an answer, and another seed gives another")
def _seed(target: ServerUnderTest) -> None:
    def tell(seed: int) -> str:
        return _told(target.chat(messages=STORY, max_tokens=LONG, temperature=1.5, seed=seed))

    expect(tell(7) == tell(7), "two texts with the same seed")
    expect(len({tell(seed) for seed in range(4)}) > 1, "the same text with four seeds")


@check("fields: answers without a seed differ")
def _no_seed(target: ServerUnderTest) -> None:
    texts = (_told(target.chat(messages=STORY, max_tokens=LONG, temperature=1.5)) for _ in range(4))
    first = next(texts)
    expect(any(text != first for text in texts), "four times the same text at temperature 1.5")


@check("fields: temperature 1e-9 is greedy")
def _cold(target: ServerUnderTest) -> None:
    expect_equal(_text(target.complete(temperature=1e-9)), _text(target.complete()), "the text")


@check("fields: top_k 1 is greedy")
def _top_k(target: ServerUnderTest) -> None:
    expect_equal(_text(target.complete(temperature=2, top_k=1)), _text(target.complete()), "the text")


@check("fields: a tiny top_p is greedy")
def _top_p(target: ServerUnderTest) -> None:
    expect_equal(_text(target.complete(temperature=2, top_p=1e-6)), _text(target.complete()), "the text")


@check("fields: a stop string ends the answer before itself")
def _stop(target: ServerUnderTest) -> None:
    whole = _told(target.chat(messages=STORY, max_tokens=LONG))
    word = whole[len(whole) // 2 :][:4]
    for stop in (word, ["never said", word]):
        choice = target.chat(messages=STORY, max_tokens=LONG, stop=stop)["choices"][0]
        expect_equal(choice["message"]["content"], whole[: whole.index(word)], "the text")
        expect_equal(choice["finish_reason"], "stop", "finish_reason")


@check("fields: stop null and [] stop nothing")
def _stop_nothing(target: ServerUnderTest) -> None:
    nothing: list[list[str] | None] = [None, []]
    for stop in nothing:
        expect_equal(_text(target.complete(stop=stop)), _text(target.complete()), "the text")


@check("fields: stop_token_ids end the answer")
def _stop_token_ids(target: ServerUnderTest) -> None:
    ids = _ids(target.complete(return_token_ids=True))
    choice = target.complete(stop_token_ids=[ids[3]])["choices"][0]
    expect_equal(choice["finish_reason"], "stop", "finish_reason")


@check("fields: ignore_eos goes on to max_tokens")
def _ignore_eos(target: ServerUnderTest) -> None:
    natural = target.chat(max_tokens=100)["usage"]["completion_tokens"]
    found = target.chat(max_tokens=natural + 20, ignore_eos=True)
    expect_equal(found["usage"]["completion_tokens"], natural + 20, "completion_tokens")


@check("fields: min_tokens are written")
def _min_tokens(target: ServerUnderTest) -> None:
    natural = target.chat(max_tokens=100)["usage"]["completion_tokens"]
    if natural >= 100:
        raise Skip("the model does not end by itself")
    found = target.chat(max_tokens=natural + 20, min_tokens=natural + 5)["usage"]["completion_tokens"]
    expect(found >= natural + 5, f"{found} tokens, not {natural + 5} or more")


@check("fields: logit_bias forbids and forces a token")
def _logit_bias(target: ServerUnderTest) -> None:
    first, *_ = _ids(target.complete(return_token_ids=True))
    forbidden = _ids(target.complete(logit_bias={str(first): -100}, return_token_ids=True))
    expect(first not in forbidden, "a token with bias -100 was chosen")
    forced = _ids(target.complete(logit_bias={"300": 100}, return_token_ids=True, max_tokens=3))
    expect_equal(forced, [300] * 3, "tokens with bias 100")


@check("fields: logit_bias 1e9 is cut to 100")
def _huge_bias(target: ServerUnderTest) -> None:
    target.complete(logit_bias={"5": 1e9})
    target.unharmed()


@check("fields: return_token_ids gives as many as were counted")
def _token_ids(target: ServerUnderTest) -> None:
    found = target.complete(return_token_ids=True)
    expect_equal(len(_ids(found)), found["usage"]["completion_tokens"], "the number of token_ids")


def _ids(answer: Json) -> list[int]:
    found = answer["choices"][0].get("token_ids")
    if found is None:
        raise Skip("the server does not know return_token_ids")
    return [int(one) for one in found]


@check("fields: penalties change an answer")
def _penalties(target: ServerUnderTest) -> None:
    plain = _told(target.chat(messages=STORY, max_tokens=60))
    for name in ("presence_penalty", "frequency_penalty"):
        changed = _told(target.chat(messages=STORY, max_tokens=60, **{name: 2}))
        expect(changed != plain, f"{name} 2 changes nothing")


def _known(target: ServerUnderTest, path: str, **fields: Any) -> Json:
    """The answer to a request with fields that not every server has.

    Raises `Skip` if the server says that it lacks one.
    """
    start: Json = {"prompt": OPENING} if path == TEXT else {"messages": HI}
    return granted(target.post(path, start | {"temperature": 0, "max_tokens": 8} | fields))


@check("fields: a completion without max_tokens has 16", ours=True)
def _sixteen(target: ServerUnderTest) -> None:
    found = target.ask(TEXT, {"prompt": OPENING, "ignore_eos": True}).json()
    expect_equal(found["usage"]["completion_tokens"], 16, "completion_tokens")


@check("fields: allowed_token_ids are the only ones written")
def _allowed(target: ServerUnderTest) -> None:
    found = _ids(_known(target, TEXT, allowed_token_ids=[300, 301], return_token_ids=True, ignore_eos=True))
    expect(set(found) <= {300, 301}, f"the tokens are {found}")


@check("fields: bad_words are not written")
def _bad_words(target: ServerUnderTest) -> None:
    plain = _text(target.complete())
    word = max(plain.split(), key=len)
    changed = str(_known(target, TEXT, bad_words=[word])["choices"][0]["text"])
    expect(word not in changed.split(), f"{word!r} was written")


@check("fields: include_stop_str_in_output keeps the stop string")
def _stop_included(target: ServerUnderTest) -> None:
    plain = _text(target.complete())
    word = plain.split()[1]
    found = _text(_known(target, TEXT, stop=[word], include_stop_str_in_output=True))
    expect_equal(found, plain[: plain.index(word) + len(word)], "the text")


@check("fields: truncate_prompt_tokens keeps the last of them")
def _truncated(target: ServerUnderTest) -> None:
    last = target.tokens(OPENING)[-2:]
    found = _known(target, TEXT, truncate_prompt_tokens=2, return_token_ids=True)
    expect_equal(found["usage"]["prompt_tokens"], 2, "prompt_tokens")
    expect_equal(_text(found), _text(target.complete(prompt=last)), "the text")


@check("fields: add_generation_prompt false closes a conversation, continue_final_message goes on with it")
def _endings(target: ServerUnderTest) -> None:
    messages = [*HI, {"role": "assistant", "content": "Once upon"}]
    usual = target.chat(messages=messages, max_tokens=1)["usage"]["prompt_tokens"]
    closed = _known(target, CHAT, messages=messages, add_generation_prompt=False)["usage"]["prompt_tokens"]
    opened = _known(target, CHAT, messages=messages, add_generation_prompt=False, continue_final_message=True)
    expect(opened["usage"]["prompt_tokens"] < usual, "continue_final_message opens another turn")
    expect(closed < usual, "add_generation_prompt false opens a turn")


@check("fields: prompt_logprobs have an entry for every token of a prompt, the first null")
def _prompt_logprobs(target: ServerUnderTest) -> None:
    for path in (CHAT, TEXT):
        found = _known(target, path, prompt_logprobs=1)
        entries = (found if path == CHAT else found["choices"][0]).get("prompt_logprobs") or []
        expect_equal(len(entries), found["usage"]["prompt_tokens"], "the number of entries")
        expect(entries[0] is None and all("logprob" in one for entry in entries[1:] for one in entry.values()), "their shape")


@check("fields: return_tokens_as_token_ids spells tokens as ids")
def _as_ids(target: ServerUnderTest) -> None:
    tokens = _known(target, TEXT, logprobs=1, return_tokens_as_token_ids=True)["choices"][0]["logprobs"]["tokens"]
    expect(all(token.startswith("token_id:") for token in tokens), f"the tokens are {tokens}")


@check("fields: timeout ends a request with an error", ours=True)
def _timeout(target: ServerUnderTest) -> None:
    answer = target.post(CHAT, {"messages": STORY, "timeout": 0.01, "max_tokens": 1000, "ignore_eos": True})
    expect(answer.status_code in (408, 504), f"status {answer.status_code}, not 408")


# Fields that must be accepted, with or without effect.
TAKEN: list[tuple[str, str, Json]] = [
    ("nulls of langchain", TEXT, {"logprobs": None, "seed": None, "n": 1, "prompt": [OPENING], "stop": None}),
    ("every field of a chat null", CHAT, dict.fromkeys(NULLABLE)),
    ("seed -1", TEXT, {"seed": -1}),
    ("top_k -1 and 0", TEXT, {"top_k": -1}),
    ("top_k 0", TEXT, {"top_k": 0}),
    ("min_p 0.1", TEXT, {"min_p": 0.1}),
    ("repetition_penalty 1.0", TEXT, {"repetition_penalty": 1.0}),
    ("temperature 2", TEXT, {"temperature": 2}),
    ("penalties of -2", TEXT, {"presence_penalty": -2, "frequency_penalty": -2}),
    ("best_of 1", TEXT, {"best_of": 1}),
    ("stream false", CHAT, {"stream": False}),
    ("user and prompt_cache_key", CHAT, {"user": "ann", "prompt_cache_key": "k"}),
    ("metadata and store", CHAT, {"metadata": {"a": "b"}, "store": False}),
    ("service_tier and safety_identifier", CHAT, {"service_tier": "auto", "safety_identifier": "s"}),
    ("reasoning_effort and verbosity", CHAT, {"reasoning_effort": "low", "verbosity": "low"}),
    ("include_reasoning and thinking_token_budget", CHAT, {"include_reasoning": False, "thinking_token_budget": 100}),
    ("priority", TEXT, {"priority": 5}),
    ("cache_salt", TEXT, {"cache_salt": "tenant-1"}),
    ("chat_template_kwargs enable_thinking", CHAT, {"chat_template_kwargs": {"enable_thinking": False}}),
    ("response_format text", CHAT, {"response_format": {"type": "text"}}),
    ("tools [] and tool_choice none", CHAT, {"tools": [], "tool_choice": "none"}),
    ("tool_choice and function_call none", CHAT, {"tool_choice": "none", "function_call": "none"}),
    ("an assistant's content null", CHAT, {"messages": [*HI, {"role": "assistant", "content": None}, *HI]}),
    ("suffix ''", TEXT, {"suffix": ""}),
    ("use_beam_search false", TEXT, {"use_beam_search": False}),
    ("no stop strings and no biases", CHAT, {"stop": [], "logit_bias": {}}),
    ("an unknown field", CHAT, {"wibble": {"a": [1]}}),
]  # fmt: skip


def _taken(path: str, fields: Json) -> Body:
    def body(target: ServerUnderTest) -> None:
        start: Json = {"prompt": OPENING} if path == TEXT else {"messages": HI}
        expect(target.ask(path, start | {"max_tokens": 2} | fields).json()["choices"], "no choices")

    return body


for _name, _path, _fields in TAKEN:
    add(Check(f"fields: {_name} is taken", _taken(_path, _fields)))


@check("fields: an unknown field is named in x-ignored-fields", ours=True)
def _ignored(target: ServerUnderTest) -> None:
    answer = target.ask(CHAT, {"messages": HI, "max_tokens": 1, "wibble": 1, "wobble": None})
    found = answer.headers.get("x-ignored-fields", "")
    expect("wibble" in found, f"x-ignored-fields is {found!r}")
    expect(found.count("wibble") == 1, "the field is named more than once")


@check("fields: an unknown field of an odd name is taken or refused, never a broken answer")
def _odd_name(target: ServerUnderTest) -> None:
    for name in ("a\nb", "a\r\nX-Evil: 1", "\u0000", "北京", "", "x" * 100_000):
        answer = target.post(CHAT, {"messages": HI, "max_tokens": 1, name: 1})
        expect(answer.status_code in (200, 400), f"status {answer.status_code} for {name[:20]!r}")
        expect("x-evil" not in answer.headers, "a header was injected")
    target.unharmed()


@check("fields: a field that is taken and unused is named in a header", ours=True)
def _unused(target: ServerUnderTest) -> None:
    answer = target.ask(CHAT, {"messages": HI, "max_tokens": 1, "verbosity": "low"})
    said = answer.headers.get("x-ignored-fields", "") + answer.headers.get("warnings", "")
    expect("verbosity" in said, "no header names verbosity")
