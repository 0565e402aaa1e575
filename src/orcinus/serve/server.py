"""One server process: binds its port, starts its engine, answers, drains, and leaves an honest exit status."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import uvicorn

from orcinus.config import EngineConfig
from orcinus.errors import ConfigError
from orcinus.runtime.hub import find_model
from orcinus.serve.app import make_app
from orcinus.serve.engine_client import EngineClient
from orcinus.serve.service import Served, Service
from orcinus.text.generation import default_params
from orcinus.text.tokenizer import load_tokenizer
from orcinus.tiny import MODEL_DIR


@dataclass(frozen=True, slots=True)
class Binding:
    """Where to listen, and how long running requests may take when the server is told to go."""

    host: str = "127.0.0.1"
    port: int = 8000
    drain_s: float = 30.0


class _Server(uvicorn.Server):
    """Uvicorn, which drains at the first signal and leaves at the second, with a status of our choosing."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service
        self.cut_off = 0  # answers that the second signal ended

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sig, self.handle_exit, sig, None)
        try:
            yield
        finally:
            for sig in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(sig)
                signal.signal(sig, signal.SIG_IGN)  # it is leaving already

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.service.draining:
            self.force_exit, self.cut_off = True, self.service.client.live
        self.service.draining = self.should_exit = True


async def serve(config: EngineConfig, served: Served, binding: Binding) -> None:
    """Serve until a signal comes or the engine dies. Raises `ConfigError` if the server cannot start or its engine died."""
    listener = _listen(binding)
    folder = MODEL_DIR if config.model is None else find_model(config.model)
    loading = asyncio.get_running_loop().run_in_executor(None, load_tokenizer, folder)
    client = EngineClient(config)
    try:
        ready = await client.start()
        tokenizer = await loading
        if tokenizer is None:
            raise ConfigError(f"the model in {folder} has no tokenizer: it can be used from Python, but not served")
        client.decode = tokenizer.decode
        service = Service(client, tokenizer, default_params(folder), served, ready, config.seed)
        limits = {"timeout_graceful_shutdown": int(binding.drain_s), "h11_max_incomplete_event_size": 65536}
        settings = uvicorn.Config(make_app(service), log_level="warning", lifespan="off", **limits)  # type: ignore[arg-type]
        server = _Server(settings, service)
        print(f"Serving {served.model} at http://{binding.host}:{listener.getsockname()[1]}", flush=True)
        watch = asyncio.create_task(_leave_with_engine(client, server))
        await server.serve(sockets=[listener])
        watch.cancel()
        if client.dead is not None:
            raise ConfigError(f"the engine died: {client.dead}")
        if server.cut_off:
            raise ConfigError(f"stopped at the second signal: {server.cut_off} answers were cut off")
    finally:
        await client.close()
        listener.close()


async def _leave_with_engine(client: EngineClient, server: uvicorn.Server) -> None:
    """Without an engine there is nothing to serve: whoever watches this process should start it again."""
    while client.dead is None:
        await asyncio.sleep(0.2)
    server.should_exit = True


def _listen(binding: Binding) -> socket.socket:
    family = socket.AF_INET6 if ":" in binding.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((binding.host, binding.port))
        listener.listen(2048)  # who connects from now on waits for the model instead of being refused
    except OSError as error:
        listener.close()
        where = f"{binding.host}:{binding.port}"
        raise ConfigError(f"cannot listen at {where}: {error.strerror or error}; choose another --host or --port") from None
    return listener
