"""A server without a socket, for clients in the same process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp

from orcinus.serve.app import make_app
from orcinus.serve.config import ServerConfig
from orcinus.serve.engines import Asked, served_name
from orcinus.serve.keys import Keys
from orcinus.serve.opening import open_service
from orcinus.serve.replica_set import make_replica_set
from orcinus.serve.service import Service


@asynccontextmanager
async def in_process_app(config: Asked, asked: ServerConfig) -> AsyncIterator[ASGIApp]:
    """The server's application, whose engines stand, for the block.

    It asks for no key. Raises `ConfigError` or `ModelError` if an engine cannot start.
    """
    name = served_name(config, asked.served_model_name)
    replicas = make_replica_set(config, asked)
    service = Service(replicas, asked, name, Keys())
    try:
        await open_service(service)
        yield make_app(service)
    finally:
        await replicas.close()
