"""aider: questions about a folder, whole and streamed, by its command."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from report import BASE, MODEL, check, leave

HOME = tempfile.TemporaryDirectory()
SITE = "import sys; from aider.main import main; sys.exit(main())"
OFFLINE = (
    "--no-check-update",
    "--analytics-disable",
    "--no-show-model-warnings",
    "--no-detect-urls",
    "--no-show-release-notes",
)
PLAIN = ("--no-git", "--no-pretty", "--yes-always", "--map-tokens", "0", "--no-suggest-shell-commands")


def ask(*options: str, message: str = "Hi") -> str:
    """What aider prints for a question."""
    line = [sys.executable, "-c", SITE, "--model", f"openai/{MODEL}", "--chat-mode", "ask", *OFFLINE, *PLAIN, *options]
    environment = os.environ | {
        "HOME": HOME.name,
        "OPENAI_API_BASE": BASE,
        "OPENAI_API_KEY": "none",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    done = subprocess.run(
        [*line, "--message", message], env=environment, cwd=HOME.name, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-300:]
    assert "litellm." not in done.stdout, done.stdout[-300:]  # which begins the names of errors
    assert "Tokens:" in done.stdout, done.stdout[-300:]
    return done.stdout


@check("a question, answered whole", "chat")
def whole() -> None:
    assert "received" in ask("--no-stream")


@check("a question about a file, streamed", "stream")
def streamed() -> None:
    Path(HOME.name, "hello.py").write_text("print('hello')\n", encoding="utf-8")
    assert "received" in ask("--stream", "hello.py")


HOME.cleanup()
leave()
