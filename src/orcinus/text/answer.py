"""A request's answer as text, from the engine's events."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from orcinus.core.batch import Finished, Token
from orcinus.core.request import FinishCode, Logprobs
from orcinus.core.sampling_params import SamplingParams
from orcinus.text.detokenizer import Detokenizer
from orcinus.text.input_processor import TokenizedRequest
from orcinus.text.reasoning import Reasoning
from orcinus.text.stop_strings import StopStrings
from orcinus.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class TextDelta:
    """One step of a streamed answer.

    The last delta of a request has a `finish_reason`, and no token if the request ended between two.
    """

    request_id: str
    index: int  # place of the prompt in the call
    choice: int  # which of the n answers to it
    token_id: int | None  # None only for an ending without a token
    text: str  # text now certain; may be empty while a character or stop string is incomplete
    finish_reason: str | None = None  # stop, length, cancelled, rejected or failed
    error: str | None = None  # why, for people
    code: FinishCode | None = None  # why, for programs
    logprobs: Logprobs | None = None
    prompt_logprobs: tuple[Logprobs, ...] | None = None  # of the prompt's tokens but the first, with the first delta
    reasoning: str = ""  # text of the model's reasoning, if it is separated from the answer
    offset: int = 0  # characters certain before this token, shown or not


@dataclass(frozen=True, slots=True)
class RequestMetrics:
    """When a request's milestones happened; None = not yet.

    Seconds on the engine's clock.
    """

    arrival: float
    first_token: float | None = None
    finished: float | None = None

    @property
    def ttft(self) -> float | None:
        """Time to first token, in seconds."""
        return None if self.first_token is None else self.first_token - self.arrival

    @property
    def e2e(self) -> float | None:
        """End-to-end latency, in seconds."""
        return None if self.finished is None else self.finished - self.arrival


@dataclass(slots=True)
class Answer:
    """Collects the tokens of one request and turns them into text.

    `stopped`: a stop string ended it. Stop strings are searched in the answer, not in the reasoning before it.
    """

    request_id: str
    index: int
    choice: int
    params: SamplingParams
    detokenizer: Detokenizer | None  # None if the model has no tokenizer: then there is no text
    metrics: RequestMetrics
    split: Reasoning | None = None  # separates reasoning from the answer, for models that reason
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[Logprobs] = field(default_factory=list)
    prompt_logprobs: tuple[Logprobs, ...] | None = None
    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    error: str | None = None
    code: FinishCode | None = None
    _stops: StopStrings = field(init=False)
    _certain: int = 0  # characters

    def __post_init__(self) -> None:
        self._stops = StopStrings(self.params.stop, include=self.params.include_stop_str_in_output)

    @classmethod
    def begin(cls, request_id: str, one: TokenizedRequest, tokenizer: Tokenizer | None, arrival: float) -> Answer:
        """The still empty answer of a request."""
        shown = {"skip_special_tokens": one.params.skip_special_tokens, "thinks": one.thinking is not None, "echo": one.echo}
        detokenizer = tokenizer.detokenizer(one.ids, **shown) if tokenizer else None
        split = None if one.thinking is None else Reasoning(open=one.thinking)
        return cls(request_id, one.index, one.choice, one.params, detokenizer, RequestMetrics(arrival), split)

    @property
    def stopped(self) -> bool:
        return self._stops.stopped

    def add(self, token: Token) -> TextDelta | None:
        """Add the next token; returns None if the answer has ended."""
        if self.stopped:
            return None
        if not self.token_ids:
            self.metrics = replace(self.metrics, first_token=token.at)
            self.prompt_logprobs = token.prompt_logprobs
        self.token_ids.append(token.token)
        if token.logprobs:
            self.logprobs.append(token.logprobs)
        offset, text = self._certain, self._text_of(token.token)
        self._certain += len(text)
        reasoning, text = ("", text) if self.split is None else self.split.add(text)
        text = self._stops.add(text, early=self._early)
        self.text, self.reasoning = self.text + text, self.reasoning + reasoning
        return TextDelta(
            *(self.request_id, self.index, self.choice, token.token, text),
            logprobs=token.logprobs,
            prompt_logprobs=token.prompt_logprobs,
            reasoning=reasoning,
            offset=offset,
        )

    @property
    def _early(self) -> bool:
        """Whether stop strings are ignored at the newest token (`min_tokens`)."""
        return len(self.token_ids) <= self.params.min_tokens

    def _text_of(self, token: int) -> str:
        hidden = token in self.params.stop_token_ids and not self.params.include_stop_str_in_output
        return "" if self.detokenizer is None or hidden else self.detokenizer.add(token)

    def end(self, finished: Finished) -> TextDelta:
        """The last delta: held-back text, and the reason of the end."""
        reasoning, rest = "", "" if self.detokenizer is None else self.detokenizer.finish()
        if self.split is not None:
            parts = self.split.add(rest), self.split.finish()
            reasoning, rest = ("".join(side) for side in zip(*parts, strict=True))
        rest = self._stops.add(rest, early=self._early) + self._stops.finish()
        self.text, self.reasoning = self.text + rest, self.reasoning + reasoning
        self.finish_reason = "stop" if self.stopped else finished.reason.value
        self.error, self.code = finished.error, finished.code
        self.metrics = replace(self.metrics, finished=finished.at)
        ending = self.finish_reason, self.error, self.code
        return TextDelta(
            self.request_id, self.index, self.choice, None, rest, *ending, reasoning=reasoning, offset=self._certain
        )
