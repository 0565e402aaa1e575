"""guidellm: a small benchmark of chats and of completions. Its torch is the one that Orcinus has (ORCINUS_SITE)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from report import MODEL, MODEL_DIR, URL, check, leave

COMMAND = "import os, sys; sys.path.append(os.environ['ORCINUS_SITE']); from guidellm.__main__ import cli; cli()"
REQUESTS, TOKENS = 8, 16


def benchmark(path: str) -> None:
    """Raises `AssertionError` unless every request is answered with as many tokens as were asked for."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [sys.executable, "-c", COMMAND, "run", "--disable-console"]
        command += ["--backend", f"kind=openai_http,target={URL},model={MODEL},request_format={path}"]
        command += ["--profile", "kind=concurrent,streams=2", "--constraint", f"kind=max_requests,count={REQUESTS}"]
        command += ["--tokenizer", f"kind=huggingface_auto,model={MODEL_DIR}", "--output", f"kind=json,path={out}"]
        command += ["--data", f"kind=synthetic_text,prompt_tokens=32,output_tokens={TOKENS}"]
        offline = {"HF_HUB_OFFLINE": "1", "GUIDELLM__LOGGING__CONSOLE_LOG_LEVEL": "ERROR"}
        done = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True, timeout=180, check=False)
        assert out.exists(), done.stderr[-300:] or done.stdout[-300:]
        (one,) = json.loads(out.read_text(encoding="utf-8"))["benchmarks"]
    totals, counted = one["metrics"]["request_totals"], one["metrics"]["output_token_count"]["successful"]
    assert totals["successful"] == REQUESTS, totals
    assert counted["mean"] == TOKENS, counted["mean"]


@check("a benchmark of chats")
def chats() -> None:
    benchmark("/v1/chat/completions")


@check("a benchmark of completions")
def completions() -> None:
    benchmark("/v1/completions")


leave()
