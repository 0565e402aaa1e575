"""Between HTTP and the engine: bodies to prompts and parameters, admission, and what every response says about its request."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from orcinus.core.request import Request, SamplingParams
from orcinus.errors import RequestError
from orcinus.serve.engine_client import EngineClient, Inbox, PromptRead
from orcinus.serve.errors import ApiError
from orcinus.serve.messages import Ready
from orcinus.serve.schema import IGNORED, MOST_PROMPTS, MOST_STOPS, NEVER, NOT_YET, ChatBody, CompletionBody, Sampling
from orcinus.text.answer import Piece
from orcinus.text.intake import Intake, Prepared
from orcinus.text.tokenizer import Tokenizer

LONGEST_STOP = 256
DIRECT = ("top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "ignore_eos", "seed")
USUAL_MAX_TOKENS = 4096  # most that a request without max_tokens is given, within its context


@dataclass(frozen=True, slots=True)
class Served:
    """The names and limits a server was started with."""

    model: str
    max_queue: int = 256  # most answers that may wait or run at once
    timeout: float | None = None  # seconds a request may take, unless it says less


class Service:
    """One model behind HTTP."""

    def __init__(
        self, client: EngineClient, tokenizer: Tokenizer, defaults: SamplingParams, served: Served, ready: Ready, seed: int
    ) -> None:
        self.client, self.tokenizer, self.defaults, self.served, self.ready = client, tokenizer, defaults, served, ready
        self.draining = False
        self.created = int(time.time())
        self._intake = Intake(
            tokenizer,
            tokenizer.eos_ids,
            defaults,
            ready.vocab_size,
            ready.max_model_len,
            self._why_never,
            random.Random(seed),
        )
        self._texts = ThreadPoolExecutor(2, thread_name_prefix="text")  # long prompts are tokenized beside the event loop

    def _why_never(self, request: Request) -> str | None:
        total = request.max_known
        if total > min(self.ready.max_model_len, self.ready.kv_tokens):
            return f"{len(request.prompt)} prompt tokens and {total - len(request.prompt)} of answer exceed the context"
        return None

    def check_model(self, name: str | None) -> None:
        """Raises `ApiError` 404 for a model that is not served here."""
        if name is not None and name != self.served.model:
            message = f"the model {name!r} is not served here; this server has {self.served.model!r}"
            raise ApiError(404, message, param="model", code="model_not_found")

    def check_fields(self, body: Sampling) -> list[str]:
        """Refuse what cannot be done; returns the unknown or unused fields, for a header."""
        extra = body.model_extra or {}
        for name in NOT_YET:
            if extra.get(name) not in (None, [], "none"):
                raise ApiError(400, f"{name} is not supported yet", param=name, code="unsupported_parameter")
        for name, reason in NEVER.items():
            if extra.get(name) is not None and not (name == "best_of" and extra[name] == (body.n or 1)):
                raise ApiError(400, f"{name} is not supported: {reason}", param=name, code="unsupported_parameter")
        if body.stream_options is not None and not body.stream:
            raise ApiError(400, "stream_options needs stream: true", param="stream_options", code="invalid_value")
        known = (*NOT_YET, *NEVER)
        return sorted(name for name, value in extra.items() if name not in known and (name not in IGNORED or value is not None))

    def check_room(self, count: int) -> None:
        """Raises `ApiError` 503 or 429 if no more requests are taken now."""
        if self.client.dead is not None:
            raise ApiError(503, "the engine is gone", code="engine_dead", headers={"Retry-After": "10"})
        if self.draining:
            raise ApiError(503, "the server is shutting down", code="draining", headers={"Retry-After": "10"})
        if self.client.live + count > self.served.max_queue:
            seconds = str(self._retry_after())
            message = f"the queue is full; try again in {seconds} s"
            raise ApiError(429, message, code="queue_full", headers={"Retry-After": seconds})

    def _retry_after(self) -> int:
        """Seconds until the engine has worked off a request, going by its last iterations."""
        rate = self.client.state.tokens_per_second
        return max(1, min(60, math.ceil(64 / rate))) if rate else 1

    def params(self, body: Sampling, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
        """The sampling parameters of a body, with the model's own where it says nothing. Raises `ApiError`."""
        found: dict[str, Any] = {name: getattr(body, name) for name in DIRECT if getattr(body, name) is not None}
        if body.temperature is not None:
            found["temperature"] = float(body.temperature)
        stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
        if len(stops) > MOST_STOPS or any(not 0 < len(stop) <= LONGEST_STOP for stop in stops):
            rule = f"at most {MOST_STOPS} strings of 1 to {LONGEST_STOP} characters"
            raise ApiError(400, f"stop must be {rule}", param="stop", code="invalid_value")
        if body.min_tokens and (max_tokens is None or body.min_tokens > max_tokens):
            raise ApiError(400, "min_tokens needs a max_tokens that is no smaller", param="min_tokens", code="invalid_value")
        found |= {"stop": tuple(stops), "stop_token_ids": tuple(body.stop_token_ids or ()), "n": body.n or 1}
        found |= {"max_tokens": max_tokens, "min_tokens": body.min_tokens or 0, "logprobs": logprobs}
        found["logit_bias"] = self._bias(body)
        try:
            return replace(self.defaults, **found)
        except RequestError as error:
            raise ApiError(400, str(error), code="invalid_value") from None

    def _bias(self, body: Sampling) -> dict[int, float]:
        bias = {}
        for key, value in (body.logit_bias or {}).items():
            token = int(key) if key.isdecimal() and len(key) < 10 else -1
            if not 0 <= token < self.ready.vocab_size:
                message = f"logit_bias.{key}: no token id of this model, which has 0 to {self.ready.vocab_size - 1}"
                raise ApiError(400, message, param=f"logit_bias.{key}", code="invalid_value")
            bias[token] = max(-100.0, min(100.0, float(value)))
        return bias

    async def prepare(self, prompts: Sequence[Any], params: SamplingParams, body: Sampling, param: str) -> list[Prepared]:
        """Tokenize and check prompts, beside the event loop. Raises `ApiError`."""
        standing = {"priority": body.priority or 0, "client": body.prompt_cache_key or body.user or ""}
        standing["cache_salt"] = body.cache_salt or ""
        room = self.ready.max_model_len
        ids = [await self.tokenize(prompt) for prompt in prompts]
        for index, one in enumerate(ids):
            where = param if len(ids) == 1 else f"{param}[{index}]"
            if not one:
                raise ApiError(400, f"{where}: the prompt is empty", param=where, code="invalid_value")
            if len(one) >= room or (params.max_tokens is not None and len(one) + params.max_tokens > room):
                answer = "" if params.max_tokens is None else f" and max_tokens {params.max_tokens}"
                message = f"the prompt's {len(one)} tokens{answer} exceed the context of {room} tokens"
                raise ApiError(400, message, param=where, code="context_length_exceeded")
        if params.max_tokens is None:
            each = [replace(params, max_tokens=min(USUAL_MAX_TOKENS, room - len(one))) for one in ids]
        else:
            each = [params] * len(ids)
        try:
            return self._intake.prepare(ids, each, standing)
        except RequestError as error:
            raise ApiError(400, f"{param}: {error}", param=param, code="invalid_value") from None

    def _ids(self, prompt: Any) -> tuple[int, ...]:
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt)
        if isinstance(prompt, dict):
            return self.tokenizer.encode_chat(prompt["messages"])
        return tuple(prompt)

    async def tokenize(self, prompt: Any) -> tuple[int, ...]:
        """A string, a conversation or ids as ids, beside the event loop. Raises `ApiError`."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._texts, self._ids, prompt)
        except RequestError as error:
            raise ApiError(400, str(error), code="invalid_value") from None

    async def chat(self, body: ChatBody) -> list[Prepared]:
        """The prepared answers of a chat request."""
        if body.top_logprobs is not None and not body.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs", code="invalid_value")
        most = body.max_completion_tokens or body.max_tokens
        params = self.params(body, most, (body.top_logprobs or 0) if body.logprobs else None)
        return await self.prepare([{"messages": _messages(body)}], params, body, "messages")

    async def completion(self, body: CompletionBody) -> list[Prepared]:
        """The prepared answers of a completion request."""
        if body.echo:
            raise ApiError(400, "echo is not supported yet", param="echo", code="unsupported_parameter")
        prompt = body.prompt
        listed: list[Any] = [prompt] if isinstance(prompt, str) or (prompt and isinstance(prompt[0], int)) else list(prompt)
        if not listed:
            raise ApiError(400, "prompt: give at least one", param="prompt", code="invalid_value")
        if len(listed) > MOST_PROMPTS:
            raise ApiError(400, f"prompt: at most {MOST_PROMPTS} in one request", param="prompt", code="too_many_prompts")
        return await self.prepare(listed, self.params(body, body.max_tokens, body.logprobs), body, "prompt")

    def submit(self, prepared: Sequence[Prepared], body: Sampling) -> AsyncIterator[Piece | PromptRead]:
        """Queue all answers of a request, or none; returns their pieces as they come. Raises `ApiError` 429 or 503."""
        self.check_room(len(prepared))
        deadline = body.timeout if body.timeout is not None else self.served.timeout
        inbox: Inbox = asyncio.Queue()
        return self._pieces([self.client.submit(one, inbox, deadline) for one in prepared], inbox)

    async def _pieces(self, names: Sequence[str], inbox: Inbox) -> AsyncIterator[Piece | PromptRead]:
        """Everything until the last answer has ended. Leaving early cancels those that have not."""
        left = len(names)
        try:
            while left:
                piece = await inbox.get()
                left -= isinstance(piece, Piece) and piece.finish_reason is not None
                yield piece
        finally:
            for name in names:
                self.client.cancel(name)


def _messages(body: ChatBody) -> list[dict[str, Any]]:
    """Messages as chat templates know them. Raises `ApiError`."""
    found = []
    for index, message in enumerate(body.messages):
        content = message.content
        if isinstance(content, list):
            content = "".join(part.text for part in content)
        if content is None and not (message.role == "assistant" and message.tool_calls):
            where = f"messages[{index}].content"
            raise ApiError(400, f"{where}: is required", param=where, code="invalid_value")
        role = "system" if message.role == "developer" else message.role
        found.append({"role": role, "content": content or ""})
    return found
