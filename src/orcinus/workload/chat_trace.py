"""Conversations in ShareGPT's form, without times and token counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orcinus.workload.arrival import Arrival
from orcinus.workload.file_position import FilePosition
from orcinus.workload.token_counts import CountTokens

MODELS = {"gpt", "chatgpt", "bing", "bard", "assistant", "model"}  # roles that answer; all others ask


def read_chat(place: FilePosition, conversation: Any, count_tokens: CountTokens) -> list[Arrival]:
    """A request for every answer; its prompt is the conversation so far.

    The turns of a conversation share their beginnings. Empty questions and answers are left out. All requests arrive at 0.
    Raises `ConfigError`.
    """
    prompt, found = 0, []
    for speaker, text in _turns(place, conversation):
        tokens = count_tokens(text)
        if speaker in MODELS and prompt and tokens:
            found.append(Arrival(0.0, prompt, tokens, prefix=f"conversation-{place.line}", prefix_tokens=prompt))
        prompt += tokens
    return found


def _turns(place: FilePosition, conversation: Any) -> Iterator[tuple[str, str]]:
    turns = conversation.get("conversations") if isinstance(conversation, dict) else None
    if not isinstance(turns, list):
        raise place.wrong("it has no list of conversations")
    for turn in turns:
        speaker, text = (turn.get("from"), turn.get("value")) if isinstance(turn, dict) else (None, None)
        if not isinstance(speaker, str) or not isinstance(text, str):
            raise place.wrong("a turn needs texts as from and value")
        yield speaker, place.text(text)
