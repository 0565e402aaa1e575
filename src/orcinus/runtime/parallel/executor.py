"""The executor of an engine whose model lies on several ranks: batches go out as messages, one rank answers."""

from __future__ import annotations

import os
import socket
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence

from orcinus.core.batch import Batch, BatchResult, StageRun
from orcinus.core.request import Overlap, Request
from orcinus.errors import ConfigError, EngineError
from orcinus.runtime.parallel.launch import Launcher
from orcinus.runtime.parallel.mesh import Mesh, RankProcess
from orcinus.runtime.parallel.messages import (
    BatchTime,
    EndRank,
    PrepareGrammar,
    RankLoaded,
    RankReady,
    RunBatch,
    TimeBatches,
    WarmUp,
)
from orcinus.runtime.parallel.rank_config import RankConfig
from orcinus.runtime.parallel.sockets import EngineSockets
from orcinus.runtime.parallel.watch import LONGEST_LOADING_S, SILENT_S, RankWatch
from orcinus.text.grammars import Grammars

POLL_MS = 50  # how soon a failed rank is noticed
TOKENS_AN_EXTENSION = 256  # a batch of so many tokens has twice the time of one decode
STOP_S = 3.0  # for ranks to end by themselves before they are killed
Progress = Callable[[str, int, int], None]
MakeRankConfig = Callable[[int, EngineSockets], RankConfig]


def time_limit(step_timeout: float, tokens: int) -> float:
    """Seconds that a batch of so many tokens may take, once no other is in front of it."""
    return step_timeout * (1 + tokens / TOKENS_AN_EXTENSION)


class RankGroup:
    """The ranks of a mesh, started: their sockets, their processes, and the thread that watches them."""

    def __init__(self, mesh: Mesh, launcher: Launcher, progress: Progress, silent_s: float = SILENT_S) -> None:
        self.mesh, self.launcher, self._progress = mesh, launcher, progress
        self.sockets = EngineSockets(launcher.host)
        self.watch = RankWatch(mesh, self.sockets, launcher, silent_s)
        self.stopped = False
        self._owner = os.getpid()

    def start(self, rank_config: MakeRankConfig, longest_s: float) -> None:
        """Start the ranks and wait until all are ready. Raises `ConfigError`, and then none is left."""
        try:
            self.launcher.start([rank_config(rank, self.sockets) for rank in range(self.mesh.size)])
            self.watch.start()
            self._wait_until(self._loaded, longest_s)
            self._progress("warm-up", 0, 0)
            self.sockets.broadcast(WarmUp())
            self._wait_until(self._ready, longest_s)
        except BaseException:
            self.stop(0)
            raise

    def _wait_until(self, true: Callable[[], bool], longest_s: float) -> None:
        while not true():
            if self.watch.failure:
                raise ConfigError(f"the model's ranks could not start: {self.watch.failure}")
            if time.monotonic() - self.watch.progressed > longest_s:
                raise ConfigError(f"the model's ranks could not start: {self._late()} made no progress for {longest_s:g} s")
            time.sleep(POLL_MS / 1000)

    def _loaded(self) -> bool:
        ranks = self.watch.ranks
        loading = [signs.loading for signs in ranks if signs.loading and not signs.loaded]
        stage = loading[0].stage if loading else ""
        same = [one for one in loading if one.stage == stage]
        if same:
            self._progress(stage, sum(one.done for one in same), sum(one.total for one in same))
        return all(signs.loaded for signs in ranks) and self.sockets.all_listen(len(ranks), POLL_MS)

    def _ready(self) -> bool:
        return all(signs.ready for signs in self.watch.ranks)

    def _late(self) -> str:
        """The ranks that the others wait for."""
        unloaded = [self.watch.name(rank) for rank, signs in enumerate(self.watch.ranks) if not signs.loaded]
        unready = [self.watch.name(rank) for rank, signs in enumerate(self.watch.ranks) if not signs.ready]
        return ", ".join(unloaded or unready)

    @property
    def ready(self) -> list[RankReady]:
        """What each rank said when it was ready."""
        return [signs.ready for signs in self.watch.ranks if signs.ready]

    @property
    def loaded(self) -> list[RankLoaded]:
        """Where each rank runs."""
        return [signs.loaded for signs in self.watch.ranks if signs.loaded]

    def stop(self, grace_s: float) -> None:
        """Let the ranks end, kill those that do not, and close the sockets. A second call, or one in a fork, does nothing."""
        if self.stopped or os.getpid() != self._owner:
            return
        self.stopped = True
        if grace_s:
            self.sockets.broadcast(EndRank())
        self.watch.stop()
        self.launcher.stop(grace_s)
        self.sockets.close()


class RanksPreparation:
    """A `Preparation` whose grammars the ranks compile at the same time."""

    def __init__(self, grammars: Grammars, group: RankGroup) -> None:
        self._grammars, self._group = grammars, group
        self._told = False  # whether the ranks know the vocabulary

    def begin(self, request: Request) -> None:
        if request.params.grammar is None:
            return
        vocabulary = None if self._told else self._grammars.vocabulary
        self._group.sockets.broadcast(PrepareGrammar(request.params.grammar, vocabulary))
        self._told = True
        self._grammars.begin(request)

    def ready(self, request: Request) -> bool:
        return self._grammars.ready(request)

    def wait(self, requests: Sequence[Request], seconds: float) -> None:
        self._grammars.wait(requests, seconds)


class ParallelExecutor:
    """Sends each batch to all ranks, and waits for the one that speaks.

    A rank that fails ends the engine: the others may wait for it in the middle of a batch, so nothing can run again without
    one request. `submit` and `collect` raise `EngineError` from then on, with the same line.
    """

    def __init__(self, group: RankGroup, step_timeout: float) -> None:
        self.group, self.step_timeout = group, step_timeout
        self.depth, self.overlap = _in_flight(group.mesh, group.ready)
        self._in_flight: deque[tuple[Batch, float]] = deque()  # and when each was announced
        self._last = 0.0  # when the last one came back
        self._failure: str | None = None
        self._finalizer = weakref.finalize(self, group.stop, STOP_S)

    def preparation(self, grammars: Grammars) -> RanksPreparation:
        """Prepares requests here and on the ranks."""
        return RanksPreparation(grammars, self.group)

    def submit(self, batch: Batch) -> None:
        self.check()
        self.group.sockets.broadcast(RunBatch(batch))
        self._in_flight.append((batch, time.monotonic()))

    def collect(self) -> BatchResult:
        batch, announced = self._in_flight[0]
        limit = time_limit(self.step_timeout, batch.num_tokens)
        while (result := self._result()) is None:
            self.check()
            if time.monotonic() - max(announced, self._last) > limit:
                self._fail(self._overdue(batch, limit))
        assert result.batch_id == batch.id, "results come in the order of the batches"
        self._last = time.monotonic()
        self._in_flight.popleft()
        return result

    def _result(self) -> BatchResult | None:
        return None if self._failure else self.group.sockets.result(POLL_MS)

    def check(self) -> None:
        """Raise `EngineError` if a rank has failed. An idle engine may ask now and then."""
        if self._failure is None and self.group.watch.failure:
            self._fail(self.group.watch.failure)
        if self._failure is not None:
            raise EngineError(f"{self._failure}: the engine cannot go on")

    def processes(self, stages: Sequence[range]) -> tuple[RankProcess, ...]:
        """Where each rank runs; `stages` are the layers of each stage."""
        mesh = self.group.mesh
        layers = [(stage.start, stage.stop) for stage in stages]
        return tuple(
            RankProcess(one.rank, mesh.at(one.rank).stage, layers[mesh.at(one.rank).stage], one.pid, one.host)
            for one in self.group.loaded
        )

    def time_batches(self) -> list[BatchTime]:
        """A list that grows from now on: one `BatchTime` for every rank and batch, soon after the rank has run it."""
        self.group.sockets.broadcast(TimeBatches())
        return self.group.watch.batch_times

    def time_stages(self, *, on: bool) -> None:
        """Have the ranks report when they run batches, or no more."""
        self.group.sockets.broadcast(TimeBatches(on))

    def take_stage_runs(self) -> list[StageRun]:
        """By the first tensor rank of each stage; it began when the hidden states were there.

        Ranks of other machines have clocks of their own, and are left out.
        """
        times, mesh, here = self.group.watch.batch_times, self.group.mesh, socket.gethostname()
        found = times[:]
        del times[: len(found)]  # meanwhile the watching thread may have added some
        local = {one.rank for one in self.group.loaded if one.host == here}
        places = [(one, mesh.at(one.rank)) for one in found if one.rank in local]
        return [
            StageRun(one.batch, place.stage, min(one.ended, one.began + one.waited.get("recv", 0.0)), one.ended)
            for one, place in places
            if place.tensor == 0
        ]

    def close(self) -> None:
        """End all ranks."""
        self._finalizer()

    def _overdue(self, batch: Batch, limit: float) -> str:
        return (
            f"batch {batch.id} ({batch.num_tokens} tokens) is not done after {limit:g} s, {self.group.watch.busy(batch.id)}; "
            "if such a batch may take longer, raise --step-timeout"
        )

    def _fail(self, reason: str) -> None:
        self._failure = reason
        self.group.stop(0)


def _in_flight(mesh: Mesh, ready: Sequence[RankReady]) -> tuple[int, Overlap]:
    """How many batches may be in flight, and which requests the next one may carry on.

    A pipeline has one for each stage (Orca's n_workers); a decode cannot follow there, because the first stage would need a
    token that the last one has not drawn yet.
    """
    if mesh.pp > 1:
        return mesh.pp, Overlap(prefill=True, decode=False)
    return ready[mesh.speaker].depth, ready[mesh.speaker].overlap


def start_mesh(
    mesh: Mesh,
    launcher: Launcher,
    rank_config: MakeRankConfig,
    *,
    step_timeout: float,
    progress: Progress,
    silent_s: float = SILENT_S,
    longest_s: float = LONGEST_LOADING_S,
) -> ParallelExecutor:
    """Start all ranks of a mesh. Raises `ConfigError` with the reason of the first that cannot start."""
    group = RankGroup(mesh, launcher, progress, silent_s)
    group.start(rank_config, longest_s)
    return ParallelExecutor(group, step_timeout)
