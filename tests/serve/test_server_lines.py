"""What a server says on its terminal while its model is loading."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from orcinus.serve import server
from orcinus.serve.messages import Loading


def test_a_long_loading_is_told_until_it_is_over(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(server, "LOADING_S", 0.02)
    service = SimpleNamespace(loaded=False, replicas=SimpleNamespace(loading=Loading("weights", 30, 100)))

    async def scenario() -> None:
        telling = asyncio.create_task(server._tell_of_loading(service))  # type: ignore[arg-type]
        await asyncio.sleep(0.1)
        service.replicas.loading = Loading("warm-up", 0, 0)
        await asyncio.sleep(0.1)
        service.loaded = True
        await asyncio.wait_for(telling, 5)

    asyncio.run(scenario())
    lines = list(dict.fromkeys(capsys.readouterr().err.splitlines()))
    assert lines == ["loading for 0 s: weights 30 %", "loading for 0 s: warm-up"]


def test_a_short_loading_is_not_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(server, "LOADING_S", 0.02)
    asyncio.run(server._tell_of_loading(SimpleNamespace(loaded=True)))  # type: ignore[arg-type]
    assert capsys.readouterr().err == ""
