"""Turns HTTP bodies into tokenized requests, or refuses them with reasons."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from orcinus.core.admission import rejection_reason
from orcinus.core.request import Failure, Request, RequestContext
from orcinus.core.sampling_params import DefaultLength, SamplingParams
from orcinus.errors import RequestError, shown
from orcinus.serve.chat_encoder import chat_encoder, texts
from orcinus.serve.errors import ApiError, invalid
from orcinus.serve.messages import Ready
from orcinus.serve.sampling_fields import check_ids, sampling_params
from orcinus.serve.schema import ChatBody, CompletionBody, Sampling
from orcinus.serve.structured_output_fields import WantedForm, refused_form, wanted_form
from orcinus.serve.text_threads import TextThreads
from orcinus.serve.tool_fields import bound_form, choice_of, tool_use
from orcinus.text.chat_template import MOST_PROCESSES
from orcinus.text.grammar_trial import MOST_PROCESSES as MOST_TRIALS
from orcinus.text.grammars import Grammars, vocabulary_of
from orcinus.text.input_processor import InputProcessor, TokenizedRequest
from orcinus.text.tokenizer import ChatIds, Tokenizer, TooManyTokens
from orcinus.text.tools.template_support import find_form
from orcinus.text.tools.tool_call import ToolForm
from orcinus.text.tools.tool_use import ToolUse

LONGEST_COUNTED = 2**16  # tokens of a text that is only counted, if the context is not longer
MOST_NAMED = 8  # models in a message
AT_ONCE = 1000  # characters tokenized faster than a thread is called


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
    compilers: TextThreads = field(default_factory=lambda: TextThreads(MOST_TRIALS, 90.0))  # they wait for trials of grammars
    counters: TextThreads = field(default_factory=lambda: TextThreads(1))  # for texts that may be longer than the context
    adapters: tuple[str, ...] = ()  # LoRA adapters, which are models of their own in the API
    tool_call_parser: str | None = None  # name of the form in which the model calls tools; None: that of its template
    tool_form: ToolForm = field(init=False)
    grammars: Grammars | None = field(init=False)  # None in a simulation

    def __post_init__(self) -> None:
        t, ready = self.tokenizer, self.ready
        self.tool_form = find_form(t.chat_template, self.tool_call_parser)
        seeds = random.Random(self.seed)
        vocabulary = partial(vocabulary_of, t, t.eos_ids, ready.vocab_size)
        self.grammars = None if self.fills_max_tokens else Grammars(vocabulary)
        self._input_processor = InputProcessor(
            t,
            t.eos_ids,
            self.defaults,
            ready.vocab_size,
            self.context,
            self._rejection_reason,
            seeds,
            self.grammars,
            frozenset(self.adapters),
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

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the model and its adapters."""
        return (self.name, *self.adapters)

    def check_name(self, name: str | None) -> None:
        """Raise 404 for a model that is not served here."""
        if name is not None and name not in self.names:
            served = ", ".join(map(repr, self.names[:MOST_NAMED]))
            message = f"the model {shown(name)} is not served here; this server has {served}"
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

    async def prepare(
        self,
        prompts: Sequence[Any],
        params: SamplingParams,
        body: Sampling,
        context: RequestContext,
        form: WantedForm | None = None,
    ) -> list[TokenizedRequest]:
        """Tokenize and check prompts, and compile the form of the answers, in threads."""
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
        if form is not None:
            await self._compile(form)
            params = replace(params, structured_outputs=form.outputs)
        try:
            prepared = self._input_processor.prepare(ids, params, context)
        except RequestError as error:
            if form is not None and error.field == "structured_outputs":
                raise refused_form(form.field, error) from None
            raise invalid(error.field or param, str(error) if error.field else f"{param}: {error}") from None
        cut = body.truncate_prompt_tokens is not None  # then their tokens count against what is left
        texts = [prompt if isinstance(prompt, str) and not cut else None for prompt in prompts]
        echo = isinstance(body, CompletionBody) and bool(body.echo)
        return [replace(one, text=texts[one.index], echo=echo) for one in prepared]

    async def _compile(self, form: WantedForm) -> None:
        """Compile a form in a thread; it is then found in the cache. Raises `ApiError`."""
        if self.grammars is None:
            raise invalid(form.field, f"{form.field}: a simulated engine computes no logits, so answers have no form")
        try:
            if self.grammars.knows(form.outputs):
                self.grammars.check(form.outputs)
            else:
                await self.compilers.run(self.grammars.check, form.outputs)
        except RequestError as error:
            raise refused_form(form.field, error) from None
        except TimeoutError:
            raise invalid(form.field, f"{form.field}: compiling it takes longer than {self.compilers.limit_s:.0f} s") from None

    async def tokenize(self, prompt: Any, where: str, most: int, *, special: bool = True) -> tuple[int, ...]:
        """A string, a conversation or ids as ids, in a thread.

        Texts with far more than `most` tokens are refused before tokenizing.
        """
        if isinstance(prompt, list):
            if len(prompt) > most:
                raise self._too_long(where, f"{where}: there are {len(prompt)} tokens", most)
            check_ids(prompt, where, self.ready.vocab_size)
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
        check_ids(ids, where, self.ready.vocab_size)
        return await self.counters.run(self.tokenizer.decode, ids, not special)

    async def chat(self, body: ChatBody, context: RequestContext) -> list[TokenizedRequest]:
        """The prepared answers of a chat request."""
        use, form = tool_use(body, self.tool_form), wanted_form(body)
        if use is not None:
            form = await self._bound(use, body, form)
        most, logprobs = body.max_completion_tokens or body.max_tokens, (body.top_logprobs or 0) if body.logprobs else None
        params = sampling_params(body, self.defaults, self.ready.vocab_size, most, logprobs)
        params = replace(params, thinking_token_budget=body.thinking_token_budget)
        prepared = await self.prepare([chat_encoder(body)], params, body, context, form)
        return [replace(one, tool_use=use) for one in prepared]

    async def _bound(self, use: ToolUse, body: ChatBody, form: WantedForm | None) -> WantedForm | None:
        """The form of an answer that may call tools, made in a thread. Raises `ApiError`."""
        try:
            return await self.threads.run(bound_form, use, choice_of(body), form, self.tokenizer.added_ids.get)
        except TimeoutError:
            raise invalid("tools", f"tools: their grammar takes longer than {self.threads.limit_s:.0f} s") from None

    async def completion(self, body: CompletionBody, context: RequestContext) -> list[TokenizedRequest]:
        """The prepared answers of a completion request.

        Without a token to generate, one is generated and not shown.
        """
        if body.max_tokens == 0 and not body.echo:
            raise invalid("max_tokens", "max_tokens: 0 needs echo: true")
        most = body.max_tokens if body.max_tokens != 0 else 1
        params = sampling_params(body, self.defaults, self.ready.vocab_size, most, body.logprobs)
        if body.echo and body.logprobs is not None:
            params = replace(params, prompt_logprobs=max(body.logprobs, body.prompt_logprobs or 0))
        return await self.prepare(prompts(body), params, body, context, wanted_form(body))


def prompts(body: CompletionBody) -> list[Any]:
    """The prompts of a completion request: strings or lists of ids."""
    prompt = body.prompt
    return [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else list(prompt)


def sizes(body: Sampling) -> list[int]:
    """Characters of each prompt to tokenize.

    All messages of a conversation count as one.
    """
    if isinstance(body, ChatBody):
        return [sum(len(text) for message in body.messages for text in texts(message))]
    assert isinstance(body, CompletionBody)
    return [len(prompt) for prompt in prompts(body) if isinstance(prompt, str)]


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
