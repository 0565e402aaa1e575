"""Replies of `POST /v1/chat/completions`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from orcinus.serve.answers import Answers, ChoiceDelta
from orcinus.serve.dialects.chat_tools import ChatCalls
from orcinus.serve.dialects.openai_reply import OpenAIReply
from orcinus.serve.dialects.reply import ServedModel
from orcinus.serve.schema import ChatBody
from orcinus.serve.streams import PromptRead


class ChatReply(OpenAIReply):
    """Messages of the assistant; facts about the prompt stand beside the choices."""

    kind: ClassVar[str] = "chat.completion"
    frame_kind: ClassVar[str] = "chat.completion.chunk"

    def __init__(self, answers: Answers, served: ServedModel, body: ChatBody, warnings: Sequence[str] = ()) -> None:
        super().__init__(answers, served, body)
        self.with_reasoning = body.include_reasoning is not False
        self.calls, self.warnings = ChatCalls.of(body), list(warnings)

    def _whole(self, choices: list[ChoiceDelta]) -> dict[str, Any]:
        return {"choices": [self.choice(one) for one in choices], **self._about_request(choices[0])}

    def _about_request(self, delta: ChoiceDelta) -> dict[str, Any]:
        """Facts about the prompt, and what of the request is not enforced."""
        return self._about_prompt(delta) | ({"warnings": self.warnings} if self.warnings else {})

    def choice(self, delta: ChoiceDelta) -> dict[str, Any]:
        """A whole answer. An answer of calls alone has no content."""
        calls = self.calls.whole(delta)
        content = None if calls and not delta.content else delta.content
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if delta.reasoning and self.with_reasoning:
            message["reasoning_content"] = delta.reasoning
        if calls:
            message["tool_calls"] = calls
        return self._choice(delta, {"message": message}, self._logprobs(delta))

    def _event(self, fresh: ChoiceDelta | PromptRead) -> bytes:
        return super()._event(self.calls.decoded(fresh) if isinstance(fresh, ChoiceDelta) else fresh)

    def _part(self, delta: ChoiceDelta, *, first: bool) -> dict[str, Any]:
        choice = self._choice(delta, {"delta": self._fresh(delta, first=first)}, self._logprobs(delta))
        return {"choices": [choice], **(self._about_request(delta) if first else {})}

    def _fresh(self, delta: ChoiceDelta, *, first: bool) -> dict[str, Any]:
        """What is new of a message."""
        found: dict[str, Any] = {"role": "assistant"} if first else {}
        reasoning = delta.reasoning if self.with_reasoning else ""
        if delta.content or not (reasoning or delta.tool_calls or delta.finish_reason == "tool_calls"):
            found["content"] = delta.content
        elif first and delta.tool_calls:
            found["content"] = None
        if reasoning:
            found["reasoning_content"] = reasoning
        if delta.tool_calls:
            found["tool_calls"] = self.calls.parts(delta)
        return found

    def _says_something(self, delta: ChoiceDelta) -> bool:
        hidden = delta.reasoning and not self.with_reasoning
        others = delta.content or delta.tool_calls or delta.scores or delta.finish_reason
        return bool(others) if hidden else delta.says_something

    def _logprobs(self, delta: ChoiceDelta) -> dict[str, Any] | None:
        return self.writer.chat(delta.scores) if delta.scores else None
