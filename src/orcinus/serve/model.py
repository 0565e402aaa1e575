"""What the served model makes of a body: prompts as token ids, sampling parameters, and every reason why not."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orcinus.core.request import DefaultLength, Request, SamplingParams
from orcinus.errors import RequestError
from orcinus.serve.errors import ApiError, invalid
from orcinus.serve.messages import Ready
from orcinus.serve.schema import HARMLESS, IGNORED, NEVER, NOT_YET, ChatBody, CompletionBody, Message, Sampling
from orcinus.serve.workers import Workers
from orcinus.text.chat_template import MOST_PROCESSES
from orcinus.text.intake import Intake, Prepared
from orcinus.text.tokenizer import Tokenizer

DIRECT = ("top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "ignore_eos", "seed")
AT_ONCE = 1000  # characters that take less time to tokenize than to hand to a thread
USUAL_MAX_TOKENS = 4096  # most that a request without max_tokens is given, within its context


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is: what fair queues and the prefix cache go by."""

    client: str = ""
    salt: str = ""  # nobody shares K/V blocks with another salt


@dataclass
class Model:
    """One model and the limits of its engine. Methods raise `ApiError`."""

    name: str
    tokenizer: Tokenizer
    defaults: SamplingParams
    ready: Ready
    seed: int
    workers: Workers
    fills_max_tokens: bool = False  # a simulated one: whoever says how long an answer may become gets it so long
    renderers: Workers = field(default_factory=lambda: Workers(MOST_PROCESSES))  # threads that wait for chat templates

    def __post_init__(self) -> None:
        t, ready = self.tokenizer, self.ready
        seeds = random.Random(self.seed)
        self._intake = Intake(t, t.eos_ids, self.defaults, ready.vocab_size, self.context, self._why_never, seeds)

    @property
    def context(self) -> int:
        """Most tokens of a prompt and its answer."""
        return min(self.ready.max_model_len, self.ready.kv_tokens)

    def _why_never(self, request: Request) -> str | None:
        total = request.max_known
        if total > self.context:
            return f"{len(request.prompt)} prompt tokens and {total - len(request.prompt)} of answer exceed the context"
        return None

    def check_name(self, name: str | None) -> None:
        """404 for a model that is not served here."""
        if name is not None and name != self.name:
            message = f"the model {name!r} is not served here; this server has {self.name!r}"
            raise ApiError(404, message, param="model", code="model_not_found")

    def check_fields(self, body: Sampling, strict: bool) -> list[str]:
        """Refuse what cannot be done; returns the unknown or unused fields, for a header."""
        extra = body.model_extra or {}
        for name in NOT_YET:
            if extra.get(name) not in (None, [], *HARMLESS.get(name, ())):
                raise invalid(name, f"{name} is not supported yet", "unsupported_parameter")
        for name, reason in NEVER.items():
            if extra.get(name) is not None and not (name == "best_of" and extra[name] == (body.n or 1)):
                raise invalid(name, f"{name} is not supported: {reason}", "unsupported_parameter")
        if body.stream_options is not None and not body.stream:
            raise invalid("stream_options", "stream_options needs stream: true")
        known = (*NOT_YET, *NEVER)
        ignored = sorted(
            name for name, value in extra.items() if name not in known and (name not in IGNORED or value is not None)
        )
        unknown = [name for name in ignored if name not in IGNORED]
        if strict and unknown:
            raise invalid(unknown[0], f"{unknown[0]} is no field of this API", "unknown_parameter")
        return ignored

    def fewest_tokens(self, texts: Iterable[str], where: str) -> int:
        """A lower bound on the tokens of texts, without tokenizing. Refuses what can only be longer than the context."""
        total = 0
        for text in texts:
            fewest = -(-len(text) // self.tokenizer.longest_token)
            if fewest > self.ready.max_model_len:
                size = f"{len(text)} characters are at least {fewest} tokens"
                message = f"{where}: {size}, more than the context of {self.ready.max_model_len} tokens"
                raise invalid(where, message, "context_length_exceeded")
            total += fewest
        return total

    def params(self, body: Sampling, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
        """The sampling parameters of a body, with the model's own where it says nothing."""
        found: dict[str, Any] = {name: getattr(body, name) for name in DIRECT if getattr(body, name) is not None}
        if body.temperature is not None:
            found["temperature"] = float(body.temperature)
        stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
        if body.min_tokens and (max_tokens is None or body.min_tokens > max_tokens):
            raise invalid("min_tokens", "min_tokens needs a max_tokens that is no smaller")
        self.check_ids(body.stop_token_ids or (), "stop_token_ids")
        found |= {"stop": tuple(stops), "stop_token_ids": tuple(body.stop_token_ids or ()), "n": body.n or 1}
        length = DefaultLength(USUAL_MAX_TOKENS) if max_tokens is None else max_tokens
        found |= {"max_tokens": length, "min_tokens": body.min_tokens or 0, "logprobs": logprobs}
        found["logit_bias"] = self._bias(body)
        try:
            return replace(self.defaults, **found)
        except RequestError as error:
            raise invalid(None, str(error)) from None

    def _bias(self, body: Sampling) -> dict[int, float]:
        bias = {}
        for key, value in (body.logit_bias or {}).items():
            token = int(key)
            if token >= self.ready.vocab_size:
                message = f"logit_bias.{key}: no token id of this model, which has 0 to {self.ready.vocab_size - 1}"
                raise invalid(f"logit_bias.{key}", message)
            bias[token] = max(-100.0, min(100.0, float(value)))
        return bias

    def check_ids(self, ids: Sequence[int], where: str) -> None:
        for index, token in enumerate(ids):
            if not 0 <= token < self.ready.vocab_size:
                one = f"{where}[{index}]"
                raise invalid(one, f"{one}: {token} is no token id of this model, which has 0 to {self.ready.vocab_size - 1}")

    async def prepare(self, prompts: Sequence[Any], params: SamplingParams, body: Sampling, who: Caller) -> list[Prepared]:
        """Tokenize and check prompts, beside the event loop."""
        param = "messages" if isinstance(body, ChatBody) else "prompt"
        standing = {"priority": body.priority or 0, "client": who.client, "cache_salt": who.salt}
        room = self.context
        ids = []
        for index, prompt in enumerate(prompts):
            where = param if len(prompts) == 1 else f"{param}[{index}]"
            one = await self.tokenize(prompt, where)
            if not one:
                raise invalid(where, f"{where}: the prompt is empty")
            most = params.answer_length(room - len(one))
            if len(one) >= room or len(one) + most > room:
                answer = f" and max_tokens {most}" if most > 0 else ""
                where = "max_tokens" if most >= room else where
                message = f"the prompt's {len(one)} tokens{answer} exceed the context of {room} tokens"
                raise invalid(where, message, "context_length_exceeded")
            ids.append(one)
        if self.fills_max_tokens and not isinstance(params.max_tokens, DefaultLength):
            params = replace(params, ignore_eos=True)
        try:
            prepared = self._intake.prepare(ids, params, standing)
        except RequestError as error:
            raise invalid(param, f"{param}: {error}") from None
        return [replace(one, text=prompts[one.index]) if isinstance(prompts[one.index], str) else one for one in prepared]

    async def tokenize(self, prompt: Any, where: str, *, special: bool = True) -> tuple[int, ...]:
        """A string, a conversation or ids as ids, beside the event loop."""
        if isinstance(prompt, list):
            self.check_ids(prompt, where)
            return tuple(prompt)
        try:
            if isinstance(prompt, str):
                if len(prompt) <= AT_ONCE:
                    return self.tokenizer.encode(prompt, special)
                return await self.workers.run(self.tokenizer.encode, prompt, special)
            return await self.renderers.run(self.tokenizer.encode_chat, prompt.messages, prompt.options)
        except RequestError as error:
            raise invalid(where, f"{where}: {error}") from None
        except TimeoutError:
            raise invalid(where, f"{where}: reading it takes longer than {self.workers.limit_s:.0f} s") from None

    async def chat(self, body: ChatBody, who: Caller) -> list[Prepared]:
        """The prepared answers of a chat request."""
        if body.top_logprobs is not None and not body.logprobs:
            raise invalid("top_logprobs", "top_logprobs needs logprobs: true")
        params = self.params(
            body, body.max_completion_tokens or body.max_tokens, (body.top_logprobs or 0) if body.logprobs else None
        )
        return await self.prepare([conversation(body)], params, body, who)

    async def completion(self, body: CompletionBody, who: Caller) -> list[Prepared]:
        """The prepared answers of a completion request. Without a token to generate one is, and is not shown."""
        if body.max_tokens == 0 and not body.echo:
            raise invalid("max_tokens", "max_tokens: 0 needs echo: true")
        params = self.params(body, body.max_tokens if body.max_tokens != 0 else 1, body.logprobs)
        if body.echo and body.logprobs is not None:
            params = replace(params, prompt_logprobs=body.logprobs)
        return await self.prepare(prompts(body), params, body, who)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages as chat templates know them, and the variables that the template is given."""

    messages: list[dict[str, Any]]
    options: dict[str, Any]


def prompts(body: CompletionBody) -> list[Any]:
    """The prompts of a completion request: strings or lists of ids."""
    prompt = body.prompt
    return [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else list(prompt)


def texts(body: Sampling) -> list[str]:
    """Whatever has to be tokenized."""
    if isinstance(body, ChatBody):
        return [text for message in body.messages for text in _texts(message)]
    assert isinstance(body, CompletionBody)
    return [prompt for prompt in prompts(body) if isinstance(prompt, str)]


def _texts(message: Message) -> list[str]:
    return [message.content] if isinstance(message.content, str) else [part.text for part in message.content or ()]


def conversation(body: ChatBody) -> Conversation:
    """The messages of a chat request. Raises `ApiError`."""
    options = body.chat_template_kwargs.model_dump(exclude_none=True) if body.chat_template_kwargs else {}
    return Conversation(template_messages(body.messages), options)


def template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as chat templates know them. Raises `ApiError`."""
    found = []
    for index, message in enumerate(messages):
        if message.content is None and not (message.role == "assistant" and message.tool_calls):
            where = f"messages[{index}].content"
            raise invalid(where, f"{where}: is required")
        one: dict[str, Any] = {"role": "system" if message.role == "developer" else message.role}
        one["content"] = "".join(_texts(message))
        if message.tool_calls:
            one["tool_calls"] = [_with_arguments(call.model_dump()) for call in message.tool_calls]
        one |= {name: value for name in ("name", "tool_call_id") if (value := getattr(message, name)) is not None}
        found.append(one)
    return found


def _with_arguments(call: dict[str, Any]) -> dict[str, Any]:
    """A tool call whose arguments are an object, as templates want them; OpenAI's are the text of one."""
    function = call["function"]
    if isinstance(function["arguments"], str):
        try:
            arguments = json.loads(function["arguments"] or "{}")
        except ValueError:
            return call
        call = {**call, "function": {**function, "arguments": arguments}}
    return call
