"""The server as an application of Ray Serve: `serve run orcinus.serve.ray_app:app model=Qwen/Qwen3-0.6B`.

Each replica of the deployment is a whole server without a socket: admission, text and metrics in the replica's process, the
engine in a process of its own. Ray's proxy takes the place of the HTTP server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray import serve
from ray.serve import Application
from starlette.types import ASGIApp, Receive, Scope, Send

from orcinus.errors import ConfigError
from orcinus.serve.app import make_app
from orcinus.serve.config import ServerConfig
from orcinus.serve.engines import Asked, served_name
from orcinus.serve.keys import KeySources
from orcinus.serve.opening import open_service
from orcinus.serve.option_words import options_of, typed
from orcinus.serve.replica_set import make_replica_set
from orcinus.serve.service import Service
from orcinus.serve.tracing import open_tracer

if TYPE_CHECKING:
    from orcinus.serve.otel import Tracer

RAYS = {"num_replicas": "int", "num_cpus": "float", "num_gpus": "float"}  # options of the deployment, and their types
MORE = 64  # requests beyond the queue that a replica is sent, to refuse them with Retry-After


def app(args: Mapping[str, Any]) -> Application:
    """The application with these options: those of `orcinus serve` by their names in Python, and Ray's `RAYS`.

    Keys may also come from `ORCINUS_API_KEY` in the environment of the replicas. Raises `ConfigError`.
    """
    config, asked = options_of({name: value for name, value in args.items() if name not in RAYS})
    rays = {name: typed(name, kind, args[name]) for name, kind in RAYS.items() if name in args}
    num_replicas = rays.pop("num_replicas", 1)

    def build() -> ASGIApp:
        return RayServer(config, asked)

    @serve.ingress(build)
    class Orcinus:
        """A server on one node."""

        async def check_health(self) -> None:
            self.app.check_health()  # type: ignore[attr-defined]  # which `ingress` adds

    deployment: Any = serve.deployment(
        Orcinus,
        num_replicas=num_replicas,
        ray_actor_options=rays,
        max_ongoing_requests=asked.max_queue + MORE,
        graceful_shutdown_timeout_s=asked.drain,
    )
    return deployment.bind()


class RayServer:
    """The ASGI application of one replica; its engines start and stop with its lifespan."""

    def __init__(self, config: Asked, asked: ServerConfig) -> None:
        self.config, self.asked = config, asked
        self._service: Service | None = None
        self._app: ASGIApp | None = None
        self._tracer: Tracer | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._app is not None:
            await self._app(scope, receive, send)

    def check_health(self) -> None:
        """Raise `ConfigError` if the replica has to be replaced: its engines are dead or silent."""
        if self._service is not None:
            silent = self._service.replicas.silent_s()
            if self._service.replicas.dead is not None or silent is not None:
                raise ConfigError(self._service.replicas.dead or f"the engine has been silent for {silent:.0f} s")

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._start()
        except Exception as error:
            await self._stop()
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        asked, sources = self.asked, KeySources(self.asked.api_key, self.asked.api_key_file, self.asked.admin_key_file)
        name = served_name(self.config, asked.served_model_name)
        replicas = make_replica_set(self.config, asked)
        self._service = Service(replicas, asked, name, sources.keys)
        self._tracer = open_tracer(asked.otlp_endpoint)
        self._app = make_app(self._service, [] if self._tracer is None else [self._tracer.record])
        self._tasks = [asyncio.create_task(job) for job in (sources.watch(), self._service.metrics.watch_loop())]
        await open_service(self._service)

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._service is not None:
            await self._service.replicas.close()
        if self._tracer is not None:
            self._tracer.close()
