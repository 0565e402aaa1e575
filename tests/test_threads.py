"""Threads of the libraries: how they wait, and what a forked process is told instead of hanging."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from orcinus import LLM, SamplingParams
from orcinus.errors import ConfigError
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


FORKED = """
import os, sys
from orcinus import LLM, SamplingParams
from orcinus.errors import EngineError, OrcinusError

llm = LLM(dtype="float32")
params = SamplingParams(max_tokens=3, temperature=0, ignore_eos=True)
stream = llm.stream("Hi", params)
next(stream)
uses = {
    "generate": lambda: llm.generate("Hi", params),
    "chat": lambda: llm.chat([{"role": "user", "content": "Hi"}], params),
    "stream": lambda: list(llm.stream("Hi", params)),
    "go on": lambda: list(stream),
    "timeline": lambda: llm.timeline("r1"),
    "another": lambda: LLM(dtype="float32"),
}
pid = os.fork()
if pid == 0:
    for name, use in uses.items():
        try:
            use()
            print(name, "worked", flush=True)
        except EngineError as error:
            print(name, "spawn" in str(error), flush=True)
    llm.close()
    del llm, stream
    os._exit(7)
_, status = os.waitpid(pid, 0)
print("status", os.waitstatus_to_exitcode(status))
print("parent", len(list(stream)), len(llm.generate("Hi", params)[0].token_ids))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_of_a_process_with_an_engine_is_told_and_the_parent_goes_on() -> None:
    command = [sys.executable, "-c", FORKED]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    told = [f"{name} True" for name in ("generate", "chat", "stream", "go on", "timeline", "another")]
    assert done.stdout.splitlines() == [*told, "status 7", "parent 2 3"]


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
