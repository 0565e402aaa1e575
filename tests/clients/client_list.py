"""The clients of `make conformance`: what runs them, where they are installed, and in which version."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
VENVS = ROOT / ".venv-clients"
SUITE = VENVS / "json_schema" / "jsonschema-4.26.0.tar.gz"
MODULES = HERE / "node" / "node_modules"


@dataclass(frozen=True)
class Client:
    """One script, and what must exist for it."""

    name: str
    command: tuple[str, ...]
    needs: str
    title: str = ""  # its name in the table of clients and features; none: it has no row
    version: str = ""


def pinned(requirements: str, package: str) -> str:
    """The version of a package in a requirements file. Raises `LookupError` if it is not there."""
    text = (HERE / f"requirements-{requirements}.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(package)}==(\S+)$", text, re.MULTILINE)
    if not found:
        raise LookupError(f"{package} is not in requirements-{requirements}.txt")
    return found[1]


def script(name: str, title: str = "", package: str = "", venv: str | None = None) -> Client:
    """A Python script, and the environment it runs in."""
    home = venv or name
    python = str(VENVS / home / "bin" / "python")
    version = pinned(home, package or title) if title else ""
    command = (python, "-E", str(HERE / f"use_{name}.py"))  # -E: what we find must not hide what it lacks
    return Client(name, command, python, title, version)


def library(name: str) -> Client:
    """A script of this environment, which is told where a library is installed."""
    home = str(VENVS / name)
    return Client(name, (sys.executable, str(HERE / f"use_{name}.py"), home), home)


def node_script(name: str, title: str, package: str) -> Client:
    """A script for node."""
    versions = json.loads((HERE / "node" / "package.json").read_text(encoding="utf-8"))["dependencies"]
    return Client(name, ("node", str(HERE / "node" / f"use_{name}.mjs")), str(MODULES / package), title, versions[package])


CLIENTS = [
    script("openai", "openai (Python)", "openai"),
    node_script("openai_node", "openai (npm)", "openai"),
    script("openai_agents", "openai-agents"),
    script("anthropic", "anthropic (Python)", "anthropic"),
    script("litellm", "litellm", venv="openai"),
    script("langchain", "LangChain (langchain-openai)", "langchain-openai", venv="openai"),
    node_script("ai_sdk", "AI SDK (ai)", "ai"),
    script("llm", "llm"),
    script("instructor", "instructor"),
    script("dspy", "dspy"),
    script("pydantic_ai", "pydantic-ai", "pydantic-ai-slim"),
    script("smolagents", "smolagents"),
    script("aider", "aider", "aider-chat"),
    script("lm_eval"),
    Client("json_schema", (sys.executable, str(HERE / "use_json_schema.py"), str(SUITE)), str(SUITE)),
    library("gguf"),
    library("compressed_tensors"),
    script("browser"),
    script("guidellm"),
    script("aiperf"),
    script("schemathesis"),  # last, for it leaves the scheduler with limits of its own
]
