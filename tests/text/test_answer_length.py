"""`max_tokens`: what the caller names is kept or refused, a default yields to the room there is."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orcinus import LLM, SamplingParams
from orcinus.cli.chat_backends import InProcess
from orcinus.core.request import RequestContext
from orcinus.core.sampling_params import DefaultLength
from orcinus.errors import RequestError
from orcinus.serve.errors import ApiError
from orcinus.serve.messages import Ready
from orcinus.serve.request_processor import RequestProcessor
from orcinus.serve.schema import ChatBody, CompletionBody
from orcinus.serve.text_threads import TextThreads
from orcinus.text.generation_config import default_params
from orcinus.text.tokenizer import load_tokenizer
from orcinus.tiny import MODEL_DIR
from tests.commands import orcinus

ON = SamplingParams(temperature=0, ignore_eos=True)  # says nothing of max_tokens


@pytest.mark.parametrize(
    ("params", "room", "length"),
    [
        (SamplingParams(), 1000, 256),
        (SamplingParams(), 100, 100),
        (replace(SamplingParams(), temperature=0), 100, 100),
        (SamplingParams(max_tokens=DefaultLength(10_000)), 100, 100),
        (SamplingParams(max_tokens=None), 1000, 1000),
        (SamplingParams(max_tokens=256), 100, 256),
        (SamplingParams(max_tokens=7), 100, 7),
        (SamplingParams(min_tokens=300), 1000, 300),
        (SamplingParams(min_tokens=300), 200, 200),
    ],
)
def test_only_a_named_length_stands_against_the_room(params: SamplingParams, room: int, length: int) -> None:
    assert params.answer_length(room) == length


def test_a_default_is_no_bound_of_min_tokens_but_a_named_length_is() -> None:
    assert SamplingParams(min_tokens=300).max_tokens == 256
    with pytest.raises(RequestError, match="min_tokens must be at most max_tokens"):
        SamplingParams(min_tokens=300, max_tokens=256)


def test_calls_that_name_no_length_fill_a_short_context() -> None:
    with LLM(max_model_len=64, max_batch_tokens=64) as llm:
        assert [len(one.token_ids) for one in llm.generate([[5] * 40, [5] * 63, [5]], ON)] == [24, 1, 63]
        assert llm.generate([[5] * 40])[0].finish_reason in ("length", "stop")
        assert len(llm.generate([[5] * 40], replace(ON, min_tokens=24))[0].token_ids) == 24
        assert len([piece for piece in llm.stream([[5] * 40], ON) if piece.token_id is not None]) == 24
        with pytest.raises(RequestError, match="exceed the model length of 64"):
            llm.generate([[5] * 40], SamplingParams(max_tokens=256))
        with pytest.raises(RequestError, match="min_tokens 25 exceed the 24 tokens that the prompt leaves"):
            llm.generate([[5] * 40], SamplingParams(min_tokens=25))
        with pytest.raises(RequestError, match="leaves no room"):
            llm.generate([[5] * 64], ON)


def test_a_long_prompt_needs_no_parameters() -> None:
    with LLM() as llm:
        (output,) = llm.generate([[5] * 2000])
    assert 1 <= len(output.token_ids) <= 48


@pytest.fixture
def verbose(tmp_path: Path) -> Path:
    """The bundled model, whose makers want more new tokens than its context has."""
    folder = tmp_path / "model"
    shutil.copytree(MODEL_DIR, folder)
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_new_tokens": 32_768}))
    return folder


def test_the_length_of_generation_config_is_a_default(verbose: Path) -> None:
    assert default_params(verbose).max_tokens == 32_768
    with LLM(verbose, max_model_len=64, max_batch_tokens=64) as llm:
        params = replace(llm.default_params, ignore_eos=True)
        assert len(llm.generate([[5] * 40], params)[0].token_ids) == 24


def served(ready: Ready, fills: bool = False) -> RequestProcessor:
    """A model as a server holds it, without an engine."""
    tokenizer = load_tokenizer(MODEL_DIR)
    assert tokenizer is not None
    return RequestProcessor("m", tokenizer, SamplingParams(), ready, 0, TextThreads(1, 5), fills)


def answer_length(model: RequestProcessor, body: ChatBody | CompletionBody) -> int:
    """The resolved `max_tokens` of a body."""
    asked = model.chat(body, RequestContext()) if isinstance(body, ChatBody) else model.completion(body, RequestContext())
    found = asyncio.run(asked)[0].params.max_tokens
    assert found is not None
    return found


@pytest.mark.parametrize("ready", [Ready(64, 2048, 16384, 1024), Ready(2048, 2048, 64, 4)])  # short context, small memory
@pytest.mark.parametrize("fills", [False, True])
def test_a_server_gives_what_fits_and_refuses_only_what_was_named(ready: Ready, fills: bool) -> None:
    model = served(ready, fills)
    ids: dict[str, Any] = {"prompt": [5] * 60}
    assert answer_length(model, CompletionBody.model_validate(ids)) == 4
    assert answer_length(model, CompletionBody.model_validate(ids | {"max_tokens": 4})) == 4
    messages = [{"role": "user", "content": "Hi"}]
    rest = 64 - len(model.tokenizer.encode_chat(messages))
    assert answer_length(model, ChatBody.model_validate({"messages": messages})) == rest
    assert answer_length(model, ChatBody.model_validate({"messages": messages, "max_completion_tokens": rest})) == rest
    for body in (ids | {"max_tokens": 5}, {"prompt": [5] * 64}):
        with pytest.raises(ApiError) as caught:
            answer_length(model, CompletionBody.model_validate(body))
        assert caught.value.code == "context_length_exceeded"


def test_a_default_of_the_command_line_is_a_default() -> None:
    words, short = "word " * 100, ("--max-model-len", "128")
    done = orcinus("generate", "--raw", "--ignore-eos", "--json", *short, words)
    assert done.returncode == 0, done.stderr
    usage = json.loads(done.stdout)["usage"]
    assert usage["completion_tokens"] == 128 - usage["prompt_tokens"] < 256
    refused = orcinus("generate", "--raw", "--max-tokens", "256", *short, words)
    assert refused.returncode == 1
    assert "exceed the model length of 128" in refused.stderr


def test_a_chat_keeps_its_newest_message_with_whatever_room_it_leaves() -> None:
    with LLM(max_model_len=100) as llm:
        partner = InProcess(llm, ON, "m")
        messages = [{"role": "user", "content": "word " * 60}]
        tokens = sum(piece.tokens for piece in partner.answer(messages, print))
        assert tokens == 100 - len(llm.encode_chat(messages))
