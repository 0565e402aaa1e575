"""Sampling parameters: how tokens are sampled, and when a request stops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from orcinus.core.structured_outputs import StructuredOutputs, ThinkingMarks
from orcinus.errors import RequestError, shown

MOST_ANSWERS = 128
ALL_FORBIDDEN = "its parameters forbid every token: allow more, or lower min_tokens"
SWITCHES = ("include_stop_str_in_output", "skip_special_tokens", "ignore_eos")


class DefaultLength(int):
    """A `max_tokens` that the caller did not set.

    It is cut to the room in the context, where an explicit one is refused.
    """


DEFAULT_MAX_TOKENS = DefaultLength(256)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to sample the next token, and when to stop.

    Names and ranges are those of vLLM and the OpenAI API. Raises `RequestError` for a value outside its range.
    """

    n: int = 1  # answers to the prompt, each with a seed of its own: seed, seed + 1, …
    max_tokens: int | None = DEFAULT_MAX_TOKENS  # most tokens to generate; None = whatever the model's context still holds
    min_tokens: int = 0  # stop tokens and strings are ignored before this many tokens
    temperature: float = 1.0  # 0 = greedy: always the most likely token
    top_k: int = 0  # keep the k most likely tokens; 0 or -1 = all
    top_p: float = 1.0  # keep the smallest set of tokens whose probability reaches p
    min_p: float = 0.0  # drop tokens less likely than min_p times the most likely one
    repetition_penalty: float = 1.0  # divide the logits of tokens already seen (prompt and output); 1 = off
    presence_penalty: float = 0.0  # subtract this from the logits of tokens already generated
    frequency_penalty: float = 0.0  # subtract this once for every time a token was generated
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # token id -> added to its logit
    stop: tuple[str, ...] | str = ()  # or a list; strings that end the text; they are not part of it
    stop_token_ids: tuple[int, ...] = ()  # token ids that end the text, besides the model's own
    allowed_token_ids: tuple[int, ...] | None = None  # the only tokens that may be generated; None = all
    bad_words: tuple[str, ...] = ()  # or a list; words that are not generated, as the tokenizer writes them
    bad_words_token_ids: tuple[tuple[int, ...], ...] = ()  # the same as token ids: the last does not follow the others
    include_stop_str_in_output: bool = False  # the stop string, or the text of the stop token, is part of the text
    skip_special_tokens: bool = True  # special tokens have no text
    ignore_eos: bool = False  # go on after the model's own end-of-text token
    seed: int | None = None  # equal seeds draw equal random numbers; None = one of the engine's
    logprobs: int | None = None  # log-probabilities of the sampled token and of this many top tokens; None = none
    prompt_logprobs: int | None = None  # the same for the prompt's tokens, which are then all computed, cached or not
    structured_outputs: StructuredOutputs | None = None  # the form of the answer; None = any text
    grammar: str | None = None  # the same, compiled for llguidance by the `InputProcessor`
    thinking_token_budget: int | None = None  # most tokens of reasoning; None = no limit but max_tokens
    thinking: ThinkingMarks | None = None  # where reasoning ends, for grammar and budget; set by the `InputProcessor`

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # normalise once, so that the rest of the code sees one form
        stop = self.stop or ()
        set_field(self, "stop", (stop,) if isinstance(stop, str) else _tuple("stop", stop, "a string or a list of strings"))
        set_field(self, "stop_token_ids", _token_ids("stop_token_ids", self.stop_token_ids or ()))
        if self.allowed_token_ids is not None:
            set_field(self, "allowed_token_ids", _token_ids("allowed_token_ids", self.allowed_token_ids))
        set_field(self, "bad_words", _tuple("bad_words", self.bad_words or (), "a list of strings"))
        words = enumerate(_tuple("bad_words_token_ids", self.bad_words_token_ids or (), "a list of lists of token ids"))
        set_field(self, "bad_words_token_ids", tuple(_token_ids(f"bad_words_token_ids[{at}]", word) for at, word in words))
        bias = self.logit_bias or {}
        if not isinstance(bias, Mapping):
            raise RequestError("logit_bias must be a map of token ids to numbers")
        set_field(self, "logit_bias", dict(bias))
        for name, holds, rule in self._rules():
            if not holds:
                value = getattr(self, name)
                found = shown(dict(value) if isinstance(value, Mapping) else value)
                raise RequestError(f"{name} must be {rule}, not {found}", name)

    def _rules(self) -> tuple[tuple[str, bool, str], ...]:
        """Triples: field, whether its value is valid, what it must be."""
        return (
            ("n", _is_count(self.n, 1) and self.n <= MOST_ANSWERS, f"a whole number from 1 to {MOST_ANSWERS}"),
            ("max_tokens", self.max_tokens is None or _is_count(self.max_tokens, 1), "a whole number of at least 1"),
            ("min_tokens", _is_count(self.min_tokens, 0), "a whole number of at least 0"),
            ("min_tokens", self._is_within_max(self.min_tokens), "at most max_tokens"),
            ("temperature", _between(self.temperature, 0, 1000), "a number from 0 to 1000"),
            ("top_k", _is_count(self.top_k, -1), "a whole number of at least 0 (0 or -1 = off)"),
            ("top_p", _between(self.top_p, 0, 1) and self.top_p > 0, "above 0 and at most 1"),
            ("min_p", _between(self.min_p, 0, 1), "between 0 and 1"),
            ("repetition_penalty", _between(self.repetition_penalty, 0.01, 100), "between 0.01 and 100 (1 = off)"),
            ("presence_penalty", _between(self.presence_penalty, -2, 2), "between -2 and 2"),
            ("frequency_penalty", _between(self.frequency_penalty, -2, 2), "between -2 and 2"),
            ("logit_bias", all(_is_count(t, 0) for t in self.logit_bias), "a map of token ids to numbers"),
            ("logit_bias", all(_between(b, -100, 100) for b in self.logit_bias.values()), "a map to numbers from -100 to 100"),
            ("stop", all(isinstance(s, str) and s for s in self.stop), "a string or strings, none of them empty"),
            ("allowed_token_ids", self.allowed_token_ids != (), "None (every token) or at least one token id"),
            ("bad_words", all(isinstance(w, str) and w.strip() for w in self.bad_words), "strings, none of them blank"),
            ("bad_words_token_ids", all(self.bad_words_token_ids), "lists of at least one token id"),
            *((name, isinstance(getattr(self, name), bool), "True or False") for name in SWITCHES),
            (
                "seed",
                self.seed is None or (_is_count(self.seed, -(2**63)) and self.seed < 2**63),
                "a 64-bit whole number or None",
            ),
            ("logprobs", self.logprobs is None or _is_count(self.logprobs, 0), "a whole number of at least 0, or None"),
            (
                "prompt_logprobs",
                self.prompt_logprobs is None or _is_count(self.prompt_logprobs, 0),
                "a whole number of at least 0, or None",
            ),
            (
                "structured_outputs",
                self.structured_outputs is None or isinstance(self.structured_outputs, StructuredOutputs),
                "StructuredOutputs(…) or None",
            ),
            (
                "thinking_token_budget",
                self.thinking_token_budget is None or _is_count(self.thinking_token_budget, 0),
                "a whole number of at least 0, or None",
            ),
        )

    def _is_within_max(self, count: object) -> bool:
        """Whether `count` tokens may be generated.

        A default `max_tokens` does not limit an explicit field.
        """
        unnamed = self.max_tokens is None or isinstance(self.max_tokens, DefaultLength)
        return unnamed or _between(count, 0, self.max_tokens)

    def answer_length(self, room: int) -> int:
        """The most tokens of an answer, with `room` tokens left in context.

        An explicit `max_tokens` counts as it is; a default one is cut to the room.
        """
        if self.max_tokens is None:
            return room
        if isinstance(self.max_tokens, DefaultLength):
            return int(min(room, max(self.max_tokens, self.min_tokens)))
        return self.max_tokens

    @property
    def greedy(self) -> bool:
        """Whether sampling is a plain argmax.

        Dividing by such a small temperature would overflow.
        """
        return self.temperature < 1e-5

    @property
    def penalised(self) -> bool:
        """Whether earlier tokens become more or less likely."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0

    @property
    def constrained(self) -> bool:
        """Whether a grammar or a thinking budget forbids tokens, by those before them."""
        return self.grammar is not None or self.thinking_token_budget is not None

    @property
    def masked(self) -> bool:
        """Whether some tokens may be forbidden."""
        return bool(self.allowed_token_ids or self.bad_words_token_ids or self.min_tokens or self.constrained)

    @property
    def unadjusted_greedy(self) -> bool:
        """Whether the next token is the likeliest one of the model itself, and nothing else is asked of its logits."""
        return self.greedy and self.logprobs is None and not (self.penalised or self.logit_bias or self.masked)

    @property
    def needs_history(self) -> bool:
        """Whether sampling a token depends on the tokens before it."""
        return self.penalised or self.constrained or any(len(word) > 1 for word in self.bad_words_token_ids)

    def banned(self, generated: int, history: Sequence[int] = ()) -> set[int]:
        """Tokens that must not follow `generated` output tokens.

        These are the last tokens of bad words whose other tokens were just generated, and stop tokens before `min_tokens`.
        `history` ends with the output; it is read only if `needs_history`.
        """
        banned = {word[0] for word in self.bad_words_token_ids if len(word) == 1}
        begun = [word for word in self.bad_words_token_ids if 1 < len(word) <= generated + 1]
        if begun:
            output = tuple(history[1 - max(map(len, begun)) :])
            banned.update(word[-1] for word in begun if word[:-1] == output[1 - len(word) :])
        return banned.union(self.stop_token_ids) if generated < self.min_tokens else banned


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _between(value: object, least: float, most: object) -> bool:
    """Whether it is a number in the range; NaN never is."""
    return _is_number(value) and _is_number(most) and least <= value <= most


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _tuple(name: str, value: object, kind: str) -> tuple[Any, ...]:
    if not isinstance(value, Iterable) or isinstance(value, Mapping | str | bytes):
        raise RequestError(f"{name} must be {kind}, not {shown(value)}")
    return tuple(value)


def _token_ids(name: str, value: object) -> tuple[int, ...]:
    ids = _tuple(name, value, "a list of token ids")
    for index, token in enumerate(ids):
        if not _is_count(token, 0):
            raise RequestError(f"{name}[{index}] must be a token id, not {token!r}")
    return ids
