"""Replies of `POST /v1/completions`."""

from __future__ import annotations

from typing import Any, ClassVar

from orcinus.serve.answers import ChoiceDelta
from orcinus.serve.dialects.openai_reply import OpenAIReply


class CompletionReply(OpenAIReply):
    """Texts; facts about its prompt stand in each choice."""

    kind: ClassVar[str] = "text_completion"
    frame_kind: ClassVar[str] = "text_completion"

    def _whole(self, choices: list[ChoiceDelta]) -> dict[str, Any]:
        return {"choices": [self.choice(one) | self._about_prompt(one) for one in choices]}

    def _part(self, delta: ChoiceDelta, *, first: bool) -> dict[str, Any]:
        return {"choices": [self.choice(delta) | (self._about_prompt(delta) if first else {})]}

    def choice(self, delta: ChoiceDelta) -> dict[str, Any]:
        """An answer, or a part of one."""
        logprobs = self.writer.completion(delta.scores) if delta.scores else None
        return self._choice(delta, {"text": delta.content}, logprobs)
