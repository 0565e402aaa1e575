"""The tools that an answer may call, and its calls."""

from __future__ import annotations

from dataclasses import dataclass

from orcinus.text.tools.tool_call import Tool, ToolCallDelta, ToolForm


@dataclass(frozen=True, slots=True)
class ToolUse:
    """Tools, and the form in which the model calls them.

    Without `parallel` an answer has at most one call. If a call is `forced`, the whole answer is calls.
    """

    form: ToolForm
    tools: tuple[Tool, ...]
    parallel: bool = True
    forced: bool = False


class ToolCalls:
    """Finds the calls in the text of one answer."""

    def __init__(self, use: ToolUse) -> None:
        self._parser, self._use = use.form.parser(use.tools), use

    def add(self, text: str, *, end: bool = False) -> tuple[str, list[ToolCallDelta]]:
        """Add text; returns the text without calls, and their deltas.

        At the `end`, nothing is held back.
        """
        content, calls = self._parser.add(text)
        if end:
            rest, more = self._parser.finish()
            content, calls = content + rest, [*calls, *more]
        if not self._use.parallel:
            calls = [call for call in calls if call.index == 0]
        return "" if self._use.forced else content, calls  # of forced calls, text is marks of one that was cut
