"""Engines that die under load, real processes: their streams go on as if nothing had happened. `make chaos` is longer."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tests.chaos import bodies, engine_pids, storm
from tests.serve.conftest import Running, serving
from tests.waiting import wait_until


def check(server: Running, *, clients: int, kills: int, simulated: bool) -> None:
    found = asyncio.run(storm(server, bodies(clients, simulated=simulated, tokens=100), kills))
    assert found.wrong == []
    assert (len(found.kills), found.streams >= clients) == (kills, True)
    assert server.idle()
    assert (server.http.get("/health").json(), server.http.get("/ready").status_code) == ({"status": "ok"}, 200)


def test_streams_go_on_when_the_engine_is_killed_and_killed_again() -> None:
    with serving("--simulate", "llama-7b") as server:
        check(server, clients=6, kills=2, simulated=True)
        server.process.send_signal(signal.SIGTERM)
        said = server.process.communicate()[1].splitlines()
        assert [line.split(" ")[:4] for line in said] == [
            ["the", "engine", "is", "gone:"],
            ["the", "engine", "serves", "again"],
        ] * 2
        assert server.process.returncode == 0


@pytest.mark.full
@pytest.mark.parametrize("more", [(), ("--replicas", "2"), ("--kv", "prefix-cache"), ("--max-batch-tokens", "24")])
def test_so_do_those_of_a_real_model(more: tuple[str, ...]) -> None:
    with serving("--deterministic", *more) as server:
        check(server, clients=14, kills=3, simulated=False)


@pytest.mark.full
def test_the_ranks_of_a_mesh_go_with_their_engine_and_come_back_with_the_next() -> None:
    """Greedy alone: sums over ranks may end a sampled near tie otherwise."""
    with serving("--tp", "2") as server:
        wanted = [body for body in bodies(14, simulated=False, tokens=60) if body["temperature"] == 0]
        found = asyncio.run(storm(server, wanted, 1))
        assert (found.wrong, server.idle()) == ([], True)


@pytest.mark.full
def test_an_engine_that_hangs_is_replaced_after_the_watchdogs_time() -> None:
    with serving("--simulate", "llama-7b", "--watchdog", "5") as server:
        (hangs,) = engine_pids(server)
        os.kill(hangs, signal.SIGSTOP)
        body = {"prompt": "Once", "max_tokens": 5, "ignore_eos": True}
        assert server.http.post("/v1/completions", json=body).json()["usage"]["completion_tokens"] == 5
        wait_until(lambda: engine_pids(server) not in ([], [hangs]))
        assert server.idle()
