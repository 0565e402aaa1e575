"""The model list as Codex reads it: what an agent must know about a model."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

# Codex takes these instead of its own, which are many thousand tokens for a small model.
INSTRUCTIONS = (
    "You are a coding agent in a terminal on the user's machine. Read the files that matter before you change them. Make small"
    " changes, run what checks them, and repair what fails. Use only the tools that you are given, with arguments as their"
    " schemas say. When the task is done, say briefly what you changed. Ask the user when a decision is theirs."
)


class TruncationPolicy(BaseModel):
    """How much of a tool's output Codex sends."""

    model_config = ConfigDict(extra="forbid")
    mode: str
    limit: int


class CodexModel(BaseModel):
    """An entry of `models`. Codex rejects the whole list if one of these fields is missing."""

    model_config = ConfigDict(extra="forbid")
    slug: str
    display_name: str
    description: str | None
    default_reasoning_level: str | None
    supported_reasoning_levels: list[dict[str, str]]
    shell_type: str
    visibility: str
    supported_in_api: bool
    priority: int
    upgrade: dict[str, str] | None
    base_instructions: str
    supports_reasoning_summaries: bool
    support_verbosity: bool
    default_verbosity: str | None
    apply_patch_tool_type: str | None
    truncation_policy: TruncationPolicy
    supports_parallel_tool_calls: bool
    supports_search_tool: bool
    context_window: int
    max_context_window: int
    effective_context_window_percent: int
    experimental_supported_tools: list[str]
    input_modalities: list[str]


def codex_model(name: str, context: int) -> dict[str, Any]:
    """The served model for Codex; `context` is in tokens."""
    return {
        "slug": name,
        "display_name": name,
        "description": "served by Orcinus",
        "default_reasoning_level": None,
        "supported_reasoning_levels": [],
        "shell_type": "shell_command",
        "visibility": "list",
        "supported_in_api": True,
        "priority": 0,
        "upgrade": None,
        "base_instructions": INSTRUCTIONS,
        "supports_reasoning_summaries": True,  # without it, Codex does not send reasoning back
        "support_verbosity": False,
        "default_verbosity": None,
        "apply_patch_tool_type": None,  # files change through the shell
        "truncation_policy": {"mode": "tokens", "limit": max(256, min(10_000, context // 8))},
        "supports_parallel_tool_calls": True,
        "supports_search_tool": False,
        "context_window": context,
        "max_context_window": context,
        "effective_context_window_percent": 95,
        "experimental_supported_tools": [],
        "input_modalities": ["text"],
    }
