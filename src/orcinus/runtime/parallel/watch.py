"""Watches the ranks of a mesh, and says which of them failed first."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from orcinus.errors import cause
from orcinus.runtime.parallel.launch import Launcher
from orcinus.runtime.parallel.mesh import Mesh
from orcinus.runtime.parallel.messages import BatchTime, RankFailed, RankLoaded, RankLoading, RankReady, SignOfLife
from orcinus.runtime.parallel.sockets import EngineSockets

POLL_MS = 50
SILENT_S = 5.0  # without a sign of life: a rank that is ready gives two a second
SILENT_AT_START_S = 60.0  # compilers may hold up a thread that gives signs
MOST_AWAY_S = 1.0  # between two looks
SETTLE_S = 0.5  # for the last words of a rank that has ended
LONGEST_LOADING_S = 600.0  # without progress of any rank, before all are ready


@dataclass
class RankSigns:
    """What is known of one rank."""

    loading: RankLoading | None = None
    loaded: RankLoaded | None = None
    ready: RankReady | None = None
    doing: SignOfLife | None = None
    heard: float = 0.0  # when it last gave a sign of life
    failed: RankFailed | None = None
    ended: tuple[float, str] | None = None  # when that was seen, and how


class RankWatch:
    """A thread that reads reports and looks after processes until one rank fails.

    When one dies, its neighbours soon raise as well, because they wait for it in vain. `failure` names the first cause: a rank
    that raised an error of its own, else one whose process ended, else one that went silent, else one that waited in vain.
    """

    def __init__(self, mesh: Mesh, sockets: EngineSockets, launcher: Launcher, silent_s: float = SILENT_S) -> None:
        self.mesh, self.silent_s = mesh, silent_s
        self.ranks = [RankSigns() for _ in range(mesh.size)]
        self.failure: str | None = None  # one line
        self.batch_times: list[BatchTime] = []  # of ranks that were asked for them
        self.progressed = time.monotonic()  # when a rank was last heard to get on with its start
        self._sockets, self._launcher = sockets, launcher
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="rank-watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more. A second call does nothing."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def name(self, rank: int) -> str:
        """`rank 2 (stage 1, process 4711)`."""
        place, loaded = self.mesh.at(rank), self.ranks[rank].loaded
        where = [f"stage {place.stage}"] if self.mesh.pp > 1 else []
        where += [f"process {loaded.pid}"] if loaded else []
        return f"rank {rank} ({', '.join(where)})" if where else f"rank {rank}"

    def busy(self, batch: int) -> str:
        """Which ranks have a batch and do not wait for others, for a message; else what each of them waits for."""
        doing = {rank: signs.doing for rank, signs in enumerate(self.ranks) if signs.doing and signs.doing.batch == batch}
        computing = [self.name(rank) for rank, sign in doing.items() if not sign.waits_in]
        if computing:
            return f"{' and '.join(computing)} still computes it"
        waiting = [f"{self.name(rank)} in {sign.waits_in}" for rank, sign in doing.items()]
        return f"all wait for each other: {', '.join(waiting)}" if waiting else "no rank has begun it"

    def _watch(self) -> None:
        try:
            self._watch_until_failure()
        except Exception as error:  # without this thread no failure would be noticed
            self.failure = f"a report of a rank cannot be read ({cause(error)})"

    def _watch_until_failure(self) -> None:
        looked = time.monotonic()
        while not self._stopped.is_set():
            self._hear()
            now = time.monotonic()
            if now - looked > MOST_AWAY_S:  # this process was stopped, and perhaps all of them (Ctrl-Z): count anew
                for signs in self.ranks:
                    signs.heard = now if signs.heard else 0.0
            looked = now
            for rank, how in self._launcher.ended().items():
                self.ranks[rank].ended = self.ranks[rank].ended or (now, how)
            self.failure = self._first_cause(now)
            if self.failure:
                return

    def _hear(self) -> None:
        """Read all reports that are here; waits a little for the first."""
        wait = POLL_MS
        while (report := self._sockets.report(wait)) is not None:
            signs, now, wait = self.ranks[report.rank], time.monotonic(), 0
            signs.heard = now
            match report:
                case SignOfLife():
                    signs.doing = report
                case BatchTime():
                    self.batch_times.append(report)
                case RankLoading():
                    signs.loading, self.progressed = report, now
                case RankLoaded():
                    signs.loaded, self.progressed = report, now
                case RankReady():
                    signs.ready, self.progressed = report, now
                case RankFailed():
                    signs.failed = signs.failed or report

    def _first_cause(self, now: float) -> str | None:
        """Why the mesh cannot go on; None if it can, or if a better reason may still come."""
        for rank, signs in enumerate(self.ranks):
            if signs.failed and not signs.failed.for_others:
                return f"{self.name(rank)} failed: {signs.failed.text}"
        for rank, signs in enumerate(self.ranks):
            if signs.ended and not signs.failed and now - signs.ended[0] > SETTLE_S:
                return f"{self.name(rank)} {signs.ended[1]}"
        for rank, signs in enumerate(self.ranks):
            limit = self.silent_s if signs.ready else SILENT_AT_START_S
            if signs.heard and not signs.failed and now - signs.heard > limit:
                return f"{self.name(rank)} does not answer: no sign of life for {limit:g} s"
        return self._waited_in_vain(now)

    def _waited_in_vain(self, now: float) -> str | None:
        """The first rank that raised for want of another, once no other reason is to be expected."""
        alive = any(not signs.failed for signs in self.ranks)
        for rank, signs in enumerate(self.ranks):
            if signs.failed and (now - signs.heard > self.silent_s or not alive):
                return f"{self.name(rank)} waited in vain for another: {signs.failed.text}"
        return None
