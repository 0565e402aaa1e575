"""Turns HTTP bodies into tokenized requests, or refuses them with reasons."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from orcinus.core.admission import rejection_reason
from orcinus.core.request import Failure, Request, RequestContext
from orcinus.core.sampling_params import DEFAULT_MAX_TOKENS, DefaultLength, SamplingParams
from orcinus.core.structured_outputs import StructuredOutputs
from orcinus.errors import RequestError, shown
from orcinus.serve.conversation_schema import Message
from orcinus.serve.errors import ApiError, invalid
from orcinus.serve.messages import Ready
from orcinus.serve.object_schema import Object
from orcinus.serve.schema import ChatBody, CompletionBody, Sampling, TokenizeBody
from orcinus.serve.text_threads import TextThreads
from orcinus.serve.validation import enumerated
from orcinus.text.chat_template import MOST_PROCESSES
from orcinus.text.grammars import Grammars, vocabulary_of
from orcinus.text.input_processor import InputProcessor, TokenizedRequest
from orcinus.text.tokenizer import ChatIds, Tokenizer, TooManyTokens

DIRECT = (
    *("top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "seed"),
    *("ignore_eos", "include_stop_str_in_output", "skip_special_tokens"),
)
LONGEST_COUNTED = 2**16  # tokens of a text that is only counted, if the context is not longer
AT_ONCE = 1000  # characters tokenized faster than a thread is called
# A conversation's encoder: gives token ids, or raises `RequestError`, or `TooManyTokens` far beyond the second argument.
ChatEncoder = Callable[[Tokenizer, int], tuple[int, ...]]
CHAT_MAX_TOKENS, COMPLETION_MAX_TOKENS = 4096, 16  # without max_tokens, within the context; the second is OpenAI's default


@dataclass
class RequestProcessor:
    """One model and its engine's limits. Methods raise `ApiError`."""

    name: str
    tokenizer: Tokenizer
    defaults: SamplingParams
    ready: Ready
    seed: int
    threads: TextThreads
    fills_max_tokens: bool = False  # in a simulation: an answer is as long as its max_tokens
    renderers: TextThreads = field(default_factory=lambda: TextThreads(MOST_PROCESSES))  # threads for chat templates
    counters: TextThreads = field(default_factory=lambda: TextThreads(1))  # for texts that may be longer than the context
    grammars: Grammars | None = field(init=False)  # None in a simulation

    def __post_init__(self) -> None:
        t, ready = self.tokenizer, self.ready
        seeds = random.Random(self.seed)
        vocabulary = partial(vocabulary_of, t, t.eos_ids, ready.vocab_size)
        self.grammars = None if self.fills_max_tokens else Grammars(vocabulary)
        self._input_processor = InputProcessor(
            t, t.eos_ids, self.defaults, ready.vocab_size, self.context, self._rejection_reason, seeds, self.grammars
        )

    @property
    def countable(self) -> int:
        """Most tokens of a text to count, cut or detokenize."""
        return max(LONGEST_COUNTED, 8 * self.ready.max_model_len)

    @property
    def context(self) -> int:
        """Most tokens of a prompt and its answer."""
        return min(self.ready.max_model_len, self.ready.kv_tokens)

    def _rejection_reason(self, request: Request) -> Failure | None:
        return rejection_reason(request, self.ready.kv_tokens, self.ready.max_model_len)

    def check_name(self, name: str | None) -> None:
        """Raise 404 for a model that is not served here."""
        if name is not None and name != self.name:
            message = f"the model {shown(name)} is not served here; this server has {self.name!r}"
            raise ApiError(404, message, param="model", code="model_not_found")

    def check_together(self, body: Sampling) -> None:
        """Refuse fields that contradict each other."""
        options = body.stream_options
        if options is not None and options.model_fields_set and not body.stream:
            raise invalid("stream_options", "stream_options needs stream: true")
        if body.best_of not in (None, body.n or 1):
            message = "best_of must equal n: ask for n answers and choose among them"
            raise invalid("best_of", message, "unsupported_parameter")
        if (body.truncate_prompt_tokens or 0) > self.ready.max_model_len:
            message = f"truncate_prompt_tokens: must be at most {self.ready.max_model_len}, the context"
            raise invalid("truncate_prompt_tokens", message)
        if isinstance(body, ChatBody) and body.top_logprobs and not body.logprobs:
            raise invalid("top_logprobs", "top_logprobs needs logprobs: true")

    def fewest_tokens(self, sizes: Iterable[int], where: str, *, cut: bool = False) -> int:
        """A lower bound on the tokens of prompts, from their characters.

        Refuses prompts that must be longer than the context. With `cut` prompts will be truncated: nothing is too long.
        """
        total = 0
        for size in sizes:
            fewest = -(-size // self.tokenizer.longest_token)
            if fewest > self.ready.max_model_len and not cut:
                message = f"{where}: {size} characters are at least {fewest} tokens"
                raise self._too_long(where, message, self.ready.max_model_len)
            total += 1 if cut else fewest
        return total

    def _too_long(self, where: str, message: str, most: int) -> ApiError:
        what = f"the context of {most} tokens" if most <= self.ready.max_model_len else f"the {most} that are counted here"
        return invalid(where, f"{message}, more than {what}", "context_length_exceeded")

    def params(self, body: Sampling, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
        """The sampling parameters of a body.

        The model's own apply where it sets none.
        """
        found: dict[str, Any] = {name: getattr(body, name) for name in DIRECT if getattr(body, name) is not None}
        if body.temperature is not None:
            found["temperature"] = float(body.temperature)
        stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
        if body.min_tokens and (max_tokens is None or body.min_tokens > max_tokens):
            raise invalid("min_tokens", "min_tokens needs a max_tokens that is at least as large")
        for name in ("stop_token_ids", "allowed_token_ids"):
            ids = getattr(body, name) or ()
            if len(ids) > self.ready.vocab_size:
                raise invalid(name, f"{name}: {len(ids)} ids are more than this model has, which are {self.ready.vocab_size}")
            self.check_ids(ids, name)
        found |= {"stop": tuple(stops), "stop_token_ids": tuple(body.stop_token_ids or ()), "n": body.n or 1}
        found |= {"max_tokens": max_tokens or self._default_length(body), "min_tokens": body.min_tokens or 0}
        found |= {"logprobs": logprobs, "prompt_logprobs": body.prompt_logprobs}
        found |= {"allowed_token_ids": body.allowed_token_ids, "bad_words": tuple(body.bad_words or ())}
        found["logit_bias"] = self._bias(body)
        try:
            return replace(self.defaults, **found)
        except RequestError as error:
            raise invalid(error.field, str(error)) from None

    def _default_length(self, body: Sampling) -> DefaultLength:
        """The default `max_tokens`: generation_config.json's, else the API's."""
        own = self.defaults.max_tokens
        if isinstance(own, DefaultLength) and own is not DEFAULT_MAX_TOKENS:
            return own
        return DefaultLength(CHAT_MAX_TOKENS if isinstance(body, ChatBody) else COMPLETION_MAX_TOKENS)

    def _bias(self, body: Sampling) -> dict[int, float]:
        given = body.logit_bias or {}
        self._refuse_ids({f"logit_bias.{key}": int(key) for key in given})
        return {int(key): max(-100.0, min(100.0, float(value))) for key, value in given.items()}

    def check_ids(self, ids: Sequence[int], where: str) -> None:
        """Refuse ids outside this model's vocabulary."""
        if ids and max(ids) >= self.ready.vocab_size:
            self._refuse_ids({f"{where}[{index}]": token for index, token in enumerate(ids)})

    def _refuse_ids(self, ids: Mapping[str, int]) -> None:
        wrong = {where: token for where, token in ids.items() if token >= self.ready.vocab_size}
        if wrong:
            named = enumerated([f"{where}: {shown(token)}" for where, token in wrong.items()])
            message = f"{named}: no token id of this model, which has 0 to {self.ready.vocab_size - 1}"
            raise invalid(next(iter(wrong)), message)

    async def prepare(
        self, prompts: Sequence[Any], params: SamplingParams, body: Sampling, context: RequestContext
    ) -> list[TokenizedRequest]:
        """Tokenize and check prompts, in threads."""
        param = "messages" if isinstance(body, ChatBody) else "prompt"
        room = self.context
        ids = list[tuple[int, ...]]()
        for index, prompt in enumerate(prompts):
            where = param if len(prompts) == 1 else f"{param}[{index}]"
            most = room if body.truncate_prompt_tokens is None else self.countable
            one = await self.tokenize(prompt, where, most, special=body.add_special_tokens is not False)
            one = _truncated(one, body, room - _reserved(params, room))
            if not one:
                raise invalid(where, f"{where}: the prompt is empty")
            answered = params.answer_length(room - len(one))
            if len(one) >= room or len(one) + answered > room:
                answer = f" and max_tokens {answered}" if answered > 0 else ""
                where = "max_tokens" if answered >= room else where
                message = f"the prompt's {len(one)} tokens{answer} exceed the context of {room} tokens"
                raise invalid(where, message, "context_length_exceeded")
            ids.append(one)
        if self.fills_max_tokens and not isinstance(params.max_tokens, DefaultLength):
            params = replace(params, ignore_eos=True)
        if params.structured_outputs is not None:
            await self._compile(params.structured_outputs)
        try:
            prepared = self._input_processor.prepare(ids, params, context)
        except RequestError as error:
            raise invalid(error.field or param, str(error) if error.field else f"{param}: {error}") from None
        cut = body.truncate_prompt_tokens is not None  # then their tokens count against what is left
        texts = [prompt if isinstance(prompt, str) and not cut else None for prompt in prompts]
        echo = isinstance(body, CompletionBody) and bool(body.echo)
        return [replace(one, text=texts[one.index], echo=echo) for one in prepared]

    async def _compile(self, wanted: StructuredOutputs) -> None:
        """Compile a form in a thread; it is then found in the cache. Raises `ApiError`."""
        if self.grammars is None:
            raise invalid("structured_outputs", "a simulated engine computes no logits, so it has no structured output")
        try:
            await self.threads.run(self.grammars.check, wanted)
        except RequestError as error:
            raise invalid("structured_outputs", str(error)) from None
        except TimeoutError:
            message = f"{wanted.kind}: compiling it takes longer than {self.threads.limit_s:.0f} s"
            raise invalid("structured_outputs", message) from None

    async def tokenize(self, prompt: Any, where: str, most: int, *, special: bool = True) -> tuple[int, ...]:
        """A string, a conversation or ids as ids, in a thread.

        Texts with far more than `most` tokens are refused before tokenizing.
        """
        if isinstance(prompt, list):
            if len(prompt) > most:
                raise self._too_long(where, f"{where}: there are {len(prompt)} tokens", most)
            self.check_ids(prompt, where)
            return tuple(prompt)
        try:
            if isinstance(prompt, str):
                if len(prompt) <= AT_ONCE:
                    return self.tokenizer.encode(prompt, special)
                threads = self.threads if most <= self.ready.max_model_len else self.counters
                return await threads.run(self.tokenizer.encode, prompt, special, most)
            return await self.renderers.run(prompt, self.tokenizer, most)
        except TooManyTokens as error:
            raise self._too_long(where, f"{where}: {error}", most) from None
        except RequestError as error:
            raise invalid(where, f"{where}: {error}") from None
        except TimeoutError:
            raise invalid(where, f"{where}: reading it takes longer than {self.threads.limit_s:.0f} s") from None

    async def detokenize(self, ids: Sequence[int], where: str, *, special: bool) -> str:
        """The text of token ids, computed in a thread.

        Special tokens appear if `special` says so.
        """
        if len(ids) > self.countable:
            raise self._too_long(where, f"{where}: there are {len(ids)} tokens", self.countable)
        self.check_ids(ids, where)
        return await self.counters.run(self.tokenizer.decode, ids, not special)

    async def chat(self, body: ChatBody, context: RequestContext) -> list[TokenizedRequest]:
        """The prepared answers of a chat request."""
        params = self.params(
            body, body.max_completion_tokens or body.max_tokens, (body.top_logprobs or 0) if body.logprobs else None
        )
        return await self.prepare([chat_encoder(body)], params, body, context)

    async def completion(self, body: CompletionBody, context: RequestContext) -> list[TokenizedRequest]:
        """The prepared answers of a completion request.

        Without a token to generate, one is generated and not shown.
        """
        if body.max_tokens == 0 and not body.echo:
            raise invalid("max_tokens", "max_tokens: 0 needs echo: true")
        params = self.params(body, body.max_tokens if body.max_tokens != 0 else 1, body.logprobs)
        if body.echo and body.logprobs is not None:
            params = replace(params, prompt_logprobs=max(body.logprobs, body.prompt_logprobs or 0))
        return await self.prepare(prompts(body), params, body, context)


def prompts(body: CompletionBody) -> list[Any]:
    """The prompts of a completion request: strings or lists of ids."""
    prompt = body.prompt
    return [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else list(prompt)


def sizes(body: Sampling) -> list[int]:
    """Characters of each prompt to tokenize.

    All messages of a conversation count as one.
    """
    if isinstance(body, ChatBody):
        return [sum(len(text) for message in body.messages for text in _texts(message))]
    assert isinstance(body, CompletionBody)
    return [len(prompt) for prompt in prompts(body) if isinstance(prompt, str)]


def _texts(message: Message) -> list[str]:
    return [message.content] if isinstance(message.content, str) else [part.text for part in message.content or ()]


def chat_encoder(body: ChatBody | TokenizeBody) -> ChatEncoder:
    """A body's conversation, ready for tokenizing. Raises `ApiError`."""
    continues = bool(body.continue_final_message)
    if continues and body.add_generation_prompt:
        message = "continue_final_message: set add_generation_prompt to false, or leave it out; an answer has one beginning"
        raise invalid("continue_final_message", message)
    messages = template_messages(body.messages or [])
    options = body.chat_template_kwargs.model_dump(exclude_none=True) if body.chat_template_kwargs else {}
    tools = [_known(tool) for tool in body.tools or ()] or None if isinstance(body, TokenizeBody) else None

    def encode(tokenizer: Tokenizer, most: int) -> tuple[int, ...]:
        return tokenizer.encode_chat(
            messages,
            options,
            tools=tools,
            add_generation_prompt=body.add_generation_prompt is not False and not continues,
            continue_final_message=continues,
            special=bool(body.add_special_tokens),
            most=most,
        )

    return encode


def _known(part: Object) -> dict[str, Any]:
    """A request's object without unknown fields, for a template."""
    return {
        name: _known(value) if isinstance(value, Object) else value
        for name in type(part).model_fields
        if (value := getattr(part, name)) is not None
    }


def _reserved(params: SamplingParams, room: int) -> int:
    """Tokens that a prompt of any length should leave to its answer."""
    length = params.max_tokens or 1
    return length if length < room else 1


def _truncated(ids: tuple[int, ...], body: Sampling, room: int) -> tuple[int, ...]:
    """The prompt cut by `truncate_prompt_tokens` (-1: to fit the context)."""
    most = body.truncate_prompt_tokens
    if most is None:
        return ids
    count = max(1, room) if most == -1 else most
    cut = ids[:count] if body.truncation_side == "right" else ids[-count:]
    return ids.of(cut) if isinstance(ids, ChatIds) else cut


def template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as chat templates know them. Raises `ApiError`."""
    found = []
    for index, message in enumerate(messages):
        if message.content is None and message.role != "assistant":
            where = f"messages[{index}].content"
            raise invalid(where, f"{where}: is required")
        one: dict[str, Any] = {"role": "system" if message.role == "developer" else message.role}
        one["content"] = "".join(_texts(message))
        if message.tool_calls:
            one["tool_calls"] = [_with_arguments(_known(call)) for call in message.tool_calls]
        if reasoning := message.reasoning_content or message.reasoning:
            one["reasoning_content"] = reasoning
        one |= {name: value for name in ("name", "tool_call_id") if (value := getattr(message, name)) is not None}
        found.append(one)
    return found


def _with_arguments(call: dict[str, Any]) -> dict[str, Any]:
    """A tool call with parsed arguments, as templates expect them."""
    function = call["function"]
    if isinstance(function["arguments"], str):
        try:
            arguments = json.loads(function["arguments"] or "{}")
        except ValueError:
            return call
        call = {**call, "function": {**function, "arguments": arguments}}
    return call
