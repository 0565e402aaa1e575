"""Backends of a chat: the engine in this process, or a server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from orcinus.cli.options import SAMPLING
from orcinus.core.sampling_params import DefaultLength, SamplingParams
from orcinus.distribution import needs
from orcinus.errors import RequestError, one_line
from orcinus.server_address import authorization, server_url
from orcinus.text.tools.tool_call import ToolCallDelta, ToolChoice

Messages = list[dict[str, Any]]
Note = Callable[[str], None]  # tells the user something apart from the answer
AUTO = ToolChoice()


@dataclass(frozen=True, slots=True)
class AnswerPiece:
    """A piece of an answer: text, the number of its tokens, and what is new of calls."""

    text: str = ""
    tokens: int = 0
    calls: Sequence[ToolCallDelta] = ()


class ChatBackend(Protocol):
    """Answers a conversation.

    If the conversation is too long, it removes the oldest turns from the list.
    """

    name: str

    def answer(self, messages: Messages, note: Note, choice: ToolChoice = AUTO) -> Iterator[AnswerPiece]:
        """The pieces of an answer. Raises `RequestError`."""
        ...


class InProcess:
    """The engine in this process."""

    def __init__(
        self, llm: Any, params: SamplingParams, name: str, tools: Sequence[dict[str, Any]] = (), lora: str = ""
    ) -> None:
        self.llm, self.params, self.tools, self.lora = llm, params, tools, lora
        self.name = f"{name}, {llm.resolved.num_parameters / 1e6:.1f} M parameters"

    def answer(self, messages: Messages, note: Note, choice: ToolChoice = AUTO) -> Iterator[AnswerPiece]:
        for piece in self.llm.stream(*self._fitting(messages, note, choice), lora=self.lora):
            yield AnswerPiece(piece.text, int(piece.token_id is not None), piece.tool_calls)
            if piece.error:
                raise RequestError(piece.error)

    def _fitting(self, messages: Messages, note: Note, choice: ToolChoice) -> tuple[tuple[int, ...], SamplingParams]:
        """The conversation as tokens, without the oldest turns if too long."""
        wanted = self.params.max_tokens or 1
        forgotten = 0
        while True:
            ids = self.llm.encode_chat(messages, self.tools, choice)
            room = self.llm.resolved.limits.max_model_len - len(ids)
            if room >= wanted or not forget_oldest(messages):
                break
            forgotten += 1
        _tell(note, forgotten)
        most = None if self.params.max_tokens is None else DefaultLength(wanted)  # the newest message alone may leave less
        return ids, replace(self.params, max_tokens=most)


class Server:
    """A server at a URL, which may end in `/v1`.

    Raises `RequestError` if no server answers, `ConfigError` for a wrong URL or key.
    """

    def __init__(
        self, url: str, key: str | None, model: str | None, params: SamplingParams, tools: Sequence[dict[str, Any]] = ()
    ) -> None:
        with needs("--url", "serve"):
            import httpx
            import httpx_sse  # noqa: F401  (needed when it streams; checked now)
        headers, timeout = authorization(key), httpx.Timeout(600, connect=10)
        self.http = httpx.Client(base_url=server_url(url) + "/v1/", headers=headers, timeout=timeout)
        self.fields, self.tools = _body_fields(params), tools
        self.names_length = not isinstance(params.max_tokens, DefaultLength)
        try:
            self.model = model or self._only_model()
        except RequestError:
            self.close()
            raise
        self.name = f"{self.model} at {url}"

    def _only_model(self) -> str:
        listed = self._checked(lambda: self.http.get("models"))
        try:
            return str(listed.json()["data"][0]["id"])
        except (ValueError, KeyError, IndexError, TypeError):
            raise RequestError(f"{self.http.base_url} lists no model: name one with --model") from None

    def answer(self, messages: Messages, note: Note, choice: ToolChoice = AUTO) -> Iterator[AnswerPiece]:
        forgotten, fields = 0, self.fields | self._tool_fields(choice)
        while True:
            try:
                yield from self._stream(messages, fields)
            except _TooLong as error:
                if forget_oldest(messages):
                    forgotten += 1
                elif "max_tokens" in fields and not self.names_length:  # a default shrinks to the room left
                    fields = {name: value for name, value in fields.items() if name != "max_tokens"}
                else:
                    raise RequestError(str(error)) from None
                continue
            _tell(note, forgotten)
            return

    def _tool_fields(self, choice: ToolChoice) -> dict[str, Any]:
        if not self.tools:
            return {}
        named = {"type": "function", "function": {"name": choice.name}}
        return {"tools": self.tools, "tool_choice": choice.mode if choice.name is None else named}

    def _stream(self, messages: Messages, fields: dict[str, Any]) -> Iterator[AnswerPiece]:
        import httpx
        from httpx_sse import SSEError, connect_sse

        body = {"model": self.model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
        counted = 0
        try:
            with connect_sse(self.http, "POST", "chat/completions", json=body | fields) as source:
                if source.response.is_error:
                    source.response.read()
                    raise _refusal(source.response)
                for event in source.iter_sse():
                    if event.data == "[DONE]":
                        return
                    frame = json.loads(event.data)
                    if "error" in frame:
                        raise RequestError(str(frame["error"].get("message", frame["error"])))
                    if frame.get("choices"):
                        counted += 1
                        delta = frame["choices"][0]["delta"]
                        yield AnswerPiece(delta.get("content") or "", 1, _calls(delta))
                    if usage := frame.get("usage"):  # exact; a frame may hold several tokens
                        yield AnswerPiece("", usage["completion_tokens"] - counted)
                        counted = usage["completion_tokens"]
        except RequestError:
            raise
        except (httpx.HTTPError, SSEError, ValueError, KeyError) as error:
            raise RequestError(f"the server's answer broke off: {one_line(error)}") from None

    def _checked(self, call: Callable[[], Any]) -> Any:
        """The response. Raises `RequestError` if there is none, or a refusal."""
        import httpx

        try:
            response = call()
        except httpx.HTTPError as error:
            raise RequestError(f"no answer from {self.http.base_url}: {one_line(error)}") from None
        if response.is_error:
            raise _refusal(response)
        return response

    def close(self) -> None:
        self.http.close()


def _calls(delta: dict[str, Any]) -> list[ToolCallDelta]:
    """What a frame says of calls."""
    found = []
    for place, call in enumerate(delta.get("tool_calls") or ()):
        function = call.get("function") or {}
        arguments = function.get("arguments") or ""
        found.append(ToolCallDelta(call.get("index", place), call.get("id"), function.get("name"), arguments))
    return found


class _TooLong(RequestError):
    """The conversation exceeds the context of the server's model."""


def _refusal(response: Any) -> RequestError:
    """The message of a server that refuses."""
    try:
        error = response.json()["error"]
        message, code = str(error["message"]), error.get("code")
    except (ValueError, KeyError, TypeError, AttributeError):
        return RequestError(f"the server answers {response.status_code} {response.reason_phrase}")
    if response.status_code == 401:
        return RequestError("the server does not accept this key, or wants one: give --api-key, or set ORCINUS_API_KEY")
    kind = _TooLong if code == "context_length_exceeded" else RequestError
    return kind(f"the server answers {response.status_code}: {message}")


def _body_fields(params: SamplingParams) -> dict[str, Any]:
    """Parameters that differ from the defaults.

    Only these are sent, because other servers may lack the rest.
    """
    default = SamplingParams()
    found = {name: getattr(params, name) for name in (*SAMPLING, "stop") if getattr(params, name) != getattr(default, name)}
    return {**found, "temperature": params.temperature, "max_tokens": params.max_tokens}


def forget_oldest(messages: Messages) -> bool:
    """Remove the oldest question with its answers; False if one is left."""
    questions = [place for place, message in enumerate(messages) if message["role"] == "user"]
    if len(questions) < 2:
        return False
    del messages[questions[0] : questions[1]]
    return True


def _tell(note: Note, forgotten: int) -> None:
    if forgotten:
        note(f"(the context is full: forgot {forgotten} of the oldest turns)")


def engine_options_beside_model(config: Any) -> list[str]:
    """Engine options that differ from their defaults, as flags."""
    changed = [f.name for f in fields(config) if f.name != "model" and getattr(config, f.name) != f.default]
    return [f"--{name.replace('_', '-')}" for name in changed]
