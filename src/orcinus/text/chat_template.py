"""Renders chat templates in a process that can be killed (ADR 23)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orcinus.errors import RequestError, shortened
from orcinus.text import template_process as child
from orcinus.text.bounded_process import BoundedProcesses, ProcessEnded, ProcessLimits

RENDER_S = 5.0  # most seconds of one rendering
RENDER_BYTES = 512 * 2**20  # most memory of one rendering
MOST_PROCESSES = 4  # renderings at once
REASONING = ("reasoning_content", "thinking", "reasoning")  # names of a message's reasoning; templates read the first


class TemplateRenderer:
    """Renders chat templates in processes, started on demand and kept.

    May be used from several threads; a thread waits while `MOST_PROCESSES` others render. Errors are `RequestError`s.
    """

    def __init__(self, limit_s: float = RENDER_S) -> None:
        limits = ProcessLimits(limit_s, RENDER_BYTES, 4 * child.MOST_CHARACTERS, MOST_PROCESSES)
        self.processes = BoundedProcesses(child.__name__, limits, last=(child.TOO_LARGE,))

    def render(self, template: str, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """The text of a conversation.

        `variables` are what the template may read besides `messages`.
        """
        given = {"tools": None, "documents": None, **variables, "messages": [_message(one) for one in messages]}
        try:
            request = json.dumps({"template": template, "variables": given}).encode()
        except (TypeError, ValueError, RecursionError):
            raise RequestError("messages must be made of text, numbers, lists and dictionaries, as JSON has them") from None
        try:
            status, text = self.processes.ask(request)
        except ProcessEnded as end:
            raise RequestError(self._told(end)) from None
        if status == child.TEXT:
            return text
        raise RequestError(_problem(status, text))

    def _told(self, end: ProcessEnded) -> str:
        if not end.started:
            return f"the process of the model's chat template does not start (status {end.status})"
        if end.took_too_long:
            seconds = self.processes.limits.seconds
            return f"the model's chat template takes longer than {seconds:g} s for this conversation: shorten it"
        return f"the process of the model's chat template ended (status {end.status}): send the conversation again"


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as templates expect it: no None, known reasoning names."""
    found = {name: value for name, value in message.items() if value is not None}
    reasoning = next((found[name] for name in REASONING if name in found), None)
    return found if reasoning is None else {"thinking": reasoning, **found, "reasoning_content": reasoning}


def _problem(status: int, text: str) -> str:
    if status == child.REFUSED:
        return f"the model's chat template refuses this conversation: {shortened(text)}"
    if status == child.TOO_LONG:
        return f"the model's chat template makes more than {child.MOST_CHARACTERS} characters of this conversation"
    if status == child.TOO_LARGE:
        return f"the model's chat template needs more than {RENDER_BYTES // 2**20} MiB for this conversation"
    return "the model's chat template cannot take this conversation"
