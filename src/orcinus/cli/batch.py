"""`orcinus batch`: a file of requests in, a file of responses out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from orcinus import interrupt
from orcinus.cli.explicit_options import explicit_options, refuse
from orcinus.cli.options import takes_engine, takes_some
from orcinus.cli.progress import progress
from orcinus.cli.terminal_text import harmless
from orcinus.config import EngineConfig
from orcinus.distribution import needs
from orcinus.errors import ConfigError, RequestError
from orcinus.serve.config import ServerConfig
from orcinus.server_address import KEYS

if TYPE_CHECKING:
    import httpx

    from orcinus.batch_files.result_file import ResultFile

SERVER = ["replicas", "router", "served_model_name", "timeout", "strict"]
IN_PROCESS = [*(f.name for f in fields(EngineConfig)), *SERVER]
REMOTE_IN_FLIGHT = 64
MOST_ANSWERS, UNBOUNDED = 256, 2**62  # answers of one line; tokens of all of them
GOES_ON = "; the same command goes on from there"


@takes_some("server", ServerConfig, SERVER)
@takes_engine()
def batch(
    context: typer.Context,
    requests: Annotated[Path, typer.Argument(metavar="IN", help="File of requests, in OpenAI's batch format: JSON lines.")],
    responses: Annotated[Path, typer.Argument(metavar="OUT", help="File for the responses. One that exists is continued.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin OUT anew instead of continuing it.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also send lines again that OUT has an error for.")
    ] = False,
    in_flight: Annotated[
        int | None,
        typer.Option(help="Most lines in flight. Default: twice the batch size, for each replica; with --url 64.", min=1),
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="Send them to this server instead: http://127.0.0.1:8000")] = None,
    api_key: Annotated[str | None, typer.Option("--api-key", help="Its API key.", envvar=KEYS)] = None,
    patience: Annotated[
        float, typer.Option(help="Seconds without any response after which a full or unreachable server is given up.", min=0)
    ] = 600.0,
    *,
    server: dict[str, Any],
    config: EngineConfig,
) -> None:
    """Answer a file of requests, with the model in this process or a server.

    Each line of IN is `{"custom_id": …, "method": "POST", "url": "/v1/chat/completions", "body": {…}}`; completions and
    responses have URLs of their own. Each line of OUT is a response, in the order in which they come. A run that was
    interrupted goes on where it was. The status is 1 if a line failed; the others are answered all the same.
    Example: `orcinus batch requests.jsonl responses.jsonl`
    """
    said = explicit_options(context)
    if url is not None:
        refuse(said, IN_PROCESS, f"would have no effect on the server at {url}: leave it out")
    if server["replicas"] == 1:
        refuse(said, ["router"], "chooses among replicas: add --replicas, or leave it out")
    _check_files(requests, responses)
    in_flight = in_flight or (2 * config.max_batch_size * server["replicas"] if url is None else REMOTE_IN_FLIGHT)
    asked = ServerConfig(**server, max_queue=MOST_ANSWERS * in_flight, max_queue_tokens=UNBOUNDED)
    with needs("orcinus batch", "serve"):
        from orcinus.batch_files.http_clients import in_process_client, remote_client
        from orcinus.batch_files.result_file import ResultFile

    with ResultFile(responses, overwrite=overwrite, retry_failed=retry_failed) as results:
        http = in_process_client(config, asked) if url is None else remote_client(url, api_key, in_flight)
        try:
            _run(http, requests, results, in_flight, patience)
        except KeyboardInterrupt:
            Console(stderr=True).print(_count(results) + GOES_ON, soft_wrap=True, highlight=False)
            raise
        except RequestError as error:
            raise RequestError(f"{error}; {_count(results)}{GOES_ON}") from None
        Console().print(_count(results), soft_wrap=True, highlight=False)
        if results.first_failure is not None:
            errors = Console(stderr=True)
            errors.print(Text(harmless(f"the first failure: {results.first_failure}", errors)), soft_wrap=True)
    raise typer.Exit(1 if results.failed else 0)


def _check_files(requests: Path, responses: Path) -> None:
    """Raise `ConfigError` for a file that is no file, or for one file as both."""
    if not requests.is_file():
        raise ConfigError(f"cannot read requests from {requests}: there is no such file")
    if responses.exists() and responses.samefile(requests):
        raise ConfigError(f"{requests} is the file of requests: name another one for the responses")


def _count(results: ResultFile) -> str:
    return f"{results.path}: {results.succeeded} answered, {results.failed} failed"


def _run(
    http: AbstractAsyncContextManager[httpx.AsyncClient], requests: Path, results: ResultFile, in_flight: int, patience: float
) -> None:
    """Answer the lines that have no response. An engine starts only if there are any."""
    from orcinus.batch_files.batch_run import pending_lines, run_batch
    from orcinus.batch_files.line_client import LineClient

    left = sum(1 for _ in pending_lines(requests, results))
    if not left:
        return

    async def answer_all(on_line: Callable[[], None]) -> None:
        async with http as client:
            lines = pending_lines(requests, results)
            await run_batch(lines, LineClient(client, patience), results, min(in_flight, left), on_line)

    interrupt.raise_exception()
    with progress() as bars:
        shown, before = bars.bar("lines", left), results.succeeded + results.failed
        _run_loop(answer_all(lambda: shown(results.succeeded + results.failed - before)))


def _run_loop(job: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on uvloop's event loop if installed, else asyncio's."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(job)
    else:
        uvloop.run(job)
