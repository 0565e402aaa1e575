"""Text of whole answers: from Python and over HTTP, of tokenizers that care for their context and models that reason."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, decoders
from transformers import PreTrainedTokenizerFast

from orcinus import LLM, SamplingParams
from orcinus.text.tokenizer import Tokenizer
from tests.product import part
from tests.scripted import save_scripted
from tests.serve.conftest import Running
from tests.serve.in_process import serving_in_process
from tests.text.vocabularies import byte_level, pieces

WORDS = ["▁the", "▁capital", "▁of", "▁france", "▁is", "▁paris", "▁and", "▁a", "a", "▁duck"]
SCRIPT = ["▁is", "▁paris", "▁and", "▁the", "▁duck", "<0xC3>", "<0xA9>", "</s>", "<0x80>", "a", "▁a", "▁of"]


def spaced_tokenizer() -> Any:
    """As Llama 2's: begins every text with <s>, and writes its first word without the space before it."""
    from tokenizers.processors import TemplateProcessing

    chain = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend = pieces([*WORDS, "<s>", "</s>"], decoders.Sequence(chain), range(256))
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def ids(tokenizer: Any, names: Sequence[str]) -> list[int]:
    found: list[int] = tokenizer.convert_tokens_to_ids(list(names))
    return found


@pytest.fixture(scope="module")
def spaced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A model that follows SCRIPT, and its tokenizer."""
    tokenizer = spaced_tokenizer()
    script = ids(tokenizer, SCRIPT)
    return save_scripted(tmp_path_factory.mktemp("spaced"), tokenizer, dict(zip(script, script[1:], strict=False))), tokenizer


@pytest.fixture(scope="module")
def spaced_llm(spaced: tuple[Path, Any]) -> Iterator[LLM]:
    with LLM(spaced[0], dtype="float32") as llm:
        yield llm


def on(**fields: Any) -> SamplingParams:
    return SamplingParams(**{"temperature": 0, "ignore_eos": True, "max_tokens": 6} | fields)


def test_prompt_and_text_together_are_the_text_of_both(spaced: tuple[Path, Any], spaced_llm: LLM) -> None:
    names = ["<s>", "▁the", "▁capital", "▁of", "▁france", "▁is"]
    prompt = ids(spaced[1], names)
    (output,) = spaced_llm.generate([prompt], on(n=2))
    assert [one.text for one in output.outputs] == [" paris and the ducké"] * 2
    assert spaced_llm.generate([prompt[:-1] + ids(spaced[1], ["a", "▁is"])], on(max_tokens=1))[0].text == " paris"


def test_an_answer_begins_with_the_character_that_the_prompt_begins(spaced: tuple[Path, Any], spaced_llm: LLM) -> None:
    prompt = ids(spaced[1], ["<s>", "▁the", "<0xC3>"])
    assert spaced_llm.generate([prompt], on())[0].text == "é\ufffda a of"
    pieces = list(spaced_llm.stream([prompt], on()))
    assert [piece.text for piece in pieces] == ["é", "", "\ufffd", "a", " a", " of"]
    assert [piece.offset for piece in pieces] == [0, 1, 1, 2, 3, 5]


def test_text_fed_back_token_by_token_is_the_same(spaced: tuple[Path, Any], spaced_llm: LLM) -> None:
    prompt = ids(spaced[1], ["<s>", "▁france", "▁is"])
    whole = spaced_llm.generate([prompt], on(max_tokens=11))[0]
    text, fed = "", list(prompt)
    for token in whole.token_ids:
        (step,) = spaced_llm.generate([fed], on(max_tokens=1))
        assert step.token_ids == (token,)
        text += step.text
        fed.append(token)
    assert whole.text == " paris and the ducké\ufffda a of"
    assert text == " paris and the duck\ufffdé\ufffda a of", "an answer that ends inside a character says so"


@pytest.mark.full
def test_texts_are_the_same_when_requests_are_preempted(spaced: tuple[Path, Any]) -> None:
    prompts = [ids(spaced[1], ["<s>", "▁france", "▁is"]), ids(spaced[1], ["<s>", "▁the", "<0xC3>"])] * 4
    with LLM(spaced[0], dtype="float32", kv="paged", block_size=2, num_blocks=14, max_batch_tokens=32) as tight:
        texts = [output.text for output in tight.generate(prompts, on(max_tokens=5))]
        assert tight.engine.scheduler.admission.preemptions > 0
    assert texts == [" paris and the duck\ufffd", "é\ufffda a"] * 4


@pytest.mark.parametrize(
    ("stop", "min_tokens", "text", "tokens"),
    [
        (" and", 0, " paris", 2),
        (" and the", 0, " paris", 3),
        ("s and", 0, " pari", 2),
        (" and the", 2, " paris", 3),  # begins before the border
        (" and", 2, " paris and the ducké", 6),  # complete at the border
        ("é", 5, " paris and the duck", 6),  # its first byte is the border's token
    ],
)
def test_stop_strings_of_such_texts(
    spaced: tuple[Path, Any], spaced_llm: LLM, stop: str, min_tokens: int, text: str, tokens: int
) -> None:
    prompt = ids(spaced[1], ["<s>", "▁france", "▁is"])
    (output,) = spaced_llm.generate([prompt], on(stop=stop, min_tokens=min_tokens))
    assert (output.text, len(output.token_ids)) == (text, tokens)
    assert output.finish_reason == ("length" if tokens == 6 and not text.endswith("duck") else "stop")
    assert "".join(piece.text for piece in spaced_llm.stream([prompt], on(stop=stop, min_tokens=min_tokens))) == text


def test_a_stop_string_over_the_border_of_min_tokens_in_the_bundled_model() -> None:
    with LLM(dtype="float32") as llm:
        free = llm.generate("Once upon a time", SamplingParams(temperature=0, max_tokens=12))[0]
        (output,) = llm.generate("Once upon a time", SamplingParams(temperature=0, max_tokens=64, min_tokens=4, stop=" duck"))
    assert " duck" in free.text
    assert (len(output.token_ids), output.finish_reason) == (5, "stop")
    assert output.text == free.text[: free.text.index(" duck")]


@pytest.mark.parametrize("ends", ["stop_token_ids", "eos"])
def test_stop_tokens_are_forbidden_up_to_min_tokens_and_end_behind(
    spaced: tuple[Path, Any], spaced_llm: LLM, ends: str
) -> None:
    prompt = ids(spaced[1], ["<s>", "▁france", "▁is"])
    (end,) = ids(spaced[1], ["▁the" if ends == "stop_token_ids" else "</s>"])
    first = 3 if ends == "stop_token_ids" else 7  # the token that ends, without min_tokens
    params: dict[str, Any] = (
        {"stop_token_ids": [end], "max_tokens": 12} if ends == "stop_token_ids" else {"ignore_eos": False, "max_tokens": 12}
    )
    for min_tokens in (0, first - 1):
        (output,) = spaced_llm.generate([prompt], on(**params, min_tokens=min_tokens))
        assert (len(output.token_ids), output.finish_reason, output.token_ids[-1]) == (first, "stop", end)
    (output,) = spaced_llm.generate([prompt], on(**params, min_tokens=first))
    assert output.token_ids[first - 1] != end


@pytest.fixture(scope="module")
def spaced_server(spaced: tuple[Path, Any]) -> Iterator[Running]:
    with serving_in_process(str(spaced[0]), "--keep-alive", "0.1") as running:
        yield running


def frames(server: Running, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The frames of a stream."""
    with server.http.stream("POST", path, json=body | {"stream": True}) as answer:
        lines = [line[6:] for line in answer.iter_lines() if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("names", "shown", "answer"),
    [
        (["<s>", "▁france", "▁is"], "france is", " paris and the ducké"),
        (["<s>", "▁the", "<0xC3>"], "the", "é\ufffda a of"),
        (["<s>", "▁the", "<0xC3>", "▁is"], "the\ufffd is", " paris and the ducké"),
    ],
)
def test_a_server_answers_and_echoes_the_same(
    spaced: tuple[Path, Any], spaced_server: Running, names: list[str], shown: str, answer: str
) -> None:
    body = {"prompt": ids(spaced[1], names), "temperature": 0, "ignore_eos": True, "max_tokens": 6, "logprobs": 0}
    for echo in (False, True):
        (choice,) = spaced_server.http.post("/v1/completions", json=body | {"echo": echo}).json()["choices"]
        assert choice["text"] == (shown if echo else "") + answer
        streamed = [frame["choices"][0] for frame in frames(spaced_server, "/v1/completions", body | {"echo": echo})]
        assert "".join(one["text"] for one in streamed) == choice["text"]
        offsets = choice["logprobs"]["text_offset"]
        assert [at for one in streamed if one["logprobs"] for at in one["logprobs"]["text_offset"]] == offsets
        for word, at, following in zip(choice["logprobs"]["tokens"], offsets, [*offsets[1:], None], strict=True):
            if word not in ("<s>", "</s>") and not word.startswith("bytes:") and "\ufffd" not in shown:
                assert choice["text"][at:following].strip() == word.strip()


def test_an_echo_of_a_prompt_alone_shows_it_all(spaced: tuple[Path, Any], spaced_server: Running) -> None:
    body = {"prompt": ids(spaced[1], ["<s>", "▁the", "<0xC3>"]), "echo": True, "max_tokens": 0, "logprobs": 1}
    (choice,) = spaced_server.http.post("/v1/completions", json=body).json()["choices"]
    assert choice["text"] == "the\ufffd"
    assert choice["logprobs"]["text_offset"] == [0, 0, 3]


def test_a_stream_of_tokens_without_text_is_kept_alive(spaced: tuple[Path, Any], spaced_server: Running) -> None:
    body = {"prompt": ids(spaced[1], ["<s>", "<s>"]), "max_tokens": 400, "temperature": 0, "stream": True}
    with spaced_server.http.stream("POST", "/v1/completions", json=body) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert ": keep-alive" in lines
    assert sum(line.startswith("data: {") for line in lines) == 1, "the end alone says something"


THINKS = (
    "{% for m in messages %}{{ '<|turn|>' + m.role + ':' + m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>GO{{ opening }}{% endif %}"
)


def thinking_tokenizer(*, special: bool) -> Any:
    """Byte-level, with marks of reasoning that are added tokens."""
    words = ["Now", " Question:", " hm", "Fox"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level([word.encode() for word in words]))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>", "GO"]})
    tokenizer.add_tokens(
        [AddedToken(mark, normalized=False, special=special) for mark in ("<think>", "</think>")], special_tokens=special
    )
    return tokenizer


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize(
    ("opening", "thinking"),
    [
        ("", False),
        ("<think>", True),
        ("<think>\n", True),
        ("<think>\nOkay, let me think about this for a while.\n\n", True),
        ("<think>\n\n</think>\n\n", False),
        ("<think>a</think><think>b", True),
    ],
)
def test_a_template_that_opens_the_reasoning_is_recognised(special: bool, opening: str, thinking: bool) -> None:
    made = thinking_tokenizer(special=special)
    made.chat_template = THINKS.replace("{{ opening }}", opening.replace("\n", "{{ '\\n' }}"))
    tokenizer = Tokenizer(made, frozenset())
    for content in ("Hi", "<think>", "a</think>", "<think>\n", "GO<think>", ""):
        talk = [
            {"role": "user", "content": "<think>"},
            {"role": "assistant", "content": "<think>x"},
            {"role": "user", "content": content},
        ]
        for messages in (talk, talk[-1:]):
            assert tokenizer.encode_chat(messages).thinking is thinking, messages
    for content, open_ended in (("<think>Hm", True), ("<think>Hm</think>So", False), ("So", False)):
        unfinished = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": content}]
        assert tokenizer.encode_chat(unfinished, continue_final_message=True).thinking is open_ended


SHOWN = "{% for m in messages %}<|turn|>{{ m.content | trim }}{% endfor %}"


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize(
    ("behind", "thinking"),
    [
        ("GO<think>{{ '\\n' }}", True),  # whether or not it is asked to open a turn
        ("GO<think></think>{{ '\\n' }}", False),
        ("{% if add_generation_prompt %}<think>{% else %}<think>x</think>{% endif %}", True),
        ("{% if add_generation_prompt %}GO<think>{% else %}GO{% endif %}", True),
        ("{% if enable_thinking is defined %}<think>{{ '\\n' }}{% endif %}GO", False),
    ],
)
def test_what_opens_the_reasoning_stands_behind_the_last_message(special: bool, behind: str, thinking: bool) -> None:
    made = thinking_tokenizer(special=special)
    made.chat_template = SHOWN + behind
    tokenizer = Tokenizer(made, frozenset())
    for content in ("Hi", "<think>", "x</think>", " <think> ", ""):
        assert tokenizer.encode_chat([{"role": "user", "content": content}]).thinking is thinking, content


def test_marks_need_not_be_tokens_and_a_model_without_them_never_reasons() -> None:
    made = PreTrainedTokenizerFast(tokenizer_object=byte_level([]))
    made.chat_template = "{{ messages[0].content }}{% if add_generation_prompt %}GO<think>{% endif %}"
    assert Tokenizer(made, frozenset()).encode_chat([{"role": "user", "content": "Hi"}]).thinking is True
    made.chat_template = "{{ messages[0].content }}GO"
    assert Tokenizer(made, frozenset()).encode_chat([{"role": "user", "content": "<think>"}]).thinking is None


@pytest.fixture(scope="module", params=part("opened", full=["special"]))
def thinker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose model thinks: `Now Question: hm`, and answers `Fox Question:…`."""
    tokenizer = thinking_tokenizer(special="special" in request.param)
    opened = "opened" in request.param
    script = ids(tokenizer, ["GO", "<think>", "Now", "ĠQuestion:", "Ġhm", "</think>", "Fox"])
    follows = dict(zip(script, script[1:], strict=False))
    follows[ids(tokenizer, ["Ċ"])[0]] = script[2]
    template = THINKS.replace("{{ opening }}", "<think>{{ '\\n' }}" if opened else "")
    with serving_in_process(str(save_scripted(tmp_path_factory.mktemp("thinker"), tokenizer, follows, template))) as running:
        yield running


@pytest.mark.full
@pytest.mark.parametrize(("stop", "content", "reason"), [(["Question:"], "FoxFox", "length"), (["xFo", "hm"], "Fo", "stop")])
def test_a_chat_looks_for_stop_strings_in_the_answer_alone(
    thinker: Running, stop: list[str], content: str, reason: str
) -> None:
    opened = thinker.http.post("/tokenize", json={"messages": [{"role": "user", "content": "Hi"}]}).json()["tokens"]
    thoughts = 4 if thinker.http.post("/detokenize", json={"tokens": opened[-1:]}).json()["prompt"] == "\n" else 5
    body = {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0, "max_tokens": thoughts + 2, "stop": stop}
    answer = thinker.http.post("/v1/chat/completions", json=body).json()
    (choice,) = answer["choices"]
    assert choice["message"]["content"] == content
    assert choice["message"]["reasoning_content"] == "Now Question: hm"
    assert choice["finish_reason"] == reason
    assert answer["usage"]["completion_tokens"] == thoughts + 2
    deltas = [frame["choices"][0]["delta"] for frame in frames(thinker, "/v1/chat/completions", body)]
    assert "".join(delta.get("content") or "" for delta in deltas) == content
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "Now Question: hm"
