"""Keys and prompts: where they are, and where they never are."""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orcinus.parent import python_module
from orcinus.serve import engine_process
from orcinus.serve.engine_process import EngineProcess
from orcinus.serve.replica_spec import ReplicaSpec
from orcinus.sim.live_config import LiveConfig
from tests.serve.conftest import Running
from tests.serve.in_process import serving_in_process
from tests.waiting import wait_until

KEY, ADMIN, PROMPT = "key-abcdefgh", "key-for-admins", "The password is swordfish."


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "keys").write_text(KEY)
    (folder / "admins").write_text(ADMIN)
    return {name: folder / name for name in ("keys", "admins", "log")}


@pytest.fixture(scope="module")
def guarded(files: dict[str, Path]) -> Iterator[Running]:
    more = "--api-key-file", str(files["keys"]), "--admin-key-file", str(files["admins"]), "--access-log", str(files["log"])
    with serving_in_process("--simulate", "llama-7b", "--speed", "100", *more) as running:
        yield running


def ask(server: Running, key: str, **fields: Any) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 2} | fields
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"})


def test_logs_hold_no_prompt_and_no_key(guarded: Running, files: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    statuses = [
        ask(guarded, KEY).status_code,
        ask(guarded, KEY, temperature="hot").status_code,
        ask(guarded, KEY, messages=[{"role": PROMPT, "content": PROMPT}]).status_code,
        ask(guarded, KEY, stop=[PROMPT] * 99).status_code,
        ask(guarded, KEY + "x").status_code,
        httpx.get(f"{guarded.url}/v1/requests/nope/timeline", headers={"X-API-Key": KEY}).status_code,
    ]
    assert statuses == [200, 400, 400, 400, 401, 404]
    wait_until(lambda: len(files["log"].read_text().splitlines()) == len(statuses))  # a line comes after its answer
    for text in (files["log"].read_text(), caplog.text):
        assert "swordfish" not in text
        assert KEY not in text


def test_a_server_shows_a_stranger_nothing_but_that_it_lives(guarded: Running) -> None:
    answer = httpx.get(f"{guarded.url}/health")
    assert answer.json() == {"status": "ok"}
    assert "server" not in answer.headers
    refused = httpx.get(f"{guarded.url}/v1/models")
    assert refused.status_code == 401
    assert "orcinus" not in refused.text.lower()
    assert "llama" not in refused.text


def test_no_key_reaches_the_processes_of_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCINUS_API_KEY", KEY)
    monkeypatch.setenv("ORCINUS_ADMIN_KEY", ADMIN)
    monkeypatch.setenv("USUAL", "here")
    started = list[tuple[list[str], dict[str, str]]]()

    def popen(command: list[str], env: dict[str, str], **_: Any) -> None:
        started.append((command, env))
        raise InterruptedError

    monkeypatch.setattr(engine_process.subprocess, "Popen", popen)
    with pytest.raises(InterruptedError):
        EngineProcess(ReplicaSpec(LiveConfig(model="llama-7b")), "ipc:///nowhere")
    ((command, environment),) = started
    assert environment["USUAL"] == "here"
    assert KEY not in json.dumps([command, environment])
    assert ADMIN not in json.dumps([command, environment])


def test_children_see_neither_the_current_folder_nor_less_than_they_need(tmp_path: Path) -> None:
    code = tmp_path / "shown.py"
    code.write_text("raise SystemExit(7)")
    done = subprocess.run(python_module("shown"), cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"No module named shown" in done.stderr
