"""HTTP clients of a server at a URL, and of one in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from orcinus.config import EngineConfig
from orcinus.serve.config import ServerConfig
from orcinus.serve.in_process import in_process_app
from orcinus.server_address import authorization, server_url

CONNECT_S, READ_S = 10, 3600  # a whole answer may take long


@asynccontextmanager
async def in_process_client(config: EngineConfig, server: ServerConfig) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server in this process, for the block.

    Requests pass through the server's whole application, without a socket. Raises `ConfigError` or `ModelError`.
    """
    async with in_process_app(config, server) as app:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=None) as http:
            yield http


@asynccontextmanager
async def remote_client(url: str, key: str | None, in_flight: int) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the server at a URL, for the block.

    The URL may end in `/v1`. Raises `ConfigError` if it is none, or if no header may carry the key.
    """
    async with httpx.AsyncClient(
        base_url=server_url(url),
        headers=authorization(key),
        timeout=httpx.Timeout(READ_S, connect=CONNECT_S, pool=None),
        limits=httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight),
    ) as http:
        yield http
