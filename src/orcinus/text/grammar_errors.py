"""What llguidance's messages say, in one line and without its insides."""

from __future__ import annotations

import re

from orcinus.errors import shortened

REGEX_ERROR, INVALID_REGEX = re.compile(r"^\s*error: (.+)$", re.MULTILINE), re.compile(r'invalid regex (".*?")')
TOO_LARGE = "it is too large: shorten it"


def told(message: str) -> str:
    """What one of llguidance's messages says."""
    line = message.strip().partition("\n")[0]
    if reason := REGEX_ERROR.search(message):
        named = INVALID_REGEX.search(line)
        return f"invalid regex{' ' + _brief(named[1]) if named else ''}: {shortened(reason[1])}"
    if line.startswith("panic") or any(word in line for word in ("fuel", "limits.", "too large")):
        return TOO_LARGE
    if "serializable" in line:
        return "a number in it is too large"
    if "recursion" in line:
        return "it is nested too deeply"
    return shortened(line or "it cannot be compiled")


def _brief(pattern: str) -> str:
    return pattern if len(pattern) <= 60 else f'{pattern[:56]}..."'
