"""The executor of a mesh, over ranks that have no model: what it runs, and how it tells what failed."""

from __future__ import annotations

import gc
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from orcinus.core.batch import StageRun
from orcinus.core.policies import POLICIES
from orcinus.core.request import Overlap
from orcinus.errors import ConfigError, EngineError
from orcinus.runtime.parallel.executor import ParallelExecutor, start_mesh, time_limit
from orcinus.runtime.parallel.mesh import Mesh
from orcinus.runtime.parallel.messages import RankReady
from orcinus.runtime.parallel.rank_config import RankConfig
from orcinus.runtime.parallel.sockets import EngineSockets
from orcinus.runtime.parallel.watch import RankWatch
from tests.product import part
from tests.runtime.parallel.fake_launcher import FakeRanks
from tests.seam import Part, batch_of
from tests.waiting import wait_until, within
from tests.worlds import World, build_world, check_all, random_jobs, run

Fault = tuple[int, str, int]  # rank, what, before which batch; 0: at its start
TWO = Mesh(tp=2)
PIPELINE = Mesh(tp=2, pp=2)


def tell(mesh: Mesh, faults: tuple[Fault, ...]) -> Callable[[int, EngineSockets], RankConfig]:
    load: dict[str, object] = {"block_size": 4, "faults": faults}

    def make(rank: int, sockets: EngineSockets) -> RankConfig:
        return RankConfig(rank=rank, mesh=mesh, addresses=sockets.addresses, rendezvous="", timeout_s=60, threads=1, load=load)

    return make


def start(mesh: Mesh, *faults: Fault, step_timeout: float = 60, silent_s: float = 5, longest_s: float = 60) -> ParallelExecutor:
    launcher = FakeRanks()
    return start_mesh(
        mesh,
        launcher,
        tell(mesh, faults),
        step_timeout=step_timeout,
        progress=lambda *_: None,
        silent_s=silent_s,
        longest_s=longest_s,
    )


@contextmanager
def started(mesh: Mesh, *faults: Fault, **limits: float) -> Iterator[ParallelExecutor]:
    executor = start(mesh, *faults, **limits)
    try:
        yield executor
    finally:
        executor.close()


def children() -> list[int]:
    """Living child processes of this one, among them those that have ended and were not waited for."""
    found = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    return [int(pid) for pid in found]


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    before = children()
    yield
    assert set(children()) <= set(before)  # one of another test may have ended meanwhile


def world_of(executor: ParallelExecutor, policy: str) -> World:
    world = build_world(POLICIES[policy](), "prefix-cache", depth=executor.depth, overlap=executor.overlap)
    world.engine.executor = executor
    return world


@pytest.fixture(scope="module")
def pipeline() -> Iterator[ParallelExecutor]:
    with started(PIPELINE) as executor:
        yield executor


@pytest.mark.parametrize("policy", part("stall-free", full=["orca", "sarathi"]))
def test_requests_are_served_through_processes_as_in_one(pipeline: ParallelExecutor, policy: str) -> None:
    """Every rank is told what an executor in this process would be, in the same order: the ranks' memory would tell."""
    world, jobs = world_of(pipeline, policy), random_jobs(random.Random(policy), 12, cancels=True)
    check_all(world, jobs, run(world, jobs))


def test_a_pipeline_has_a_batch_for_each_stage_and_decodes_do_not_overlap(pipeline: ParallelExecutor) -> None:
    assert (pipeline.depth, pipeline.overlap) == (2, Overlap(prefill=True, decode=False))


def test_every_rank_reports_the_times_of_its_batches_if_asked(pipeline: ParallelExecutor) -> None:
    times, asked = pipeline.time_batches(), time.monotonic()
    assert times == []  # of batches before
    batches = [batch_of([Part("timed", (1, 2, 3), 0, (0,))], number)[0] for number in (0, 1)]
    for batch in (batches[0], replace(batches[1], removed=("timed",))):
        pipeline.submit(batch)
        pipeline.collect()
    wait_until(lambda: len(times) == 2 * PIPELINE.size)
    for rank in range(PIPELINE.size):
        first, second = (one for one in times if one.rank == rank)
        assert (first.batch, second.batch) == (0, 1)
        assert asked <= first.began <= first.ended <= second.began <= second.ended <= time.monotonic()


def test_stages_tell_when_they_ran_batches_until_no_longer_asked(pipeline: ParallelExecutor) -> None:
    pipeline.time_stages(on=True)
    pipeline.take_stage_runs()
    first, second, third = (batch_of([Part("staged", (1, 2, 3), 0, (0,))], number)[0] for number in (10, 11, 12))
    began = time.monotonic()
    for batch in (first, replace(second, removed=("staged",))):
        pipeline.submit(batch)
        pipeline.collect()
    runs: list[StageRun] = []

    def all_told() -> bool:
        runs.extend(pipeline.take_stage_runs())
        return len(runs) >= 2 * PIPELINE.pp

    wait_until(all_told)
    assert sorted((run.batch, run.stage) for run in runs) == [
        (batch, stage) for batch in (10, 11) for stage in range(PIPELINE.pp)
    ]
    assert all(began <= run.began <= run.ended <= time.monotonic() for run in runs)
    pipeline.time_stages(on=False)
    pipeline.submit(replace(third, removed=("staged",)))
    pipeline.collect()
    assert pipeline.take_stage_runs() == []


def test_a_batch_may_take_longer_the_more_tokens_it_has() -> None:
    assert time_limit(60, 0) == 60
    assert time_limit(60, 512) == 180


def broken(mesh: Mesh, *faults: Fault, **limits: float) -> str:
    """What `collect` says of a mesh in which something fails in the third of ten batches; no process is left."""
    with started(mesh, *faults, **limits) as executor:
        batches = [batch_of([Part("r", (1, 2, 3), 0, (0,))], number)[0] for number in range(10)]
        batches = [replace(batch, removed=("r",) if batch.id else ()) for batch in batches]
        with within(20), pytest.raises(EngineError) as caught:
            _ = [(executor.submit(batch), executor.collect()) for batch in batches]
        assert executor.group.stopped
        for again in (executor.collect, partial(executor.submit, batches[0]), executor.check):
            with pytest.raises(EngineError, match=re.escape(str(caught.value))):
                again()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("rank", part(1, full=[0, 2, 3]))
def test_a_killed_rank_is_named(rank: int) -> None:
    """Its neighbours raise, too, for want of it; they are not to blame."""
    others = [(other, "wait in vain", 3) for other in range(4) if other != rank]
    said = broken(PIPELINE, (rank, "end", 3), *others)
    assert re.match(rf"rank {rank} \(stage {rank // 2}, process \d+\) was killed by SIGKILL .*: the engine cannot go on", said)


def test_a_rank_that_raises_is_told_with_its_reason() -> None:
    said = broken(TWO, (1, "raise", 3), (0, "wait in vain", 3))
    assert re.match(r"rank 1 \(process \d+\) failed: ZeroDivisionError: a defect: the engine cannot go on", said)


def test_a_rank_that_stands_still_gives_no_sign_of_life() -> None:
    said = broken(TWO, (1, "stop", 3), (0, "hang", 3), silent_s=2)
    assert re.match(r"rank 1 \(process \d+\) does not answer: no sign of life for 2 s", said)


def test_a_rank_that_hangs_while_it_lives_is_found_by_the_time_limit_of_its_batch() -> None:
    said = broken(TWO, (0, "hang", 3), step_timeout=1)
    assert re.match(
        r"batch 2 \(3 tokens\) is not done after 1.01\d+ s, rank 0 \(process \d+\) still computes it; .*--step-t", said
    )


def test_ranks_that_all_wait_in_vain_are_told_when_none_is_left_to_blame() -> None:
    said = broken(TWO, (0, "wait in vain", 3), (1, "wait in vain", 3))
    assert re.match(r"rank 0 .* waited in vain for another: all_reduce: a rank did not come", said)


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        ([(1, "refuse", 0)], r"rank 1 failed: the disk is full: make room"),
        ([(1, "end", 0)], r"rank 1 was killed by SIGKILL"),
        ([(0, "wait in vain", 0), (1, "raise", 0)], r"rank 1 failed: ZeroDivisionError: a defect"),
        ([(1, "hang", 0)], r"rank 1 made no progress for 3 s"),
    ],
)
def test_a_mesh_that_cannot_start_says_why_and_leaves_nothing(faults: list[Fault], reason: str) -> None:
    with within(20), pytest.raises(ConfigError, match=f"the model's ranks could not start: {reason}"):
        start(TWO, *faults, longest_s=3)


def test_an_idle_engine_hears_of_a_dead_rank() -> None:
    with started(TWO) as executor:
        executor.check()
        os.kill(executor.group.loaded[1].pid, signal.SIGKILL)
        wait_until(lambda: executor.group.watch.failure)
        with pytest.raises(EngineError, match="rank 1 .* was killed by SIGKILL"):
            executor.check()


def test_ranks_that_no_one_closed_end_with_their_executor() -> None:
    executor = start(TWO)
    pids = [rank.pid for rank in executor.group.loaded]
    del executor
    gc.collect()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


PARENT = """
import time
from tests.runtime.parallel.test_executor import TWO, start
executor = start(TWO)
print(*(rank.pid for rank in executor.group.loaded), flush=True)
while True:  # signal.pause() would miss a signal that comes right before it
    time.sleep(0.1)
"""


@pytest.mark.parametrize("sent", part(signal.SIGKILL, full=[signal.SIGTERM, signal.SIGINT]))
def test_no_rank_outlives_its_engine(sent: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.send_signal(sent)
        parent.wait(timeout=20)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


@pytest.mark.parametrize("said", [b"", b'{"rank": 1, "mesh"'])
def test_a_rank_whose_parent_ended_while_it_told_what_to_run_says_nothing(said: bytes) -> None:
    command = [sys.executable, "-m", "tests.runtime.parallel.fake_worker", str(os.getpid())]
    done = subprocess.run(command, input=said, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_two_meshes_of_one_process_do_not_meet() -> None:
    with started(TWO) as first, started(TWO, (0, "raise", 1)) as second:
        batch, _ = batch_of([Part("r", (1, 2, 3), 0, (0,))])
        for executor in (first, second):
            executor.submit(batch)
        with pytest.raises(EngineError, match="a defect"):
            second.collect()
        assert first.collect().batch_id == batch.id


class Quiet:
    """Sockets and a launcher that have nothing to tell; the first look takes long."""

    host = None

    def __init__(self, away_s: float) -> None:
        self.away_s, self.looks = away_s, 0

    def report(self, milliseconds: int) -> None:
        self.looks += 1
        time.sleep(self.away_s if self.looks == 1 else 0.01)

    def ended(self) -> dict[int, str]:
        return {}


def test_an_engine_that_was_stopped_itself_blames_no_rank() -> None:
    """As by Ctrl-Z and `fg`: for as long as it was stopped it has heard nothing."""
    quiet = Quiet(away_s=1.5)
    watch = RankWatch(TWO, quiet, quiet, silent_s=1)  # type: ignore[arg-type]
    for signs in watch.ranks:
        signs.ready, signs.heard = RankReady(0, 1, Overlap()), time.monotonic()
    watch.start()
    wait_until(lambda: quiet.looks > 10)
    assert watch.failure is None
    wait_until(lambda: watch.failure)  # from now on silence counts
    watch.stop()
