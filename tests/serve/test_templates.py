"""A server whose model has a hostile chat template: it costs only the chat that meets it."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from orcinus.text.chat_template import TemplateRenderer
from tests.serve.conftest import Running
from tests.serve.in_process import serving_in_process
from tests.text.test_chat_template import hostile_model


def chat(server: Running, content: str, turns: int = 1) -> httpx.Response:
    messages = [{"role": "user", "content": content}] * turns
    return server.http.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 2}, timeout=60)


def test_hostile_templates_cost_one_chat_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orcinus.text.tokenizer.TemplateRenderer", partial(TemplateRenderer, limit_s=1.5))
    with serving_in_process(str(hostile_model(tmp_path))) as server:
        assert chat(server, "Hello").status_code == 200
        found: list[Any] = []
        spinning = [threading.Thread(target=lambda: found.append(chat(server, "spin", 9))) for _ in range(3)]
        for thread in spinning:
            thread.start()
        time.sleep(0.5)
        while any(thread.is_alive() for thread in spinning):
            answers = [chat(server, "Hello"), server.http.get("/health"), chat(server, "huge")]
            assert [answer.status_code for answer in answers] == [200, 200, 400]
            error = answers[2].json()["error"]
            assert error["message"] == "messages: the model's chat template needs more than 512 MiB for this conversation"
            assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "messages", "invalid_value")
        for thread in spinning:
            thread.join()
        assert [answer.status_code for answer in found] == [400] * 3
        assert all("takes longer than 1.5 s" in answer.json()["error"]["message"] for answer in found)
        assert chat(server, "Hello").status_code == 200
        assert server.idle()
