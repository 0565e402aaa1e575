"""The engine process: `python -m orcinus.serve.engine_loop ADDRESS PARENT NAME`, started by `EngineProcess`.

Between two iterations it reads every message that has come; after each it sends one, with all that happened. It never
waits for the other side: messages are queued by ZeroMQ's own thread.
"""

from __future__ import annotations

import heapq
import logging
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from orcinus.core.batch import Batch, BatchResult, Event, Finished, Token, count_drafts
from orcinus.core.component_spec import make_order, make_policy, spell
from orcinus.core.ports import Observer
from orcinus.core.promises import Promises
from orcinus.core.request import Finish, FinishCode, Request
from orcinus.core.unserved import Unserved
from orcinus.errors import OrcinusError, cause, one_line
from orcinus.garbage import collect_rarely
from orcinus.observe.timeline import TimelineObserver
from orcinus.parent import end_with, leave_signals_to_parent
from orcinus.serve.computing_file import ComputingFile
from orcinus.serve.engines import ServedEngine, build_served, from_wire
from orcinus.serve.messages import (
    Ask,
    Cancel,
    Ending,
    EngineFailed,
    EngineOutput,
    Loading,
    Promised,
    Refused,
    ScheduledBatch,
    ScheduledChunk,
    SetPace,
    Step,
    Stop,
    Submit,
    TimelineFound,
    TimeStages,
    ToEngine,
    Use,
    Using,
)
from orcinus.serve.pace import Pace
from orcinus.serve.wire import EngineWire
from orcinus.socket_folder import COMPUTING

if TYPE_CHECKING:
    from orcinus.build import Progress

SIGN_OF_LIFE_S = 0.5
TELL_EVERY_S = 0.1
ORPHAN_S = 2.0  # for the loop to end in order after the HTTP process has gone, so that a record is complete
LINGER_S = 2.0
AT_ONCE_S = 0.001  # sockets count milliseconds: a shorter wait is the executor's
log = logging.getLogger(__name__)


class _Launches(Observer):
    """Batches in flight, and those returned since the last report."""

    def __init__(self) -> None:
        self.in_flight: dict[int, ScheduledBatch] = {}
        self.budget = 0  # most tokens of one batch, by the engine's limits
        self.seconds = 0.0  # duration of the last batch: since its launch, or since the batch before it returned
        self._back: list[ScheduledBatch] = []
        self._last = 0.0

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        tables = {request.request_id: request.blocks for request in batch.new}
        ran = [
            ScheduledChunk(c.request_id, c.start, len(c.tokens), c.prefill, tables.get(c.request_id, c.new_blocks))
            for c in batch.chunks
        ]
        self.in_flight[batch.id] = ScheduledBatch(batch.id, now, self.budget, ran, unserved, removed=batch.removed)

    def on_step(self, batch: Batch, result: BatchResult, now: float) -> None:
        launch = self.in_flight.pop(batch.id)
        launch.draft_tokens, launch.accepted_draft_tokens = count_drafts(batch, result)
        launch.returned = now
        self._back.append(launch)
        self.seconds, self._last = now - max(launch.at, self._last), now

    def take(self) -> list[ScheduledBatch]:
        """The batches that returned since the last call."""
        taken, self._back = self._back, []
        return taken


class EngineLoop:
    """Reads messages and runs iterations in turn."""

    def __init__(self, wire: EngineWire, served: ServedEngine, timelines: TimelineObserver, parent: int) -> None:
        self.wire, self.engine, self.timelines = wire, served.engine, timelines
        self.paced, self.check, self.staged = served.paced, served.check, served.staged
        self.launches = _Launches()
        self.promises = Promises(served.engine.scheduler)
        self.engine.observers += [self.launches, self.promises]
        self.parent = parent  # process id of the HTTP process
        self.going, self.pace = True, Pace()
        self.stages_timed = False
        self._deadlines: list[tuple[float, str]] = []

    def run(self) -> None:
        """Serve until told to stop, or until the HTTP process ends."""
        while self.going and os.getppid() == self.parent:
            wait = self._patience()
            while self.going and self.wire.wait(wait):
                self._obey(self.wire.receive())
                wait = 0
            self._cancel_late()
            self._iterate()
        self.engine.close()

    def _patience(self) -> int:
        """Milliseconds to wait for a message before the next iteration."""
        now = self.engine.clock.now()
        may_start = SIGN_OF_LIFE_S if self.engine.idle else self.pace.wait(now)
        wait = may_start if may_start and not self.launches.in_flight else self._due_in()
        until_late = self._deadlines[0][0] - now if self._deadlines else SIGN_OF_LIFE_S
        return int(max(0.0, min(wait, SIGN_OF_LIFE_S, until_late)) * 1000)

    def _due_in(self) -> float:
        """Seconds until a batch can be collected.

        0 if the executor works while it is collected.
        """
        return self.paced.due_in() if self.paced else 0.0

    def _iterate(self) -> None:
        """Launch batches and collect the oldest; when idle, report that it lives."""
        now = self.engine.clock.now()
        if not (self.engine.idle or self.pace.wait(now)):
            self.pace.start(now)
            self.launches.budget = self.engine.scheduler.limits.max_batch_tokens
            self.engine.dispatch()
        elif not self.launches.in_flight:
            if self.engine.idle:
                self.pace.steps = 0  # none is left for a request that comes later
            self.check()
            self._report([])
            return
        if self._due_in() > AT_ONCE_S:  # messages may come meanwhile
            self._report([])
            return
        events = self.engine.settle()
        self._report(events, self.launches.seconds)

    def _report(self, events: list[Event], seconds: float = 0.0, promised: Sequence[Promised] = ()) -> None:
        scheduler = self.engine.scheduler
        self.wire.send(
            EngineOutput(
                self.engine.clock.now(),
                [event for event in events if isinstance(event, Token)],
                [self._ending(event) for event in events if isinstance(event, Finished)],
                self.launches.take(),
                scheduler.num_running,
                self.engine.num_waiting,
                scheduler.kv.num_free,
                seconds,
                list(promised),
                self.staged.take_stage_runs() if self.stages_timed and self.staged else [],
            )
        )

    def _ending(self, event: Finished) -> Ending:
        return Ending(event, self.timelines.get(event.request_id))

    def _obey(self, message: ToEngine) -> None:
        match message:
            case Submit():
                self._submit(message)
            case Cancel(id=name, stop=stop):
                events = self.engine.cancel(name, Finish.STOP if stop else Finish.CANCELLED)
                self._report(events)
            case SetPace(paused=paused, min_seconds=seconds):
                self.pace.set(paused, seconds)
            case Step(iterations=iterations):
                self.pace.steps += iterations
            case TimeStages(on=on):
                self._time_stages(on)
            case Use():
                self._use(message)
            case Ask(id=name):
                timeline = self.timelines.get(name, self.engine.clock.now())
                unknown = Refused("this request is unknown, or ended long ago")
                self.wire.send(TimelineFound(timeline) if timeline else unknown)
            case Stop():
                self.going = False

    def _submit(self, message: Submit) -> None:
        now = self.engine.clock.now()
        arrival, output = now if message.arrival is None else message.arrival, list(message.output)
        events: list[Event]
        try:
            request = Request(message.id, message.prompt, message.params, arrival, message.context, output)
            if self.paced and self.engine.idle:
                self.paced.wake()
            if message.ask and not self._promise(request, message):
                return
            events = self.engine.submit(request)
        except OrcinusError as error:
            events = [Finished(message.id, Finish.REJECTED, now, str(error))]
        if events:
            self._report(events)
        elif message.deadline is not None:
            heapq.heappush(self._deadlines, (message.deadline, message.id))

    def _promise(self, request: Request, message: Submit) -> bool:
        """Answer whether a request's SLO will be kept."""
        verdict = self.promises.ask(request, self.engine.clock.now(), book=message.book, full=message.full)
        self._report([], promised=[Promised(request.id, verdict)])
        return verdict.accepted

    def _cancel_late(self) -> None:
        """Cancel requests past their deadlines; ended ones are ignored."""
        now = self.engine.clock.now()
        while self._deadlines and self._deadlines[0][0] <= now:
            _, name = heapq.heappop(self._deadlines)
            events = self.engine.cancel(name)
            if events:
                self._report([_late(event) if event.request_id == name else event for event in events])

    def _time_stages(self, on: bool) -> None:
        if self.staged and on != self.stages_timed:
            self.staged.time_stages(on=on)
            self.stages_timed = on

    def _use(self, message: Use) -> None:
        scheduler = self.engine.scheduler
        sizes = {"max_batch_size": message.max_batch_size, "max_batch_tokens": message.max_batch_tokens}
        try:
            limits = replace(scheduler.limits, **{name: size for name, size in sizes.items() if size is not None})
            policy = make_policy(message.policy) if message.policy is not None else None
            order = make_order(message.order) if message.order is not None else None
            self.engine.use(policy, order, limits)
        except OrcinusError as error:
            self.wire.send(Refused(str(error)))
            return
        chosen = scheduler.limits
        now = chosen.max_batch_size, chosen.max_batch_tokens, self.pace.paused
        counts = scheduler.num_running, self.engine.num_waiting, scheduler.kv.num_free
        self.wire.send(Using(spell(scheduler.policy), spell(scheduler.order), *now, *counts))


def _late(event: Event) -> Event:
    """An ending with the deadline as its reason."""
    return replace(event, code=FinishCode.DEADLINE, error="its time is up") if isinstance(event, Finished) else event


def main() -> None:
    """Serve the engine configured on standard input; the exit status tells how it ended."""
    collect_rarely()
    logging.getLogger("orcinus.build").setLevel(logging.INFO)  # shows how a GPU's memory was divided
    address, parent, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    logging.basicConfig(level=logging.WARNING, format=f"{name}: %(message)s")
    folder = Path(address.removeprefix("ipc://")).parent
    end_with(parent, ORPHAN_S, last_words=lambda: shutil.rmtree(folder, ignore_errors=True))
    leave_signals_to_parent()
    sys.exit(serve_engine(address, sys.stdin.buffer.read(), parent))


def serve_engine(address: str, configuration: bytes, parent: int) -> int:
    """Build the engine of an encoded configuration, and serve it at an address.

    Returns the exit status: 0, or 1 if the engine failed, of which the other side was told.
    """
    wire = EngineWire(address)
    status = 0
    try:
        config, memory_sharers = from_wire(configuration)
        timelines = TimelineObserver()
        computing = ComputingFile(Path(address.removeprefix("ipc://")).parent / COMPUTING)
        served = build_served(config, [timelines, computing], _teller(wire), memory_sharers)
        loop = EngineLoop(wire, served, timelines, parent)
        wire.send(served.ready)
        loop.run()
    except OrcinusError as error:
        wire.send(EngineFailed(one_line(error)))
        status = 1
    except Exception as error:
        log.exception("the engine stopped")
        wire.send(EngineFailed(f"the engine stopped: {cause(error)}"))
        status = 1
    wire.close(LINGER_S)
    return status


def _teller(wire: EngineWire) -> Progress:
    """A progress callback that sends a few messages a second."""
    told_at, told = 0.0, ""

    def tell(stage: str, done: int, total: int) -> None:
        nonlocal told_at, told
        now = time.monotonic()
        if stage != told or now - told_at > TELL_EVERY_S:
            told_at, told = now, stage
            wire.send(Loading(stage, done, total))

    return tell


if __name__ == "__main__":
    main()
