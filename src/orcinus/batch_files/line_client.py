"""Sends lines to a server, again when it refuses them for now."""

from __future__ import annotations

import email.utils
import random
import time
from asyncio import sleep
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import msgspec

from orcinus.batch_files.batch_line import BatchLine, LineError
from orcinus.batch_files.result_file import LineResponse, error_of
from orcinus.errors import RequestError, one_line

REFUSED_FOR_NOW = {429, 503}
SERVER_ERRORS = {500, 502, 504}
UNAUTHORIZED = 401
ENGINE_DEAD = "engine_dead"  # our server's word: it refuses everything from now on
MOST_TRIES = 3  # of a line that breaks the connection or is answered by a server error
FIRST_WAIT_S, MOST_WAIT_S = 0.5, 30.0  # between tries, if the server does not say
REFUSAL_S = 5.0  # a request that is open for longer is being worked on
JSON = {"Content-Type": "application/json"}


class _NotNow(Exception):
    """The server is full, loading or gone; `seconds` if it says when to come again."""

    def __init__(self, reason: str, seconds: float | None = None) -> None:
        super().__init__(reason)
        self.seconds = seconds


class LineClient:
    """Sends lines over one HTTP client.

    A line that is refused for now, with 429 or 503, is sent again after `Retry-After`, as often as it takes. The server is
    given up if no line has had a response for `patience_s` and it works on none.
    """

    def __init__(self, http: httpx.AsyncClient, patience_s: float) -> None:
        self.http, self.patience_s = http, patience_s
        self._last_response = time.monotonic()
        self._open: dict[int, float] = {}  # line -> when it was sent

    async def send(self, line: BatchLine) -> LineResponse:
        """The server's response, which may be an error.

        Raises `LineError` if the line breaks every connection, and `RequestError` if the server is given up or refuses the key.
        """
        refusals = failures = 0
        while True:
            try:
                response = await self._post(line)
            except _NotNow as refusal:
                self._check_patience(str(refusal))
                refusals += 1
                await _sleep(refusal.seconds, refusals)
                continue
            except httpx.HTTPError as error:
                failures += 1
                if failures == MOST_TRIES:
                    message = f"the connection broke off {failures} times: {one_line(error)}"
                    raise LineError(line.number, "connection_error", message, custom_id=line.custom_id) from None
            else:
                failures += response.status_code in SERVER_ERRORS
                if response.status_code not in SERVER_ERRORS or failures == MOST_TRIES:
                    return response
            await _sleep(None, failures)

    async def _post(self, line: BatchLine) -> LineResponse:
        """Send a line once.

        Raises `_NotNow`, `httpx.HTTPError` if the connection breaks off, or `RequestError` if no line will be answered.
        """
        try:
            with self._opened(line):
                response = await self.http.post(line.url, content=line.body, headers=JSON)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _NotNow(f"no answer from {self.http.base_url}: {one_line(error)}") from None
        message, code = error_of(response.content) if response.is_error else ("", None)
        said = f"the server answers {response.status_code}: {message or response.reason_phrase}"
        if response.status_code == UNAUTHORIZED or code == ENGINE_DEAD:
            raise RequestError(said)
        if response.status_code in REFUSED_FOR_NOW:
            raise _NotNow(said, retry_after(response.headers.get("retry-after")))
        self._last_response = time.monotonic()
        return LineResponse(response.status_code, response.headers.get("x-request-id"), _body(response))

    @contextmanager
    def _opened(self, line: BatchLine) -> Iterator[None]:
        self._open[line.number] = time.monotonic()
        try:
            yield
        finally:
            del self._open[line.number]

    def _check_patience(self, reason: str) -> None:
        now = time.monotonic()
        working = any(now - sent > REFUSAL_S for sent in self._open.values())
        if now - self._last_response > self.patience_s and not working:
            raise RequestError(f"no line had a response for {self.patience_s:g} s; {reason}")


async def _sleep(told: float | None, times: int) -> None:
    """Wait as told, or twice as long each time; not all lines equally long."""
    seconds = min(MOST_WAIT_S, FIRST_WAIT_S * 2 ** (times - 1)) if told is None else told
    await sleep(seconds * random.uniform(1.0, 1.1))


def retry_after(header: str | None) -> float | None:
    """Seconds in a Retry-After header, which may be a date; None without one."""
    if header is None:
        return None
    try:
        return max(0.0, float(header)) if header.strip().isdigit() else _until(header)
    except (ValueError, TypeError):
        return None


def _until(date: str) -> float:
    then = email.utils.parsedate_to_datetime(date)
    return max(0.0, (then.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def _body(response: httpx.Response) -> msgspec.Raw:
    """The body as JSON in one line; one that is no JSON as a string."""
    try:
        return msgspec.Raw(msgspec.json.format(response.content, indent=-1))
    except msgspec.DecodeError:
        return msgspec.Raw(msgspec.json.encode(response.text))
