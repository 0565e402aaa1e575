"""The server under test, and how to send it requests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx

from orcinus.conformance.verdict import Failed, Skip, expect, expect_equal
from orcinus.server_address import authorization, server_url

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HI = [{"role": "user", "content": "Hi"}]
STORY = [{"role": "user", "content": "Tell me a story about a fox."}]
OPENING = "Once upon a time"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventStream:
    """A complete event stream: its JSON frames without `[DONE]`."""

    frames: list[Json]
    lines: list[str]
    headers: httpx.Headers

    def choices(self, index: int = 0) -> list[Json]:
        """The frames' parts of one choice."""
        return [one for frame in self.frames for one in frame["choices"] if one["index"] == index]

    def text(self, index: int = 0) -> str:
        """The whole text of one choice."""
        return "".join(_piece(one) for one in self.choices(index))

    def reasons(self, index: int = 0) -> list[str]:
        """The finish reasons of one choice; there should be exactly one."""
        return [one["finish_reason"] for one in self.choices(index) if one.get("finish_reason")]


@dataclass(frozen=True, slots=True)
class NamedEvent:
    """A server-sent event with a name."""

    name: str
    content: Json


class ServerUnderTest:
    """The server at an address.

    Raises `ConfigError` for a wrong URL or key, `httpx.HTTPError` or `Failed` if it does not list its models.
    """

    def __init__(self, url: str, api_key: str | None = None, model: str | None = None, timeout: float = 60.0) -> None:
        self.url = server_url(url)
        self.api_key = api_key
        self.auth = authorization(api_key)
        # Not by way of a proxy from the environment: it would answer some of the broken requests itself.
        self.http = httpx.Client(base_url=self.url, headers=self.auth, timeout=timeout, trust_env=False)
        try:
            self.card = self._first_card(model)
        except BaseException:
            self.http.close()
            raise
        self._lacking: dict[str, bool] = {}  # by route
        self.model = str(self.card["id"])

    def _first_card(self, model: str | None) -> Json:
        """What the server says of this model, or of its first one."""
        answer = self.http.get("/v1/models")
        if answer.status_code == 503:
            problem = f"it is not ready and answers 503: {' '.join(answer.text.split())}"
            raise httpx.HTTPStatusError(problem, request=answer.request, response=answer)
        expect_equal(answer.status_code, 200, "status of GET /v1/models")
        return _card(answer.json(), model)

    @property
    def is_orcinus(self) -> bool:
        """Whether the checks for Orcinus alone apply."""
        return self.card.get("owned_by") == "orcinus"

    @property
    def context(self) -> int:
        """The most tokens that a request may have."""
        found = self.card.get("max_model_len")
        if not isinstance(found, int):
            raise Skip("/v1/models does not say max_model_len")
        return found

    @cached_property
    def has_completions(self) -> bool:
        """Whether the server has completions besides chats."""
        body = {"model": self.model, "prompt": OPENING, "max_tokens": 1}
        return self.http.post(TEXT, json=body).status_code not in (404, 405, 501)

    @cached_property
    def _has_health(self) -> bool:
        return self.http.get("/health").status_code == 200

    @cached_property
    def _control(self) -> str:
        return self._control_text()

    def _control_text(self) -> str:
        answer = self.chat(messages=HI, max_tokens=8)
        return str(answer["choices"][0]["message"]["content"])

    def remember(self) -> None:
        """Take the control answer once, for `unharmed` to compare with."""
        _ = self._has_health, self._control

    def unharmed(self) -> None:
        """Raise `Failed` unless the server answers as at first."""
        if self._has_health:
            expect_equal(self.http.get("/health").status_code, 200, "afterwards the status of /health")
        expect_equal(self._control_text(), self._control, "afterwards the control text")

    def post(self, path: str, body: Json, headers: dict[str, str] | None = None) -> httpx.Response:
        """Send a body, with the model's name unless it has one."""
        if path == TEXT and not self.has_completions:
            raise Skip("the server has no /v1/completions")
        return self.http.post(path, json={"model": self.model} | body, headers=headers)

    def ask(self, path: str, body: Json, headers: dict[str, str] | None = None) -> httpx.Response:
        """Send a body that must be answered with status 200."""
        answer = self.post(path, body, headers)
        if answer.status_code != 200:
            raise Failed(f"status {answer.status_code}, not 200: {why(answer)}")
        return answer

    def chat(self, **fields: Any) -> Json:
        """A greedy chat, unless `fields` say otherwise."""
        found: Json = self.ask(CHAT, {"messages": HI, "temperature": 0} | fields).json()
        return found

    def complete(self, **fields: Any) -> Json:
        """A greedy completion, unless `fields` say otherwise."""
        found: Json = self.ask(TEXT, {"prompt": OPENING, "temperature": 0, "max_tokens": 8} | fields).json()
        return found

    def stream(self, path: str, headers: dict[str, str] | None = None, **fields: Any) -> EventStream:
        """A complete greedy stream.

        Raises `Failed` unless it consists of events and ends with `[DONE]`.
        """
        if path == TEXT and not self.has_completions:
            raise Skip("the server has no /v1/completions")
        start: Json = {"prompt": OPENING} if path == TEXT else {"messages": HI}
        body = {"model": self.model, "temperature": 0, "max_tokens": 24, "stream": True} | start | fields
        with self.http.stream("POST", path, json=body, headers=headers) as answer:
            if answer.status_code != 200:
                answer.read()
                raise Failed(f"status {answer.status_code}, not 200: {why(answer)}")
            lines = list(answer.iter_lines())
        data = [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]
        expect(data and data[-1] == "[DONE]", "the stream does not end with data: [DONE]")
        return EventStream([json.loads(one) for one in data[:-1]], lines, answer.headers)

    def events(self, path: str, body: Json, headers: dict[str, str] | None = None) -> list[NamedEvent]:
        """A complete stream of named events.

        Raises `Failed` unless each has a name and JSON whose `type` is that name.
        """
        with self.http.stream("POST", path, json={"model": self.model, "stream": True} | body, headers=headers) as answer:
            if answer.status_code != 200:
                answer.read()
                raise Failed(f"status {answer.status_code}, not 200: {why(answer)}")
            expect(answer.headers["content-type"].startswith("text/event-stream"), "content-type is not text/event-stream")
            text = "\n".join(answer.iter_lines())
        found = [_named_event(block.split("\n")) for block in text.split("\n\n") if block.strip() and block[0] != ":"]
        for one in found:
            expect_equal(one.content.get("type"), one.name, "the type of an event")
        return found

    def lacks(self, path: str, body: Json, headers: dict[str, str] | None = None) -> bool:
        """Whether the server has no such route, by its answer to a plain request; asked once."""
        if path not in self._lacking:
            self._lacking[path] = self.post(path, body, headers).status_code in (404, 405, 501)
        return self._lacking[path]

    def tokens(self, text: str) -> list[int]:
        """The token ids of a text, from Orcinus's and vLLM's endpoint."""
        answer = self.http.post("/tokenize", json={"model": self.model, "prompt": text})
        if answer.status_code != 200:
            raise Skip(f"/tokenize answers {answer.status_code}")
        return [int(one) for one in answer.json()["tokens"]]

    def close(self) -> None:
        """Close the connections."""
        self.http.close()


def _named_event(lines: list[str]) -> NamedEvent:
    fields = dict(line.split(":", 1) for line in lines if line)
    expect(set(fields) == {"event", "data"}, f"an event has the lines {lines!r:.60}")
    return NamedEvent(fields["event"].strip(), json.loads(fields["data"]))


def why(answer: httpx.Response) -> str:
    """An error answer's message."""
    try:
        return str(answer.json()["error"]["message"])[:120]
    except (ValueError, KeyError, TypeError):
        return answer.text[:120]


def granted(answer: httpx.Response) -> Json:
    """The content of a successful answer.

    Raises `Skip` if the server refuses the feature as unsupported, `Failed` for any other error.
    """
    if answer.status_code in (400, 501) and "support" in answer.text:
        raise Skip(f"not supported by the server: {why(answer)}")
    expect_equal(answer.status_code, 200, "status")
    found: Json = answer.json()
    return found


def _card(found: Json, model: str | None) -> Json:
    cards: list[Json] = found["data"]
    for card in cards:
        if model is None or card["id"] == model:
            return card
    raise Failed(f"the server has no model {model!r}, but {', '.join(str(card['id']) for card in cards) or 'none'}")


def _piece(choice: Json) -> str:
    return (choice["delta"].get("content") if "delta" in choice else choice.get("text")) or ""
