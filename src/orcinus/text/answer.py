"""A request's answer as text, from the engine's events."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from orcinus.core.batch import Finished, Token
from orcinus.core.request import FinishCode, Logprobs
from orcinus.core.sampling_params import SamplingParams
from orcinus.text.detokenizer import Detokenizer
from orcinus.text.input_processor import TokenizedRequest
from orcinus.text.reasoning import BEGIN, END, Reasoning
from orcinus.text.stop_strings import StopStrings
from orcinus.text.tokenizer import Tokenizer
from orcinus.text.tools.tool_call import ToolCallDelta
from orcinus.text.tools.tool_use import ToolCalls, ToolUse


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
    finish_reason: str | None = None  # stop, length, tool_calls, cancelled, rejected or failed
    error: str | None = None  # why, for people
    code: FinishCode | None = None  # why, for programs
    logprobs: Logprobs | None = None
    prompt_logprobs: tuple[Logprobs, ...] | None = None  # of the prompt's tokens but the first, with the first delta
    reasoning: str = ""  # text of the model's reasoning, if it is separated from the answer
    offset: int = 0  # characters certain before this token, shown or not
    tool_calls: tuple[ToolCallDelta, ...] = ()  # what is new of the calls in the answer
    thinks: bool = False  # whether the token belongs to the reasoning
    stop_string: str | None = None  # with the last delta: the stop string that ended the answer


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
    tool_use: ToolUse | None = None  # the tools that the answer may call
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[Logprobs] = field(default_factory=list)
    prompt_logprobs: tuple[Logprobs, ...] | None = None
    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    error: str | None = None
    code: FinishCode | None = None
    tool_calls: list[ToolCallDelta] = field(default_factory=list)
    _stops: StopStrings = field(init=False)
    _calls: ToolCalls | None = None
    _certain: int = 0  # characters

    def __post_init__(self) -> None:
        self._stops = StopStrings(self.params.stop, include=self.params.include_stop_str_in_output)
        self._calls = None if self.tool_use is None else ToolCalls(self.tool_use)

    @classmethod
    def begin(cls, request_id: str, one: TokenizedRequest, tokenizer: Tokenizer | None, arrival: float) -> Answer:
        """The still empty answer of a request."""
        marks = () if one.tool_use is None else one.tool_use.form.marks
        marks += () if one.thinking is None else (BEGIN, END)
        skip = one.params.skip_special_tokens
        detokenizer = (
            tokenizer.detokenizer(one.ids, skip_special_tokens=skip, marks=marks, echo=one.echo) if tokenizer else None
        )
        ids = tokenizer.reasoning_ids if tokenizer else None
        split = None if one.thinking is None else Reasoning(open=one.thinking, marks=ids)
        return cls(request_id, one.index, one.choice, one.params, detokenizer, RequestMetrics(arrival), split, one.tool_use)

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
        thinks = self.split is not None and self.split.thinking
        reasoning, text = ("", text) if self.split is None else self.split.add(text, token.token)
        text, calls = self._without_calls(self._stops.add(text, early=self._early))
        self.text, self.reasoning = self.text + text, self.reasoning + reasoning
        return TextDelta(
            *(self.request_id, self.index, self.choice, token.token, text),
            logprobs=token.logprobs,
            prompt_logprobs=token.prompt_logprobs,
            reasoning=reasoning,
            offset=offset,
            tool_calls=calls,
            thinks=thinks or (self.split is not None and self.split.thinking),
        )

    def _without_calls(self, text: str, *, end: bool = False) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """Text of the answer, and what it says of calls; at the end also what was held back."""
        if self._calls is None:
            return text, ()
        text, calls = self._calls.add(text, end=end)
        self.tool_calls += calls
        return text, tuple(calls)

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
        rest, calls = self._without_calls(rest, end=True)
        self.text, self.reasoning = self.text + rest, self.reasoning + reasoning
        self.finish_reason = "stop" if self.stopped else finished.reason.value
        if self.finish_reason == "stop" and self.tool_calls:
            self.finish_reason = "tool_calls"
        self.error, self.code = finished.error, finished.code
        self.metrics = replace(self.metrics, finished=finished.at)
        ending = self.finish_reason, self.error, self.code
        return TextDelta(
            *(self.request_id, self.index, self.choice, None, rest, *ending),
            reasoning=reasoning,
            offset=self._certain,
            tool_calls=calls,
            stop_string=self._stops.found,
        )
