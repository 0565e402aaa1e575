"""Counts an answer's tokens, with their times as far as known."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

from orcinus.bench.client.frames import Frame
from orcinus.bench.requests import DIGITS, hash_tokens

Known = Literal["token ids", "continuous usage", "final usage", "nothing"]
MOST_TOKENS = 10_000_000  # a larger count cannot be that of one answer


@dataclass(slots=True)
class Tally:
    """What the frames of one answer said so far.

    Frames are not tokens: a server may send several tokens in one. Tokens are counted by their ids if every frame with text
    has ids; else by the running count if every frame with text has one and most of them raise it. Otherwise only the frames
    have times. A count that does not rise while text comes is ignored.
    """

    prompt_tokens: int | None = None
    counted: int | None = None  # by the server
    cached_tokens: int | None = None  # of the prompt, as the server says
    ended: bool = False  # a finish_reason was there
    ids: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    _by_ids: list[float] = field(default_factory=list)
    _by_count: list[float] = field(default_factory=list)
    _by_frames: list[float] = field(default_factory=list)
    _ids_everywhere: bool = True
    _counts_everywhere: bool = True
    _rises: int = 0  # frames with text that raised the count
    _count_at_text: int = 0  # at the last frame with text

    def add(self, frame: Frame, at: float) -> None:
        """Count a frame that came at `at`. Raises `ValueError` if impossible."""
        usage = frame.usage
        if usage is not None:
            self._count(usage.prompt_tokens, usage.completion_tokens, at)
            self.cached_tokens = self.cached_tokens if usage.cached_tokens is None else usage.cached_tokens
        for choice in frame.choices or ():
            ids, said = choice.token_ids, choice.says()
            self.ended = self.ended or choice.finish_reason is not None
            if ids:
                self.ids += ids
                self._by_ids += [at] * len(ids)
            if said:
                self.texts.append(said)
                self._by_frames.append(at)
                self._ids_everywhere = self._ids_everywhere and ids is not None
                self._counts_everywhere = self._counts_everywhere and usage is not None and bool(self.counted)
                self._rises += (self.counted or 0) > self._count_at_text
                self._count_at_text = self.counted or 0

    def _count(self, prompt: int | None, completion: int | None, at: float) -> None:
        if prompt is not None:
            self.prompt_tokens = prompt
        if completion is not None:
            if completion > MOST_TOKENS:
                raise ValueError(f"{completion} tokens")
            self._by_count += [at] * (completion - len(self._by_count))
            self.counted = max(completion, self.counted or 0)

    @property
    def known_by(self) -> Known:
        """The source of the number of tokens."""
        if self.ids and self._ids_everywhere:
            return "token ids"
        if self.counted is None or self._stands_still:
            return "nothing"
        return "continuous usage" if self._counts_everywhere and 2 * self._rises > len(self._by_frames) else "final usage"

    @property
    def _stands_still(self) -> bool:
        """Whether the count never rose though text came."""
        frames = len(self._by_frames)
        once = self._counts_everywhere and self._rises == 1 and self.counted == self._count_at_text
        return (frames > 0 and not self.counted) or (frames > 2 and once)

    @property
    def output_tokens(self) -> int | None:
        """The number of tokens in the answer; None if unknown."""
        known = self.known_by
        return len(self.ids) if known == "token ids" else None if known == "nothing" else self.counted

    @property
    def timed(self) -> Literal["tokens", "frames"]:
        """Whether `times` are those of tokens or of frames."""
        return "tokens" if self.known_by in ("token ids", "continuous usage") else "frames"

    @property
    def times(self) -> list[float]:
        """One time in seconds per token, or per frame with text."""
        known = self.known_by
        if known == "token ids":
            return self._by_ids
        return self._by_count if known == "continuous usage" else self._by_frames

    def output(self) -> str:
        """Hash of the token ids, or else of the text.

        "" for an empty answer.
        """
        if self.ids:
            return hash_tokens(self.ids)
        text = "".join(self.texts)
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:DIGITS] if text else ""
