"""Why an answer ended early, in the words of every dialect."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier
from typing import Any

import httpx
import pytest

from orcinus.core.request import Finish, FinishCode
from orcinus.errors import ConfigError
from orcinus.serve.answers import ChoiceDelta
from orcinus.serve.dialects.chat import ChatReply
from orcinus.serve.dialects.completions import CompletionReply
from orcinus.serve.dialects.messages import MessagesReply
from orcinus.serve.dialects.messages_schema import MessagesBody
from orcinus.serve.dialects.reply import Reply, ServedModel
from orcinus.serve.dialects.responses import ResponsesReply, response_object
from orcinus.serve.dialects.responses_output import Output
from orcinus.serve.dialects.responses_schema import ResponsesBody
from orcinus.serve.dialects.responses_tools import Tools
from orcinus.serve.errors import ApiError
from orcinus.serve.schema import ChatBody, CompletionBody
from tests.serve.in_process import serving_in_process
from tests.serve.test_messages_reply import Scripted, delta

HI: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
ENDED = {  # what the message says, and the status
    FinishCode.NEVER_FITS: ("longer than the engine's memory", 400),
    FinishCode.TOO_LONG: ("longer than the model's context", 400),
    FinishCode.DEADLINE: ("longer than its timeout", 408),
    FinishCode.SHUTDOWN: ("the server is shutting down", 503),
    FinishCode.UNREAD: ("reads more slowly", 499),
    FinishCode.ALL_FORBIDDEN: ("no token could come next: its words", 400),
    FinishCode.BAD_GRAMMAR: ("cannot be followed: its words", 400),
    FinishCode.BAD_LOGITS: ("failed on this request: its words", 500),
    FinishCode.OUT_OF_MEMORY: ("out of memory", 500),
    FinishCode.EXECUTOR_FAILED: ("the iteration that computed the request failed", 500),
    FinishCode.ENGINE_DIED: ("the engine died", 503),
    FinishCode.ENGINES_DIED: ("engines died whenever", 500),
}


def chat(answers: Scripted) -> Reply:
    return ChatReply(answers, ServedModel("m"), ChatBody.model_validate(HI))


def completion(answers: Scripted) -> Reply:
    return CompletionReply(answers, ServedModel("m"), CompletionBody.model_validate({"prompt": "Hi"}))


def response(answers: Scripted) -> Reply:
    made = response_object("resp_1", ResponsesBody.model_validate({"input": "Hi"}), Tools(), [], ServedModel("m"))
    return ResponsesReply(answers, made, Output("1", Tools()))


def message(answers: Scripted) -> Reply:
    return MessagesReply(answers, ServedModel("m"), MessagesBody.model_validate(HI | {"max_tokens": 50}))


DIALECTS: dict[str, Callable[[Scripted], Reply]] = {
    "/v1/chat/completions": chat,
    "/v1/completions": completion,
    "/v1/responses": response,
    "/v1/messages": message,
}


def ended(code: FinishCode) -> Scripted:
    """An answer that ends so after a word."""
    return Scripted([delta("Hi")], [ChoiceDelta(0, finish_reason=Finish.FAILED, error="its words", code=code)])


def error_of(path: str, data: list[dict[str, Any]]) -> dict[str, Any]:
    """The error that a stream ends with."""
    if path == "/v1/responses":
        told, last = data[-2:]
        assert (told["type"], last["type"], last["response"]["status"]) == ("error", "response.failed", "failed")
        assert last["response"]["error"] == {"code": told["code"], "message": told["message"]}
        return told
    found: dict[str, Any] = data[-1]["error"]
    return found


def data_of(stream: str) -> list[dict[str, Any]]:
    lines = [line[6:] for line in stream.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_every_code_is_here_and_has_words_of_its_own() -> None:
    assert set(ENDED) == set(FinishCode)
    assert len({words for words, _ in ENDED.values()}) == len(ENDED)


@pytest.mark.parametrize("path", DIALECTS)
@pytest.mark.parametrize("code", ENDED)
def test_an_ending_says_what_happened_whole_and_streamed(path: str, code: FinishCode) -> None:
    words, status = ENDED[code]
    with pytest.raises(ApiError) as caught:
        asyncio.run(DIALECTS[path](ended(code)).whole())
    assert words in caught.value.message
    assert caught.value.status == status
    assert ("Retry-After" in caught.value.headers) == (status == 503)

    async def read() -> str:
        return b"".join([frame async for frame in DIALECTS[path](ended(code)).frames(60, 0)]).decode()

    assert error_of(path, data_of(asyncio.run(read())))["message"] == caught.value.message


def test_a_server_that_leaves_says_so_in_every_dialect() -> None:
    fields: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": HI | {"max_tokens": 1500},
        "/v1/completions": {"prompt": "Hi", "max_tokens": 1500},
        "/v1/responses": {"input": "Hi", "max_output_tokens": 1500},
        "/v1/messages": HI | {"max_tokens": 1500},
    }
    begun = Barrier(len(fields) + 1)

    def read(url: str) -> str:
        path = "/v1/" + url.partition("/v1/")[2]
        with httpx.stream("POST", url, json=fields[path] | {"stream": True}, timeout=60) as answer:
            chunks = answer.iter_text()
            first = next(chunks)
            begun.wait(60)
            return first + "".join(chunks)

    asked: dict[str, Future[str]] = {}

    def serve() -> None:
        with serving_in_process("--simulate", "llama-7b", "--drain", "0.1") as server:
            asked.update({path: pool.submit(read, server.url + path) for path in fields})
            begun.wait(60)

    with ThreadPoolExecutor(len(fields)) as pool:
        with pytest.raises(ConfigError, match="4 answers cut off"):
            serve()
        for path, one in asked.items():
            error = error_of(path, data_of(one.result()))
            assert error["message"] == "the server is shutting down and cut the answer off; send the request again"
            assert error.get("code", "shutting_down") == "shutting_down"
            assert error["type"] == {"/v1/messages": "overloaded_error", "/v1/responses": "error"}.get(path, "server_error")
