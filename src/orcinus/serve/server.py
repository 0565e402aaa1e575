"""The server process: bind, start the engine, serve, drain, exit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Collection, Coroutine, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

import uvicorn

from orcinus.errors import ConfigError, OrcinusError, plural
from orcinus.serve.access_log import AccessLog
from orcinus.serve.app import make_app
from orcinus.serve.config import ServerConfig
from orcinus.serve.engines import Asked, served_name
from orcinus.serve.handover import Offer, Predecessor, ServerPlace, place_of
from orcinus.serve.http_limits import BoundedProtocol
from orcinus.serve.keys import KeySources
from orcinus.serve.opening import open_service
from orcinus.serve.replica_set import ReplicaSet, make_replica_set
from orcinus.serve.service import Service
from orcinus.serve.service_manager import notify
from orcinus.serve.supervisor import Death, Return
from orcinus.serve.tracing import open_tracer

if TYPE_CHECKING:
    from orcinus.serve.otel import Tracer

IDLE_CONNECTION_S = 75
LAST_WORDS_S = 3
LOOK_S = 0.02  # between two looks at what is awaited
LOADING_S = 5.0  # between two lines about a model that is loading
QUIET_S = 5.0  # a replaced server leaves when its connections have asked for nothing so long
LOST_PEERS = {
    "TCP_KEEPIDLE": 60,
    "TCP_KEEPINTVL": 15,
    "TCP_KEEPCNT": 4,  # silence in seconds, then so many probes
    "TCP_USER_TIMEOUT": 60_000,  # milliseconds that bytes may be unacknowledged
}
LEAVE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Server(uvicorn.Server):
    """Uvicorn that drains at the first signal, exits at the second, and hands its place over.

    With a predecessor it accepts nothing before its model is loaded or the predecessor gone.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        sources: KeySources,
        log: AccessLog | None = None,
        predecessor: Predecessor | None = None,
    ) -> None:
        super().__init__(config)
        self.service, self.sources, self.log, self.predecessor = service, sources, log, predecessor
        files = bool(sources.files) or (log is not None and log.is_file)
        self.rereads = _outlives_terminal() or (files and not _has_terminal())  # what SIGHUP means
        self.in_place = asyncio.Event()  # it accepts connections, and no predecessor does
        self.told_to_leave: int | None = None  # the signal that said so
        self.cut_off = 0  # answers not completed
        self._leaving: asyncio.Future[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        before = self.predecessor
        while before is not None and not (self.should_exit or self.service.loaded or before.gone):
            await asyncio.sleep(LOOK_S)
        if self.should_exit:
            return
        await super().startup(sockets)
        if before is not None:
            if self.service.loaded:  # a service manager must know who is left before one ends
                notify(MAINPID=os.getpid(), READY=1)
            await before.dismiss()
        self.in_place.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for sig in LEAVE:
            loop.add_signal_handler(sig, self.handle_exit, sig, None)
        try:
            yield
        finally:
            for sig in LEAVE:
                loop.remove_signal_handler(sig)
                signal.signal(sig, signal.SIG_IGN)  # it is leaving already

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        service = self.service
        if sig == signal.SIGHUP and self.rereads:
            self._reread()
            return
        inside = service.admission.answers
        if self.told_to_leave:
            service.calls.cut_off()
            self.cut_off, self.force_exit, self.should_exit = inside, True, True
            return
        self.told_to_leave = sig
        if inside:
            limit = f"{service.config.drain:g} s; a second signal cuts them off"
            _say(f"draining: {plural(inside, 'answer')} may take {limit}")
        if self._leaving is None:
            notify(STOPPING=1)
            self._leave(self._refuse_after_delay(), service.config.drain_delay + service.config.drain)

    def _reread(self) -> None:
        """Read the key files and open the access log again; what is broken stays as it was."""
        self.sources.refresh(changed=True)
        reopened = self.log is not None and self.log.reopen()
        done = "key files are read again" * bool(self.sources.files), "the access log is open again" * reopened
        said = ", ".join(filter(None, done)) or "there is nothing to read again"
        _say(f"SIGHUP: {said}; options change with --replace {os.getpid()}")

    def replaced_by(self, pid: int) -> None:
        """Accept no more connections: another process does. Answers, and requests on connections that are open, go on."""
        for server in self.servers:
            server.close()
        left = f"{plural(self.service.admission.answers, 'answer')} may take {self.service.config.drain:g} s"
        _say(f"process {pid} serves in place of this one; {left}")
        if self._leaving is None:
            self._leave(self._serve_open_connections(), self.service.config.drain)

    def _leave(self, first: Coroutine[Any, Any, None], within_s: float) -> None:
        """Be no longer ready; after `first` refuse requests, and exit when all answers are complete or the time is over."""
        service = self.service
        service.leave()
        service.replicas.settings.set_pace(paused=False, min_seconds=0.0)  # or waiting requests would never run
        self._leaving = asyncio.ensure_future(self._drain_after(first, time.monotonic() + within_s))

    async def _refuse_after_delay(self) -> None:
        """Serve all that comes for `--drain-delay` seconds, then refuse requests."""
        until = time.monotonic() + self.service.config.drain_delay
        while time.monotonic() < until and not self.force_exit:
            await asyncio.sleep(LOOK_S)

    async def _serve_open_connections(self) -> None:
        """Serve what comes on open connections until they close: each learns with its next response that this is its last."""
        until, busy = time.monotonic() + self.service.config.drain, time.monotonic()
        while self.server_state.connections and time.monotonic() < min(until, busy + QUIET_S) and not self.force_exit:
            if self.service.admission.answers:
                busy = time.monotonic()
            await asyncio.sleep(LOOK_S)

    async def _drain_after(self, first: Coroutine[Any, Any, None], until: float) -> None:
        await first
        self.service.drain()
        while self.service.admission.answers and time.monotonic() < until and self.service.replicas.dead is None:
            await asyncio.sleep(LOOK_S)
        if not self.force_exit:  # the second signal has counted what it cut off
            self.cut_off = self.service.calls.cut_off()
            self.should_exit = True


def run(config: Asked, asked: ServerConfig, said: Collection[str] = ()) -> None:
    """Serve, on uvloop's event loop where it exists. Raises what `serve` does."""
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        asyncio.run(serve(config, asked, said))
    else:
        uvloop.run(serve(config, asked, said))


async def serve(config: Asked, asked: ServerConfig, said: Collection[str] = ()) -> None:
    """Serve until a signal comes, another server takes over, or the engine dies.

    `said` names the options that the user gave. Raises `ConfigError` if the server cannot start or its engine died.
    """
    sources = KeySources(asked.api_key, asked.api_key_file, asked.admin_key_file)
    with ExitStack() as opened:
        predecessor = None if asked.replace is None else opened.enter_context(Predecessor(asked.replace))
        if predecessor is not None:
            asked = predecessor.adopt(asked, said)
            predecessor.check_record(config.record)
        asked.check_exposure(keys=bool(sources.keys))
        _allow_many_connections()
        listener = opened.enter_context(_listen(asked)) if predecessor is None else predecessor.listener
        log = None if asked.access_log is None else opened.enter_context(closing(AccessLog(asked.access_log)))
        tracer = open_tracer(asked.otlp_endpoint)
        if tracer is not None:
            opened.callback(tracer.close)
        try:
            await _serve(config, asked, sources, listener, log, tracer, predecessor)
        except OrcinusError as error:
            if predecessor is None or predecessor.dismissed or predecessor.gone:
                raise
            raise ConfigError(f"{error}; process {predecessor.pid} goes on serving") from None


async def _serve(
    config: Asked,
    asked: ServerConfig,
    sources: KeySources,
    listener: socket.socket,
    log: AccessLog | None,
    tracer: Tracer | None,
    predecessor: Predecessor | None,
) -> None:
    where = f"http://{_shown(asked.host)}:{listener.getsockname()[1]}"
    name = served_name(config, asked.served_model_name)
    replicas = make_replica_set(config, asked)
    replicas.death_listeners.append(partial(_tell_of_death, replicas))
    replicas.return_listeners.append(partial(_tell_of_return, replicas))
    service = Service(replicas, asked, name, sources.keys)
    settings = uvicorn.Config(
        make_app(service, [one.record for one in (log, tracer) if one is not None]),
        log_level="error",
        access_log=False,
        lifespan="off",
        http=BoundedProtocol,
        timeout_graceful_shutdown=LAST_WORDS_S,  # every answer has ended by then
        ws="none",
        timeout_keep_alive=IDLE_CONNECTION_S,
        server_header=False,
    )
    server = _Server(settings, service, sources, log, predecessor)
    place = place_of(listener, asked.host, config.record)
    try:
        tasks = [asyncio.create_task(job) for job in (_open(service, server), service.metrics.watch_loop())]
        tasks[0].add_done_callback(lambda task: _announce(task, server, where))
        jobs = (
            _leave_with_engines(replicas, server),
            sources.watch(),
            _offer(server, listener, place),
            _tell_of_loading(service),
        )
        tasks += [asyncio.create_task(job) for job in jobs]
        await server.serve(sockets=[listener])
        opening = tasks[0]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not opening.cancelled() and (error := opening.exception()) is not None:
            raise error
        if server.told_to_leave == signal.SIGINT and not service.loaded:
            raise KeyboardInterrupt
        if replicas.dead is not None:
            raise ConfigError(f"the engine died: {replicas.dead}")
        if server.cut_off:
            when = "at the second signal" if server.force_exit else f"after {asked.drain:g} s"
            raise ConfigError(f"stopped {when}: {plural(server.cut_off, 'answer')} cut off")
    finally:
        await replicas.close()


async def _open(service: Service, server: _Server) -> None:
    await open_service(service)
    await server.in_place.wait()


async def _offer(server: _Server, listener: socket.socket, place: ServerPlace) -> None:
    """Offer the place of a server that serves."""
    await server.in_place.wait()
    await Offer(listener, place, server.replaced_by).stand()


def _announce(opening: asyncio.Task[None], server: _Server, where: str) -> None:
    if opening.cancelled() or opening.exception() is not None:
        server.should_exit = True
    else:
        _say(f"Serving {server.service.name} at {where}", sys.stdout)
        notify(READY=1, MAINPID=os.getpid())


async def _tell_of_loading(service: Service) -> None:
    """Say on standard error what takes so long until the model is loaded."""
    began = time.monotonic()
    await asyncio.sleep(LOADING_S)
    while not service.loaded:
        _say(f"loading for {time.monotonic() - began:.0f} s: {service.replicas.loading.in_words}")
        await asyncio.sleep(LOADING_S)


def _tell_of_death(replicas: ReplicaSet, death: Death) -> None:
    """Report a dead engine on standard error, unless it is the end of the server."""
    if replicas.dead is not None:
        return
    count = len(death.requests)
    requests = plural(count, "request")
    name = f"replica {death.replica}" if len(replicas.engines) > 1 else "the engine"
    if death.delay is None:
        left = f"{len(replicas.serving)} of {len(replicas.engines)}"
        then = f"{requests} moved, {left} replicas are left"
    else:
        then = f"{requests} go{'es' * (count == 1)} on, it is started again {f'in {death.delay:g} s' if death.delay else 'now'}"
    _say(f"{name} is gone: {death.reason}; {then}")


def _tell_of_return(replicas: ReplicaSet, back: Return) -> None:
    name = f"replica {back.replica}" if len(replicas.engines) > 1 else "the engine"
    _say(f"{name} serves again after {back.seconds:.1f} s")


def _say(line: str, to: TextIO | None = None) -> None:
    """Print a line, on standard error by default. Where no one reads any more, the server goes on."""
    with contextlib.suppress(OSError):
        print(line, file=to or sys.stderr, flush=True)


async def _leave_with_engines(replicas: ReplicaSet, server: uvicorn.Server) -> None:
    """Exit when the last engine is dead.

    A supervisor can then restart the server.
    """
    while replicas.dead is None:
        await asyncio.sleep(0.2)
    server.should_exit = True


def _outlives_terminal() -> bool:
    """Whether this process was started to ignore the end of its terminal, as `nohup` does."""
    return signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def _has_terminal() -> bool:
    """Whether this process has a terminal, whose end SIGHUP then means."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _allow_many_connections() -> None:
    """Raise the limit of open files as far as allowed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _listen(asked: ServerConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in asked.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((asked.host, asked.port))
        listener.listen(2048)  # a burst of connections waits instead of being refused
        _find_lost_peers(listener)
    except OSError as error:
        listener.close()
        where = f"{asked.host}:{asked.port}"
        raise ConfigError(f"cannot listen at {where}: {error.strerror or error}; choose another --host or --port") from None
    return listener


def _find_lost_peers(listener: socket.socket) -> None:
    """Let the kernel close accepted connections whose other side is gone without a word, within a minute or two.

    Accepted sockets inherit these options; systems that lack one wait longer.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in LOST_PEERS.items():
        if hasattr(socket, name):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
