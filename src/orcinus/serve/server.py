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
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from types import FrameType

import uvicorn

from orcinus.errors import ConfigError
from orcinus.serve.access_log import AccessLog
from orcinus.serve.app import make_app
from orcinus.serve.config import ServerConfig
from orcinus.serve.engines import Asked, served_name
from orcinus.serve.http_limits import BoundedProtocol
from orcinus.serve.keys import KeySources
from orcinus.serve.opening import open_service
from orcinus.serve.replica_set import ReplicaSet, make_replica_set
from orcinus.serve.service import Service
from orcinus.serve.supervisor import Death, Return

IDLE_CONNECTION_S = 75
LAST_WORDS_S = 3
LEAVE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Server(uvicorn.Server):
    """Uvicorn that drains at the first signal and exits at the second."""

    def __init__(self, config: uvicorn.Config, service: Service, sources: KeySources) -> None:
        super().__init__(config)
        self.service, self.sources = service, sources
        self.in_terminal = _has_terminal()
        self.told_to_leave: int | None = None  # the signal that said so
        self.cut_off = 0  # answers not completed
        self._draining: asyncio.Future[None] | None = None

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
        if sig == signal.SIGHUP and self.sources.files and not self.in_terminal:  # for a service, it means: read files again
            self.sources.refresh(changed=True)
            return
        inside = service.admission.answers
        if self.told_to_leave:
            service.calls.cut_off()
            self.cut_off, self.force_exit, self.should_exit = inside, True, True
            return
        self.told_to_leave = sig
        service.drain()
        if service.paused:  # waiting requests would never run
            service.replicas.pause(False)
        if inside:
            limit = f"{service.config.drain:g} s; a second signal cuts them off"
            print(f"draining: {inside} answers have {limit}", file=sys.stderr, flush=True)
        self._draining = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        """Exit when all answers are complete or the drain time is over."""
        until = time.monotonic() + self.service.config.drain
        while self.service.admission.answers and time.monotonic() < until and self.service.replicas.dead is None:
            await asyncio.sleep(0.02)
        if not self.force_exit:  # the second signal has counted what it cut off
            self.cut_off = self.service.calls.cut_off()
            self.should_exit = True


def run(config: Asked, asked: ServerConfig) -> None:
    """Serve, on uvloop's event loop where it exists. Raises what `serve` does."""
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        asyncio.run(serve(config, asked))
    else:
        uvloop.run(serve(config, asked))


async def serve(config: Asked, asked: ServerConfig) -> None:
    """Serve until a signal comes or the engine dies.

    Raises `ConfigError` if the server cannot start or its engine died.
    """
    sources = KeySources(asked.api_key, asked.api_key_file, asked.admin_key_file)
    asked.check_exposure(keys=bool(sources.keys))
    _allow_many_connections()
    with ExitStack() as opened:
        listener = opened.enter_context(_listen(asked))
        log = None if asked.access_log is None else opened.enter_context(closing(AccessLog(asked.access_log)))
        await _serve(config, asked, sources, listener, log)


async def _serve(
    config: Asked, asked: ServerConfig, sources: KeySources, listener: socket.socket, log: AccessLog | None
) -> None:
    where = f"http://{_shown(asked.host)}:{listener.getsockname()[1]}"
    name = served_name(config, asked.served_model_name)
    replicas = make_replica_set(config, asked)
    replicas.death_listeners.append(partial(_tell_of_death, replicas))
    replicas.return_listeners.append(partial(_tell_of_return, replicas))
    service = Service(replicas, asked, name, sources.keys)
    settings = uvicorn.Config(
        make_app(service, log),
        log_level="error",
        access_log=False,
        lifespan="off",
        http=BoundedProtocol,
        timeout_graceful_shutdown=LAST_WORDS_S,  # every answer has ended by then
        ws="none",
        timeout_keep_alive=IDLE_CONNECTION_S,
        server_header=False,
    )
    server = _Server(settings, service, sources)
    try:
        tasks = [asyncio.create_task(job) for job in (open_service(service), service.metrics.watch_loop())]
        tasks[0].add_done_callback(lambda task: _announce(task, server, where))
        tasks += [asyncio.create_task(job) for job in (_leave_with_engines(replicas, server), sources.watch())]
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
            raise ConfigError(f"stopped {when}: {server.cut_off} answers were cut off")
    finally:
        await replicas.close()


def _announce(opening: asyncio.Task[None], server: _Server, where: str) -> None:
    if opening.cancelled() or opening.exception() is not None:
        server.should_exit = True
    else:
        print(f"Serving {server.service.name} at {where}", flush=True)


def _tell_of_death(replicas: ReplicaSet, death: Death) -> None:
    """Report a dead engine on standard error, unless it is the end of the server."""
    if replicas.dead is not None:
        return
    count = len(death.requests)
    requests = f"{count} request{'s' * (count != 1)}"
    name = f"replica {death.replica}" if len(replicas.engines) > 1 else "the engine"
    if death.delay is None:
        left = f"{len(replicas.serving)} of {len(replicas.engines)}"
        then = f"{requests} moved, {left} replicas are left"
    else:
        then = f"{requests} go{'es' * (count == 1)} on, it is started again {f'in {death.delay:g} s' if death.delay else 'now'}"
    print(f"{name} is gone: {death.reason}; {then}", file=sys.stderr, flush=True)


def _tell_of_return(replicas: ReplicaSet, back: Return) -> None:
    name = f"replica {back.replica}" if len(replicas.engines) > 1 else "the engine"
    print(f"{name} serves again after {back.seconds:.1f} s", file=sys.stderr, flush=True)


async def _leave_with_engines(replicas: ReplicaSet, server: uvicorn.Server) -> None:
    """Exit when the last engine is dead.

    A supervisor can then restart the server.
    """
    while replicas.dead is None:
        await asyncio.sleep(0.2)
    server.should_exit = True


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
    except OSError as error:
        listener.close()
        where = f"{asked.host}:{asked.port}"
        raise ConfigError(f"cannot listen at {where}: {error.strerror or error}; choose another --host or --port") from None
    return listener
