"""`orcinus conformance`: a checklist for OpenAI-compatible servers."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from orcinus.distribution import needs
from orcinus.errors import ConfigError
from orcinus.server_address import KEYS

if TYPE_CHECKING:
    from orcinus.conformance.checklist import CheckResult
    from orcinus.conformance.target import ServerUnderTest

STYLES = {"pass": "green", "FAIL": "bold red", "skip": "dim"}


def conformance(
    url: Annotated[
        str, typer.Option("--url", "-u", help="Address of the server, with or without /v1.")
    ] = "http://127.0.0.1:8000",
    api_key: Annotated[str | None, typer.Option("--api-key", envvar=KEYS, help="The server's API key.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Model to ask. Default: the first that is listed.")] = None,
    only: Annotated[
        str, typer.Option("--only", "-k", metavar="PATTERN", help="Only checks whose name matches this regular expression.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per check.")] = False,
) -> None:
    """Check whether a server does what clients of the OpenAI API expect.

    Any server will do; checks of what only Orcinus has are skipped elsewhere. The status is 1 if a check failed.
    Example: `orcinus conformance --url http://127.0.0.1:8000 --only streaming`
    """  # fmt: skip
    with needs("the checklist", "serve"):
        from orcinus.conformance.checklist import chosen, run

    try:
        checks = chosen(only)
    except re.error as error:
        raise ConfigError(f"--only {only!r} is not a regular expression: {error}") from None
    if not checks:
        raise ConfigError(f"no check has a name that matches {only!r}")
    target, began = _reach(url, api_key, model), time.monotonic()
    console = Console()
    counts = Counter(_show(run(one, target), console, as_json).outcome for one in checks)
    target.close()
    if not as_json:
        summary = f"{counts['pass']} passed, {counts['FAIL']} failed, {counts['skip']} skipped"
        where = f"{target.url}, model {target.model}"
        console.print(f"\n{where}: {summary} in {time.monotonic() - began:.0f} s", highlight=False, soft_wrap=True)
    raise typer.Exit(1 if counts["FAIL"] else 0)


def _reach(url: str, api_key: str | None, model: str | None) -> ServerUnderTest:
    import httpx

    from orcinus.conformance.target import ServerUnderTest
    from orcinus.conformance.verdict import Failed

    try:
        return ServerUnderTest(url, api_key, model)
    except ConfigError:
        raise
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConfigError(f"cannot reach {url}: {error}") from None
    except (Failed, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{url} is not an OpenAI-compatible server, or does not let us in: {error}") from None


def _show(result: CheckResult, console: Console, as_json: bool) -> CheckResult:
    if as_json:
        print(json.dumps(result.as_json(), ensure_ascii=False), flush=True)
    else:
        why = f": {result.why}" if result.why else ""
        console.print(Text.assemble((result.outcome, STYLES[result.outcome]), f"  {result.name}", (why, "dim")), soft_wrap=True)
    return result
