"""Conversations as a JSON list, as ShareGPT has them. There are no times in it, and no token counts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from orcinus.workload.arrival import Arrival
from orcinus.workload.place import Place

CountTokens = Callable[[str], int]
MODELS = {"gpt", "chatgpt", "bing", "bard", "assistant", "model"}  # who answers; everybody else asks


def estimate_tokens(text: str) -> int:
    """About one token for four characters, which is near the truth for English and far from it for Chinese."""
    return math.ceil(len(text) / 4)


def read_chats(place: Place, file: TextIO, count_tokens: CountTokens) -> Iterator[Arrival]:
    """One request for every answer, whose prompt is the conversation so far, without the words of a chat template.

    The turns of a conversation share their beginnings. Empty questions and answers are left out. All arrive at 0. The
    whole file is in memory while it is read, as JSON has no lines. Raises `ConfigError`.
    """
    try:
        conversations = json.load(file)
    except (ValueError, RecursionError) as error:
        place.line = getattr(error, "lineno", 1)
        raise place.wrong("it is no JSON: was the file cut short?") from None
    place.unit = "conversation"
    for place.line, conversation in enumerate(conversations, 1):
        prompt = 0
        for speaker, text in _turns(place, conversation):
            tokens = count_tokens(text)
            if speaker in MODELS and prompt and tokens:
                yield Arrival(0.0, prompt, tokens, prefix=f"conversation-{place.line}", prefix_tokens=prompt)
            prompt += tokens


def _turns(place: Place, conversation: Any) -> Iterator[tuple[str, str]]:
    turns = conversation.get("conversations") if isinstance(conversation, dict) else None
    if not isinstance(turns, list):
        raise place.wrong("it has no list of conversations")
    for turn in turns:
        speaker, text = (turn.get("from"), turn.get("value")) if isinstance(turn, dict) else (None, None)
        if not isinstance(speaker, str) or not isinstance(text, str):
            raise place.wrong("a turn needs texts as from and value")
        yield speaker, text
