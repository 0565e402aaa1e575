"""`orcinus top`: a running server in the terminal, live."""

from __future__ import annotations

import json
import time
from collections import deque
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from orcinus import interrupt
from orcinus.cli.server_metrics import Scrape, ScrapeWindow, ServerMetrics
from orcinus.cli.top_view import as_json, picture
from orcinus.errors import EngineError

KEYS = ["ORCINUS_ADMIN_KEY", "ORCINUS_API_KEY"]
WINDOW_S = 10.0  # of latencies and shares in the live picture


def top(
    url: Annotated[str, typer.Argument(help="Address of the server, with or without /v1.")] = "http://127.0.0.1:8000",
    api_key: Annotated[str | None, typer.Option("--api-key", help="One of its admin keys.", envvar=KEYS)] = None,
    interval: Annotated[float, typer.Option("--interval", "-i", min=0.1, max=3600, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one picture and leave, as without a terminal.")] = False,
    as_json_: Annotated[bool, typer.Option("--json", help="Print it as one JSON object and leave.")] = False,
) -> None:
    """Show what a server of Orcinus does: queue, batch, token budget, K/V memory, latencies, promises, replicas.

    Rates are those since the last look; latencies and shares those of the last ten seconds, and in a single picture those since
    the server began. A server that goes away is waited for. Ctrl-C leaves.
    Example: `orcinus top http://127.0.0.1:8000`
    """  # fmt: skip
    server, console = ServerMetrics(url, api_key), Console(highlight=False)
    interrupt.raise_exception()
    try:
        if once or as_json_ or not console.is_terminal:
            _once(server, console, interval, as_json_)
        else:
            _live(server, console, interval)
    except EngineError as error:
        raise EngineError(f"{error}; is the server running?") from None
    finally:
        server.close()


def _once(server: ServerMetrics, console: Console, interval: float, in_json: bool) -> None:
    before = server.scrape()
    time.sleep(interval)
    now = server.scrape()
    recent, whole = ScrapeWindow(before, now), ScrapeWindow(Scrape(), now)
    if in_json:
        print(json.dumps(as_json(recent, whole), ensure_ascii=False))
    else:
        width = console.width if console.is_terminal else 1000
        console.print(picture(recent, whole, server.url, width), soft_wrap=not console.is_terminal)


def _live(server: ServerMetrics, console: Console, interval: float) -> None:
    """Draw until Ctrl-C. A server that answered once may go away and come back."""
    history, trouble = deque([server.scrape()]), None
    with Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                previous, now = history[-2 if len(history) > 1 else 0], history[-1]
                recent, whole = ScrapeWindow(previous, now), ScrapeWindow(history[0], now)
                live.update(picture(recent, whole, server.url, console.width, trouble), refresh=True)
                time.sleep(interval)
                try:
                    history.append(server.scrape())
                    trouble = None
                except EngineError as error:
                    trouble = f"trying again: {error}"
                while len(history) > 2 and history[-1].at - history[1].at >= WINDOW_S:
                    history.popleft()
        except KeyboardInterrupt:
            return
