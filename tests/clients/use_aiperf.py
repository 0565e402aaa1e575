"""aiperf: a small benchmark of chats and of completions, streamed and not, with the server's metrics."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from report import MODEL, MODEL_DIR, URL, check, leave

REQUESTS, TOKENS = 8, 16


def profile(kind: str, *more: str) -> Path:
    """The folder of a run's results. Raises `AssertionError` unless every request was answered in full."""
    folder = Path(tempfile.mkdtemp())
    command = [str(Path(sys.executable).parent / "aiperf"), "profile", "--model", MODEL, "--url", URL, "--endpoint-type", kind]
    command += ["--tokenizer", MODEL_DIR, "--request-count", str(REQUESTS), "--concurrency", "2", "--ui", "none"]
    command += ["--isl", "32", "--osl", str(TOKENS), "--extra-inputs", "ignore_eos:true", "--artifact-dir", str(folder), *more]
    command += ["--use-server-token-count"]  # a text cut into tokens again may have fewer
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    results = folder / "profile_export_aiperf.json"
    assert results.exists(), " ".join(done.stdout.split())[-400:]
    found = json.loads(results.read_text(encoding="utf-8"))
    assert found["request_count"]["avg"] == REQUESTS, found["request_count"]
    assert found["output_sequence_length"]["avg"] == TOKENS, found["output_sequence_length"]
    return folder


@check("streamed chats, and the server's metrics are collected")
def chats() -> None:
    folder = profile("chat", "--streaming")
    found = [file for file in folder.glob("server_metrics*") if file.stat().st_size]
    assert found, f"no server_metrics among {sorted(file.name for file in folder.iterdir())}"


@check("whole chats")
def whole_chats() -> None:
    profile("chat")


@check("streamed completions")
def completions() -> None:
    profile("completions", "--streaming")


leave()
