"""One rank's process: it builds its executor, says that it is ready, and runs every batch that it is sent, in order.

It decides nothing: what runs when is the engine's business. Whatever is raised, it says so in one line and ends.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import NoReturn, Protocol

import msgspec

from orcinus.core.ports import Executor
from orcinus.errors import EngineError, OrcinusError, cause, one_line
from orcinus.parent import end_with, leave_signals_to_parent
from orcinus.runtime.parallel.messages import (
    NO_BATCH,
    BatchTime,
    PrepareGrammar,
    RankFailed,
    RankLoaded,
    RankLoading,
    RankReady,
    RunBatch,
    TimeBatches,
    WarmUp,
)
from orcinus.runtime.parallel.rank_config import RankConfig
from orcinus.runtime.parallel.sign_of_life import SignsOfLife
from orcinus.runtime.parallel.sockets import RankSockets
from orcinus.text.grammar_source import GrammarVocabulary

LINGER_S = 2.0
log = logging.getLogger(__name__)


class RankExecutor(Executor, Protocol):
    """The executor of one rank's part of a model."""

    def prepare(self, grammar: str, vocabulary: GrammarVocabulary | None) -> None:
        """Compile a grammar in the background; the first comes with the vocabulary."""
        ...


# From a rank's configuration, its signs of life and a callback (stage, bytes done, bytes in all): what it loaded. Called when
# all ranks are so far, that is its executor, warmed up.
LoadRank = Callable[[RankConfig, SignsOfLife, Callable[[str, int, int], None]], Callable[[], RankExecutor]]


class RankLoop:
    """Takes messages while the executor has room, else collects its oldest batch."""

    def __init__(self, config: RankConfig, executor: RankExecutor, sockets: RankSockets, signs: SignsOfLife) -> None:
        self.executor, self.sockets, self.signs = executor, sockets, signs
        self.speaks = config.rank == config.mesh.speaker
        self.in_flight: list[int] = []
        self.going = True
        self.timed = False  # whether to report the time of every batch
        self._began, self._waited_before = 0.0, dict[str, float]()  # of the oldest batch in flight

    def run(self) -> None:
        """Until told to end; batches that came before are finished."""
        while self.going or self.in_flight:
            if self.going and len(self.in_flight) < self.executor.depth and (not self.in_flight or self.sockets.waiting()):
                self._receive()
            else:
                self._collect()

    def _receive(self) -> None:
        message = self.sockets.receive()
        if isinstance(message, TimeBatches):
            self.timed = message.on
            self._begin()
        elif isinstance(message, RunBatch):
            if not self.in_flight:
                self._begin()
            self.in_flight.append(message.batch.id)
            self.signs.batch = self.in_flight[0]
            self.executor.submit(message.batch)
        elif isinstance(message, PrepareGrammar):
            self.executor.prepare(message.grammar, message.vocabulary)
        else:
            self.going = False

    def _begin(self) -> None:
        if self.timed:
            self._began, self._waited_before = time.monotonic(), dict(self.signs.waited)

    def _report_time(self, batch: int, ended: float) -> None:
        before = self._waited_before
        waited = {name: seconds - before.get(name, 0.0) for name, seconds in self.signs.waited.items()}
        self.sockets.report(BatchTime(self.signs.rank, batch, self._began, ended, waited))

    def _collect(self) -> None:
        result = self.executor.collect()
        batch, ended = self.in_flight.pop(0), time.monotonic()
        self.signs.batch = self.in_flight[0] if self.in_flight else NO_BATCH
        if self.speaks:
            self.sockets.answer(result)
        if self.timed:
            self._report_time(batch, ended)
            self._begin()


def run_rank(config: RankConfig, load: LoadRank) -> int:
    """Load and run; returns the exit status."""
    sockets = RankSockets(config.addresses)
    signs = SignsOfLife(config.rank, sockets.reporter())
    status = 0
    try:
        warm_up = load(config, signs, lambda *stage: sockets.report(RankLoading(config.rank, *stage)))
        sockets.report(RankLoaded(config.rank, os.getpid(), socket.gethostname()))
        if isinstance(sockets.receive(), WarmUp):
            executor = warm_up()
            sockets.report(RankReady(config.rank, executor.depth, executor.overlap))
            RankLoop(config, executor, sockets, signs).run()
            executor.close()
    except Exception as error:
        known = isinstance(error, OrcinusError)
        if not known:
            log.exception("rank %d stopped", config.rank)
        text = one_line(error) if known else cause(error)
        sockets.report(RankFailed(config.rank, text, for_others=isinstance(error, EngineError)))
        status = 1
    signs.stop()
    sockets.close(LINGER_S)
    return status


def run_process(load: LoadRank) -> NoReturn:
    """Be the rank that standard input describes, the child of the process of the first argument, until either ends."""
    end_with(int(sys.argv[1]), 0, last_words=lambda: None)
    leave_signals_to_parent()
    try:
        config = RankConfig.decode(sys.stdin.buffer.read())
    except msgspec.DecodeError:  # the parent ended before it had said all, and says itself why
        os._exit(1)
    logging.basicConfig(level=logging.WARNING, format=f"rank {config.rank}: %(message)s")
    status = run_rank(config, load)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # libraries may wait for ranks that are gone
