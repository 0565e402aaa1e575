"""From user input to tokenized, validated requests."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orcinus.core.request import Failure, Request, RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.structured_outputs import ThinkingMarks
from orcinus.errors import RequestError, shown
from orcinus.text.grammars import Grammars
from orcinus.text.tokenizer import ChatIds, Tokenizer
from orcinus.text.tools.answer_form import answer_form
from orcinus.text.tools.tool_call import ToolChoice
from orcinus.text.tools.tool_use import ToolUse

Prompt = str | Sequence[int]


@dataclass(frozen=True, slots=True)
class TokenizedRequest:
    """One answer to generate, with resolved parameters.

    max_tokens, seed and end-of-text ids are filled in, and n is 1.
    """

    index: int  # place of the prompt in the call
    choice: int  # which of the n answers to the prompt

    text: str | None  # None if the prompt was given as ids
    ids: tuple[int, ...]
    params: SamplingParams
    context: RequestContext
    thinking: bool | None = None  # whether the prompt opens the reasoning; None without reasoning
    echo: bool = False  # whether the prompt is shown before the answer
    tool_use: ToolUse | None = None  # the tools that the answer may call


@dataclass(frozen=True, slots=True)
class InputProcessor:
    """Validates inputs for one model and engine. Methods raise `RequestError`."""

    tokenizer: Tokenizer | None
    eos_ids: frozenset[int]
    default_params: SamplingParams
    vocab_size: int
    max_model_len: int
    rejection_reason: Callable[[Request], Failure | None]  # why the scheduler would reject a request
    seeds: random.Random  # for requests without a seed of their own
    grammars: Grammars | None = None  # None: there is no structured output here
    adapters: frozenset[str] = frozenset()  # names of LoRA adapters

    def prepare(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None,
        context: RequestContext | Mapping[str, Any] | None = None,
    ) -> list[TokenizedRequest]:
        """The tokenized requests of a call. Errors name the prompt.

        `context` is one for all prompts, or maps its fields to one value for all or to a list of one for each.
        """
        listed = _listed(prompts)
        if params is None or isinstance(params, SamplingParams):
            params = [params or self.default_params] * len(listed)
        if not isinstance(params, Sequence) or not all(isinstance(one, SamplingParams) for one in params):
            raise RequestError("params must be SamplingParams, or a list of them, one for each prompt")
        if len(params) != len(listed):
            raise RequestError(f"{len(listed)} prompts but {len(params)} sampling parameters: give one for all or one for each")
        prepared = []
        for index, (prompt, one, own) in enumerate(zip(listed, params, _contexts(context or {}, len(listed)), strict=True)):
            try:
                prepared.append(self._one(index, prompt, one, own))
            except RequestError as error:
                raise RequestError(str(error) if len(listed) == 1 else f"prompt {index}: {error}", error.field) from None
        # Seeds come after all checks: a refused call takes none from the next one.
        return [answer for one in prepared for answer in self._seeded(one)]

    def _one(self, index: int, prompt: Prompt, params: SamplingParams, context: RequestContext) -> TokenizedRequest:
        if context.lora and context.lora not in self.adapters:
            known = ", ".join(sorted(self.adapters)) or "none: they are given to the engine"
            raise RequestError(f"there is no adapter {shown(context.lora)}; known are {known}", "lora")
        ids = self._ids(prompt)
        room = self.max_model_len - len(ids)
        if room < 1:
            size = f"the prompt has {len(ids)} tokens, and the model length of {self.max_model_len}"
            raise RequestError(f"{size} leaves no room for an answer: shorten it")
        chat = prompt if isinstance(prompt, ChatIds) else None
        _check_budget(params, chat)
        params = _bound(params, chat, self.tokenizer)
        resolved = self._resolved(params, room, chat.marks if chat else None)
        failure = self.rejection_reason(Request("", ids, replace(resolved, n=1), 0.0))
        if failure is not None:
            raise RequestError(failure.text)
        text = prompt if isinstance(prompt, str) else None
        thinking, tool_use = (chat.thinking, chat.tool_use) if chat else (None, None)
        return TokenizedRequest(index, 0, text, ids, resolved, context, thinking, tool_use=tool_use)

    def _resolved(self, params: SamplingParams, room: int, marks: ThinkingMarks | None) -> SamplingParams:
        """Resolved parameters for a prompt that leaves `room` tokens."""
        self._check("stop token", params.stop_token_ids)
        self._check("logit_bias token", tuple(params.logit_bias))
        self._check("allowed token", params.allowed_token_ids or ())
        for number, word in enumerate(params.bad_words_token_ids):
            self._check(f"bad_words_token_ids[{number}]: token", word)
        if params.stop and self.tokenizer is None:
            raise RequestError("this model has no tokenizer, so stop strings cannot be found: use stop_token_ids")
        if params.bad_words and self.tokenizer is None:
            raise RequestError("this model has no tokenizer, so bad_words have no token ids: use bad_words_token_ids")
        max_tokens = params.answer_length(room)
        if params.min_tokens > max_tokens:
            reason = f"min_tokens {params.min_tokens} exceed the {room} tokens that the prompt leaves: lower it"
            raise RequestError(reason, "min_tokens")
        grammar = self._grammar(params)
        eos = self._eos if grammar is not None or not params.ignore_eos else ()  # a finished grammar ends the answer
        words = bad_words_token_ids(self.tokenizer, params.bad_words) if self.tokenizer else ()
        resolved = replace(
            params,
            max_tokens=max_tokens,
            stop_token_ids=(*params.stop_token_ids, *eos),
            bad_words_token_ids=tuple(dict.fromkeys((*params.bad_words_token_ids, *words))),
            structured_outputs=None,
            grammar=grammar,
            thinking_token_budget=None if marks is None else params.thinking_token_budget,
            thinking=marks,
        )
        if resolved.allowed_token_ids is not None and resolved.banned(0).issuperset(resolved.allowed_token_ids):
            reason = "allowed_token_ids: nothing can be generated, because bad_words or min_tokens forbid all of them"
            raise RequestError(reason, "allowed_token_ids")
        return resolved

    @property
    def _eos(self) -> tuple[int, ...]:
        return tuple(sorted(token for token in self.eos_ids if token < self.vocab_size))

    def _grammar(self, params: SamplingParams) -> str | None:
        """The compiled form of the answer, if one is asked for."""
        if params.structured_outputs is None:
            return params.grammar
        if self.grammars is None:
            raise RequestError("structured output is not available: this engine computes no logits", "structured_outputs")
        if not self._eos:
            raise RequestError("structured output is not available: this model has no end-of-text token", "structured_outputs")
        return self.grammars.check(params.structured_outputs)

    def _seeded(self, one: TokenizedRequest) -> list[TokenizedRequest]:
        """The n answers to a prompt, each with a seed."""
        seed = self.seeds.getrandbits(63) if one.params.seed is None else one.params.seed
        return [
            replace(one, choice=choice, params=replace(one.params, n=1, seed=(seed + choice) % 2**63))
            for choice in range(one.params.n)
        ]

    def _ids(self, prompt: Prompt) -> tuple[int, ...]:
        if isinstance(prompt, str):
            if self.tokenizer is None:
                raise RequestError("this model has no tokenizer: give prompts as token ids")
            ids = self.tokenizer.encode(prompt)
        elif isinstance(prompt, Mapping | bytes) or not isinstance(prompt, Iterable):
            raise RequestError(f"a prompt must be a string or a list of token ids, not {type(prompt).__name__}")
        else:
            ids = tuple(_whole(token) for token in prompt)
        if not ids:
            raise RequestError("the prompt is empty: give at least one character or token")
        self._check("prompt token", ids)
        return ids

    def _check(self, what: str, ids: Sequence[Any]) -> None:
        for index, token in enumerate(ids):
            if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < self.vocab_size:
                known = f"whole numbers from 0 to {self.vocab_size - 1}"
                raise RequestError(f"{what} {index} is {shown(token)}: ids of this model are {known}")


def _bound(params: SamplingParams, chat: ChatIds | None, tokenizer: Tokenizer | None) -> SamplingParams:
    """The parameters with the form of an answer that may call tools. Raises `RequestError`."""
    if chat is None or chat.tool_use is None:
        return params
    form, wanted = chat.form, params.structured_outputs
    if wanted is not None and not chat.tool_use.forced:
        assert tokenizer is not None, "it made the chat's ids"
        form = answer_form(chat.tool_use, ToolChoice("auto"), wanted, tokenizer.added_ids.get)
    return params if form is None else replace(params, structured_outputs=form)


def _check_budget(params: SamplingParams, chat: ChatIds | None) -> None:
    """Raise `RequestError` for a thinking budget that could not be kept."""
    if params.thinking_token_budget is None:
        return
    if chat is None:
        raise RequestError("thinking_token_budget belongs to chats: a plain prompt has no reasoning", "thinking_token_budget")
    if chat.thinking and chat.marks is None:
        reason = "this model's reasoning does not end with a token of its own, so it cannot be cut"
        raise RequestError(f"thinking_token_budget: {reason}", "thinking_token_budget")


def bad_words_token_ids(tokenizer: Tokenizer, words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Token ids of words, each with and without a leading space.

    Tokenizers write a word in these two ways, at the beginning of a text and inside it. (vLLM omits the second form if it
    has another number of tokens, so " the" may come where "the" is two tokens.) Raises `RequestError`.
    """
    found = dict[tuple[int, ...], None]()
    for index, word in enumerate(words):
        forms = [tokenizer.encode(blank + word.lstrip(), special=False) for blank in ("", " ")]
        if not forms[0]:
            raise RequestError(f"bad_words[{index}] has no tokens: leave it out", f"bad_words[{index}]")
        found |= dict.fromkeys(form for form in forms if form)
    return tuple(found)


def _listed(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """The prompts as a list, also if there is only one."""
    if isinstance(prompts, str):
        return [prompts]
    if isinstance(prompts, Mapping | bytes) or not isinstance(prompts, Iterable):
        raise RequestError("prompts must be a string, a list of token ids, or a list of these")
    listed: list[Any] = list(prompts)
    if isinstance(prompts, ChatIds):
        return [prompts]
    return [tuple(listed)] if listed and isinstance(_whole(listed[0]), int) else listed


def _contexts(given: RequestContext | Mapping[str, Any], count: int) -> list[RequestContext]:
    if isinstance(given, RequestContext):
        return [given] * count
    each = [dict[str, Any]() for _ in range(count)]
    for name, value in given.items():
        values = list(value) if isinstance(value, list | tuple) else [value] * count
        if len(values) != count:
            raise RequestError(f"{count} prompts but {len(values)} values of {name}: give one for all or one for each")
        for one, own in zip(each, values, strict=True):
            one[name] = own
    return [RequestContext(**one) for one in each]


def _whole(value: Any) -> Any:
    """Integers of numpy or torch as Python's; anything else unchanged."""
    try:
        return value if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return value
