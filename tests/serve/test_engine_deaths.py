"""Engines that die under load, real processes: their streams go on as if nothing had happened. `make chaos` is longer."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orcinus.serve.computing_file import read_computing
from orcinus.socket_folder import COMPUTING
from tests.chaos import bodies, engine_pids, storm
from tests.engine_processes import engine_processes
from tests.serve.conftest import Running, serving
from tests.waiting import wait_until


def computing_files(server: Running) -> list[tuple[int, Path]]:
    """The file of each engine that says what it computes."""
    return [
        (engine.pid, Path(engine.address.removeprefix("ipc://")).parent / COMPUTING)
        for engine in engine_processes(server.process.pid)
    ]


def kill_whatever_computes(name: str, server: Running, found: threading.Event) -> int:
    """Kill each engine that computes a request, until it is found out; returns how many died."""
    killed = set[int]()
    while not found.wait(0.0005):
        for pid, computing in computing_files(server):
            if pid not in killed and name in (read_computing(computing) or ()):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
    return len(killed)


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
@pytest.mark.parametrize("more", [(), ("--replicas", "2")])
def test_a_request_under_which_every_engine_dies_is_found_and_fails_alone(more: tuple[str, ...]) -> None:
    body, found = {"max_tokens": 200, "ignore_eos": True}, threading.Event()
    with serving("--simulate", "llama-7b", *more) as server, ThreadPoolExecutor(6) as pool:
        good = [pool.submit(server.http.post, "/v1/completions", json=body | {"prompt": f"good {place}"}) for place in range(4)]
        with server.http.stream("POST", "/v1/completions", json=body | {"prompt": "poison", "stream": True}) as answer:
            killer = pool.submit(kill_whatever_computes, f"{answer.headers['x-response-id']}-0", server, found)
            frames = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {")]
        found.set()
        assert frames[-1]["error"]["code"] == "engines_died"
        assert [one.result().json()["usage"]["completion_tokens"] for one in good] == [200] * 4
        assert 4 <= killer.result() <= 6, "twice among others and twice alone, and more if a neighbour was suspected first"


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
