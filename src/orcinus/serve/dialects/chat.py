"""Replies of `POST /v1/chat/completions`."""

from __future__ import annotations

from typing import Any, ClassVar

from orcinus.serve.answers import ChoiceDelta
from orcinus.serve.dialects.openai_reply import OpenAIReply


class ChatReply(OpenAIReply):
    """Messages of the assistant; facts about the prompt stand beside the choices."""

    kind: ClassVar[str] = "chat.completion"
    frame_kind: ClassVar[str] = "chat.completion.chunk"

    def _whole(self, choices: list[ChoiceDelta]) -> dict[str, Any]:
        return {"choices": [self.choice(one) for one in choices], **self._about_prompt(choices[0])}

    def choice(self, delta: ChoiceDelta) -> dict[str, Any]:
        """A whole answer."""
        message = {"role": "assistant", "content": delta.content, "refusal": None}
        if delta.reasoning:
            message["reasoning_content"] = delta.reasoning
        return self._choice(delta, {"message": message}, self._logprobs(delta))

    def _part(self, delta: ChoiceDelta, *, first: bool) -> dict[str, Any]:
        fresh: dict[str, Any] = {"role": "assistant"} if first else {}
        if delta.content or not delta.reasoning:
            fresh["content"] = delta.content
        if delta.reasoning:
            fresh["reasoning_content"] = delta.reasoning
        choice = self._choice(delta, {"delta": fresh}, self._logprobs(delta))
        return {"choices": [choice], **(self._about_prompt(delta) if first else {})}

    def _logprobs(self, delta: ChoiceDelta) -> dict[str, Any] | None:
        return self.writer.chat(delta.scores) if delta.scores else None
