"""What clients get back: objects and stream frames of chats and completions, in OpenAI's shapes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from orcinus.core.request import Logprobs
from orcinus.serve.engine_client import PromptRead
from orcinus.serve.errors import ApiError
from orcinus.serve.schema import ChatBody, Sampling
from orcinus.text.answer import Piece
from orcinus.text.intake import Prepared
from orcinus.text.tokenizer import Tokenizer

FINISHED = ("stop", "length")  # OpenAI's words; anything else is an error

CHUNK = "chat.completion.chunk"


@dataclass(slots=True)
class Choice:
    """One answer as far as it has come."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[tuple[int, Logprobs]] = field(default_factory=list)
    finish_reason: str | None = None
    error: str | None = None


@dataclass(slots=True)
class Reply:
    """All answers of one request, and how to write them down."""

    id: str
    created: int
    model: str
    body: Sampling
    prepared: Sequence[Prepared]
    tokenizer: Tokenizer
    choices: dict[int, Choice] = field(default_factory=dict)
    cached: dict[int, int] = field(default_factory=dict)  # prompt -> tokens found in the prefix cache

    @property
    def is_chat(self) -> bool:
        return isinstance(self.body, ChatBody)

    def place(self, piece: Piece) -> int:
        """The index of a piece's choice: answers to the first prompt, then to the second."""
        return piece.index * (self.body.n or 1) + piece.choice

    def take(self, piece: Piece) -> Choice:
        """Add a piece to its choice."""
        choice = self.choices.setdefault(self.place(piece), Choice())
        choice.text += piece.text
        if piece.token_id is not None:
            choice.token_ids.append(piece.token_id)
        if piece.logprobs is not None and piece.token_id is not None:
            choice.logprobs.append((piece.token_id, piece.logprobs))
        if piece.finish_reason:
            choice.finish_reason, choice.error = piece.finish_reason, piece.error
        return choice

    def whole(self) -> dict[str, Any]:
        """The object of a request that did not stream. Raises `ApiError` if an answer failed."""
        for choice in self.choices.values():
            if choice.finish_reason not in FINISHED:
                raise failure(choice)
        choices = [self._whole_choice(index, choice) for index, choice in sorted(self.choices.items())]
        return {**self._head("chat.completion"), "choices": choices, "usage": self.usage()}

    def usage(self) -> dict[str, Any]:
        """Exact counts of tokens."""
        prompts = {one.index: len(one.ids) for one in self.prepared}
        prompt, completion = sum(prompts.values()), sum(len(choice.token_ids) for choice in self.choices.values())
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": sum(self.cached.values())},
        }

    async def frames(self, pieces: AsyncIterator[Piece | PromptRead]) -> AsyncIterator[str]:
        """Server-sent events, one per piece that says something, to the last `[DONE]`."""
        begun: set[int] = set()
        options = self.body.stream_options
        continuous = bool(options and options.continuous_usage_stats)
        async for piece in pieces:
            if isinstance(piece, PromptRead):
                frame = self._progress(piece)
                if frame is not None:
                    yield _event(frame)
                continue
            choice, place = self.take(piece), self.place(piece)
            if piece.finish_reason and piece.finish_reason not in FINISHED:
                yield _event({**failure(choice).body, "request_id": self.id})
                break
            frame = self._frame(piece, place, first=place not in begun)
            if frame is None:
                continue
            begun.add(place)
            if continuous:
                frame["usage"] = self.usage()
            yield _event(frame)
        else:
            if options and options.include_usage:
                yield _event({**self._head(CHUNK), "choices": [], "usage": self.usage()})
        yield "data: [DONE]\n\n"

    def note(self, progress: PromptRead) -> None:
        """Remember how much of a prompt came from the prefix cache, when it was read for the first of its answers."""
        if progress.choice == 0:
            self.cached.setdefault(progress.index, progress.cached)

    def _progress(self, progress: PromptRead) -> dict[str, Any] | None:
        self.note(progress)
        if not self.body.return_progress:
            return None
        total = next(len(one.ids) for one in self.prepared if one.index == progress.index)
        facts = {"total": total, "cache": progress.cached, "processed": progress.computed}
        return {**self._head(CHUNK), "choices": [], "prompt_progress": facts}

    def _frame(self, piece: Piece, place: int, *, first: bool) -> dict[str, Any] | None:
        logprobs = None
        if piece.logprobs is not None and piece.token_id is not None:
            logprobs = self._logprobs([(piece.token_id, piece.logprobs)])
        ids = [piece.token_id] if self.body.return_token_ids and piece.token_id is not None else None
        if not (piece.text or piece.finish_reason or logprobs or ids):
            return None  # an incomplete character, or text that may begin a stop string
        text: dict[str, Any] = {"text": piece.text}
        if self.is_chat:
            text = {"delta": ({"role": "assistant"} if first else {}) | {"content": piece.text}}
        choice = {"index": place, **text, "logprobs": logprobs, "finish_reason": piece.finish_reason}
        if ids is not None:
            choice["token_ids"] = ids
        return {**self._head(CHUNK), "choices": [choice]}

    def _whole_choice(self, index: int, choice: Choice) -> dict[str, Any]:
        logprobs = self._logprobs(choice.logprobs) if choice.logprobs else None
        text: dict[str, Any] = {"text": choice.text}
        if self.is_chat:
            text = {"message": {"role": "assistant", "content": choice.text, "refusal": None}}
        found = {"index": index, **text, "logprobs": logprobs, "finish_reason": choice.finish_reason}
        if self.body.return_token_ids:
            found["token_ids"] = choice.token_ids
        return found

    def _logprobs(self, tokens: list[tuple[int, Logprobs]]) -> dict[str, Any]:
        if self.is_chat:
            return {"content": [self._chat_logprob(token, at) for token, at in tokens], "refusal": None}
        words = [self._word(token) for token, _ in tokens]
        top = [{self._word(token): value for token, value in at.top} for _, at in tokens]
        offsets = list(accumulate(map(len, words[:-1]), initial=0))
        values = [at.logprob for _, at in tokens]
        return {"tokens": words, "token_logprobs": values, "top_logprobs": top, "text_offset": offsets}

    def _chat_logprob(self, token: int, at: Logprobs) -> dict[str, Any]:
        def one(token: int, value: float) -> dict[str, Any]:
            word = self._word(token)
            return {"token": word, "logprob": value, "bytes": list(word.encode())}

        return {**one(token, at.logprob), "top_logprobs": [one(other, value) for other, value in at.top]}

    def _word(self, token: int) -> str:
        return self.tokenizer.decode([token])

    def _head(self, chat_kind: str) -> dict[str, Any]:
        kind = chat_kind if self.is_chat else "text_completion"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def failure(choice: Choice) -> ApiError:
    """Why an answer did not come to its end."""
    if choice.error == "deadline":
        return ApiError(504, "the request took longer than its timeout", code="timeout")
    if choice.finish_reason == "rejected":
        return ApiError(400, choice.error or "the request can never be served", code="invalid_value")
    if choice.finish_reason == "cancelled":
        return ApiError(499, "the request was cancelled", code="cancelled")
    return ApiError(500, "the request failed while it ran", code="request_failed")


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False, separators=(',', ':'))}\n\n"
