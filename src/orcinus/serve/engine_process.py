"""The engine in a process of its own: `python -m orcinus.serve.engine_process ADDRESS`, started by `EngineClient` alone.

Between two iterations it reads every message that has come; after each it sends one, with all that happened. It never
waits for the other side: messages are queued by ZeroMQ's own thread.
"""

from __future__ import annotations

import heapq
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import zmq

from orcinus.build import Built, build
from orcinus.config import EngineConfig
from orcinus.core.batch import Batch, Event, Finished
from orcinus.core.ports import Observer
from orcinus.core.request import Finish, Request
from orcinus.core.spelled import make_order, make_policy, spell
from orcinus.errors import OrcinusError
from orcinus.serve.messages import (
    Cancel,
    Ending,
    Failed,
    FromEngine,
    Iteration,
    Progress,
    Ready,
    Refused,
    Stop,
    Submit,
    ToEngine,
    Use,
    Using,
    decode_to_engine,
    encode,
    params_from_wire,
    token_to_wire,
)

SIGN_OF_LIFE_S = 0.5
log = logging.getLogger(__name__)


class _Prompts(Observer):
    """Which prompts the last iteration read, and how far."""

    def __init__(self) -> None:
        self._progress: list[Progress] = []
        self._cached: dict[str, int] = {}

    def on_batch(self, batch: Batch, now: float) -> None:
        for chunk in batch.chunks:
            if chunk.start < chunk.prompt_length:
                cached = self._cached.setdefault(chunk.request_id, chunk.start)
                self._progress.append(Progress(chunk.request_id, chunk.end, cached))

    def take(self) -> list[Progress]:
        """What was read since it was last asked for."""
        taken, self._progress = self._progress, []
        return taken

    def on_events(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Finished):
                self._cached.pop(event.request_id, None)


class EngineProcess:
    """The loop of the process."""

    def __init__(self, socket: zmq.Socket[bytes], built: Built, prompts: _Prompts) -> None:
        self.socket, self.engine, self.prompts = socket, built.engine, prompts
        self.parent = os.getppid()
        self.going = True
        self._deadlines: list[tuple[float, str]] = []

    def run(self) -> None:
        """Serve until told to stop, or until the HTTP process is gone."""
        while self.going and os.getppid() == self.parent:
            wait = 0 if not self.engine.idle else int(SIGN_OF_LIFE_S * 1000)
            while self.going and self.socket.poll(wait):
                self._obey(decode_to_engine(self.socket.recv()))
                wait = 0
            self._cancel_late()
            self._iterate()
        self.engine.close()

    def _iterate(self) -> None:
        """One iteration, or a sign of life."""
        began = self.engine.clock.now()
        events = [] if self.engine.idle else self.engine.step()
        self._report(events, self.prompts.take(), self.engine.clock.now() - began)

    def _report(self, events: list[Event], progress: Sequence[Progress] = (), seconds: float = 0.0) -> None:
        scheduler = self.engine.scheduler
        endings = [Ending(e.request_id, e.reason, e.at, e.error) for e in events if isinstance(e, Finished)]
        tokens = [token_to_wire(event) for event in events if not isinstance(event, Finished)]
        self._send(
            Iteration(
                self.engine.clock.now(),
                tokens,
                endings,
                list(progress),
                scheduler.num_running,
                scheduler.num_waiting,
                scheduler.kv.num_free,
                seconds,
            )
        )

    def _obey(self, message: ToEngine) -> None:
        match message:
            case Submit():
                self._submit(message)
            case Cancel(id=name, stop=stop):
                events = self.engine.cancel(name, Finish.STOP if stop else Finish.CANCELLED)
                self._report(events)
            case Use():
                self._use(message)
            case Stop():
                self.going = False

    def _submit(self, message: Submit) -> None:
        now = self.engine.clock.now()
        try:
            params = params_from_wire(message.params)
            who = {"priority": message.priority, "client": message.client, "cache_salt": message.cache_salt}
            events = self.engine.submit(Request(message.id, tuple(message.prompt), params, now, **who))  # type: ignore[arg-type]
        except OrcinusError as error:
            events = [Finished(message.id, Finish.REJECTED, now, str(error))]
        if message.deadline is not None:
            heapq.heappush(self._deadlines, (now + message.deadline, message.id))
        if events:
            self._report(events)

    def _cancel_late(self) -> None:
        """End the requests whose time is up; those that ended before are unknown by now, which does no harm."""
        now = self.engine.clock.now()
        while self._deadlines and self._deadlines[0][0] <= now:
            _, name = heapq.heappop(self._deadlines)
            events = self.engine.cancel(name)
            ended = [replace(e, error="deadline") if isinstance(e, Finished) and e.request_id == name else e for e in events]
            if ended:
                self._report(ended)

    def _use(self, message: Use) -> None:
        scheduler = self.engine.scheduler
        sizes = {"max_batch_size": message.max_batch_size, "max_batch_tokens": message.max_batch_tokens}
        try:
            limits = replace(scheduler.limits, **{name: size for name, size in sizes.items() if size is not None})
            policy = make_policy(message.policy) if message.policy is not None else None
            order = make_order(message.order) if message.order is not None else None
            self.engine.use(policy, order, limits)
        except OrcinusError as error:
            self._send(Refused(str(error)))
            return
        chosen = scheduler.limits
        self._send(Using(spell(scheduler.policy), spell(scheduler.order), chosen.max_batch_size, chosen.max_batch_tokens))

    def _send(self, message: FromEngine) -> None:
        self.socket.send(encode(message))


def main() -> None:
    """Build the engine that the configuration on standard input describes, and serve it at the address."""
    logging.basicConfig(level=logging.WARNING, format="engine: %(message)s")
    config = EngineConfig(**msgspec.json.decode(sys.stdin.buffer.read()))
    context = zmq.Context()
    socket: zmq.Socket[bytes] = context.socket(zmq.PAIR)
    socket.set_hwm(0)
    socket.connect(sys.argv[1])
    status = 0
    try:
        prompts = _Prompts()
        built = build(config, [prompts])
        socket.send(encode(_ready(built)))
        EngineProcess(socket, built, prompts).run()
    except OrcinusError as error:
        socket.send(encode(Failed(str(error))))
        status = 1
    except Exception as error:
        log.exception("the engine stopped")
        socket.send(encode(Failed(f"the engine stopped: {type(error).__name__}")))
        status = 1
    socket.close(linger=2000)
    context.term()
    sys.exit(status)


def _ready(built: Built) -> Ready:
    resolved = built.resolved
    return Ready(
        max_model_len=resolved.limits.max_model_len,
        vocab_size=resolved.vocab_size,
        kv_tokens=resolved.kv_tokens,
        num_blocks=resolved.num_blocks,
    )


if __name__ == "__main__":
    main()
