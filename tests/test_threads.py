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

from orcinus import LLM, SamplingParams, threads
from orcinus.control_groups import cpu_quota
from orcinus.errors import ConfigError, EngineError
from orcinus.threads import engine_threads, physical_cores
from tests.commands import ENVIRONMENT

ROOT = Path(__file__).parents[1]
SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
SHOWN = f"import sys, os, json; print(json.dumps([os.environ.get(name) for name in {SETTINGS}] + ['torch' in sys.modules]))"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, ["20000", None, "64"]),
        ({"OMP_WAIT_POLICY": "active"}, [None, "active", "64"]),
        ({"GOMP_SPINCOUNT": "7", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8"}, ["7", None, "8"]),
    ],
)
def test_the_module_sets_what_the_command_sets_before_torch_loads(given: dict[str, str], found: list[str | None]) -> None:
    plain = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    command = [sys.executable, "-c", f"import orcinus; {SHOWN}"]
    done = subprocess.run(command, capture_output=True, text=True, env=plain | given, check=True)
    assert json.loads(done.stdout) == [*found, False]


def quota_in(folder: Path, groups: str, files: dict[str, str]) -> float | None:
    """The CPU quota of a process in these control groups."""
    for name, text in {"self/cgroup": groups, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return cpu_quota(folder, folder)


def test_the_tightest_cpu_quota_counts(tmp_path: Path) -> None:
    unlimited, pod = {"pod/box/cpu.max": "max 100000\n"}, {"pod/cpu.max": "350000 100000\n"}
    assert quota_in(tmp_path / "unlimited", "0::/pod/box\n", unlimited) is None
    assert quota_in(tmp_path / "of an ancestor", "0::/pod/box\n", unlimited | pod) == 3.5
    assert quota_in(tmp_path / "own", "0::/pod/box\n", pod | {"pod/box/cpu.max": "50000 100000"}) == 0.5
    version_1 = {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}
    assert quota_in(tmp_path / "hidden path", "4:cpu,cpuacct:/docker/7\n5:memory:/\n", version_1) == 2
    version_1["cpu/cpu.cfs_quota_us"] = "-1"
    assert quota_in(tmp_path / "unlimited too", "4:cpu,cpuacct:/\n", version_1) is None
    assert cpu_quota(tmp_path / "nowhere") is None


def test_two_hyperthreads_are_one_core(tmp_path: Path) -> None:
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        file = tmp_path / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        file.parent.mkdir(parents=True)
        file.write_text(siblings)
    assert [physical_cores(cpus, tmp_path) for cpus in ({0, 1, 2, 3}, {0, 2}, {2, 3}, {0, 7})] == [2, 1, 2, 2]
    assert physical_cores({4, 5}, tmp_path / "hidden") == 2


def test_an_engine_has_one_thread_per_core_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "usable_cpus", lambda: set(range(8)))
    monkeypatch.setattr(threads, "physical_cores", len)
    for quota, cores in ((None, 8), (2.9, 2), (0.5, 1), (64.0, 8)):
        monkeypatch.setattr(threads, "cpu_quota", lambda quota=quota: quota)
        assert threads.num_cores() == cores
    monkeypatch.setattr(threads, "num_cores", lambda: 4)
    assert engine_threads(None, current=8) == 4
    assert engine_threads(None, current=1) == 1, "torch.set_num_threads(1) came before"
    assert engine_threads(6, current=8) == 6
    with pytest.raises(ConfigError, match="threads is 9, and this process may run on 8 CPUs"):
        engine_threads(9, current=8)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert engine_threads(None, current=7) == 7


LATE = """
import os
import torch
import orcinus
from orcinus.threads import limit_spinning
from orcinus.runtime.numba_threads import threading_layer

torch.set_num_threads(2)
limit_spinning()
torch.ones(400_000).add(1)
before = len(os.listdir("/proc/self/task"))
print(threading_layer(), torch.get_num_threads(), len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP")
def test_numba_has_no_threads_of_its_own_if_torch_came_first() -> None:
    plain = {name: value for name, value in os.environ.items() if name not in SETTINGS and not name.startswith("OMP_")}
    plain |= {"NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, env=plain, check=True)
    layer, number, more = done.stdout.split()
    assert (layer, number, more) == ("omp", "2", "0")


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
