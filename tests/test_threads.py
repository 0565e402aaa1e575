"""Threads of the libraries: how they wait, and what a forked process is told instead of hanging."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import select
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from orcinus import LLM, SamplingParams
from orcinus.errors import ConfigError, EngineError
from tests.commands import ENVIRONMENT

ROOT = Path(__file__).parents[1]
SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
SHOWN = f"import sys, os, json; print(json.dumps([os.environ.get(name) for name in {SETTINGS}] + ['torch' in sys.modules]))"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, ["1000", None, "64"]),
        ({"OMP_WAIT_POLICY": "active"}, [None, "active", "64"]),
        ({"GOMP_SPINCOUNT": "7", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8"}, ["7", None, "8"]),
    ],
)
def test_the_module_sets_what_the_command_sets_before_torch_loads(given: dict[str, str], found: list[str | None]) -> None:
    plain = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    command = [sys.executable, "-c", f"import orcinus; {SHOWN}"]
    done = subprocess.run(command, capture_output=True, text=True, env=plain | given, check=True)
    assert json.loads(done.stdout) == [*found, False]


def told(uses: dict[str, Callable[[], object]]) -> dict[str, str]:
    """What each use of an engine comes to."""
    found = {}
    for name, use in uses.items():
        try:
            use()
            found[name] = "worked"
        except EngineError as error:
            found[name] = str(error)
    return found


def in_a_fork(call: Callable[[], dict[str, str]]) -> dict[str, str]:
    """What a fork of this process comes to, which ends at once."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads, which is the point
        pid = os.fork()
    if pid == 0:
        try:
            os.write(write, json.dumps(call()).encode())
        finally:
            os._exit(7)
    os.close(write)
    hangs = not select.select([read], [], [], 60)[0]
    if hangs:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    said = os.read(read, 65536)
    os.close(read)
    assert (hangs, os.waitstatus_to_exitcode(status)) == (False, 7)
    return dict(json.loads(said))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_of_a_process_with_an_engine_is_told_and_the_parent_goes_on() -> None:
    params = SamplingParams(max_tokens=3, temperature=0, ignore_eos=True)
    with LLM(dtype="float32") as llm:
        stream = llm.stream("Hi", params)
        next(stream)

        def use() -> dict[str, str]:
            found = told(
                {
                    "generate": lambda: llm.generate("Hi", params),
                    "chat": lambda: llm.chat([{"role": "user", "content": "Hi"}], params),
                    "stream": lambda: list(llm.stream("Hi", params)),
                    "go on": lambda: list(stream),
                    "timeline": lambda: llm.timeline("r1"),
                    "another": lambda: LLM(dtype="float32"),
                }
            )
            llm.close()
            return found

        found = in_a_fork(use)
        assert list(found) == ["generate", "chat", "stream", "go on", "timeline", "another"]
        assert all('multiprocessing.get_context("spawn")' in said for said in found.values()), found
        assert (len(list(stream)), len(llm.generate("Hi", params)[0].token_ids)) == (2, 3)


def answer(_: int) -> tuple[int, ...]:
    """In a process of a pool."""
    return LLM(dtype="float32").generate("Hi", SamplingParams(max_tokens=2, ignore_eos=True))[0].token_ids


def test_a_pool_of_spawned_processes_has_engines_of_its_own() -> None:
    with LLM(dtype="float32"), multiprocessing.get_context("spawn").Pool(1) as pool:
        assert len(pool.map(answer, [0])[0]) == 2


POOL_OF_FORKS = """
import multiprocessing
from orcinus import LLM, SamplingParams
from tests.test_threads import answer

llm = LLM(dtype="float32")
with multiprocessing.get_context("fork").Pool(1) as pool:
    pool.map(answer, [0])
"""


@pytest.mark.full
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_pool_of_forked_processes_is_told_to_spawn() -> None:
    command = [sys.executable, "-c", POOL_OF_FORKS]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert 'multiprocessing.get_context("spawn")' in done.stderr.splitlines()[-1]


def test_an_engine_is_not_sent_to_another_process() -> None:
    with LLM(dtype="float32") as llm, pytest.raises(ConfigError, match="make one there"):
        pickle.dumps(llm)
