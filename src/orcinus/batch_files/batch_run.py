"""A batch: the lines that are left, sent with many in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

from orcinus.batch_files.batch_line import BatchLine, LineError, numbered_lines, parse_line
from orcinus.batch_files.line_client import LineClient
from orcinus.batch_files.result_file import ResultFile


def pending_lines(file: Path, results: ResultFile) -> Iterator[BatchLine | LineError]:
    """The lines without a response, and the errors of those that cannot be sent.

    The file is read line by line; only the ids stay in memory. Raises `ConfigError` if it cannot be read.
    """
    seen: set[str] = set()
    for number, raw in numbered_lines(file):
        try:
            line = parse_line(number, raw)
            if line.custom_id in seen:
                raise _duplicate(line)
        except LineError as error:
            seen.add(error.custom_id or "")
            yield error
            continue
        seen.add(line.custom_id)
        if line.custom_id not in results.done:
            yield line


def _duplicate(line: BatchLine) -> LineError:
    message = "an earlier line has this custom_id"
    return LineError(line.number, "duplicate_custom_id", message, param="custom_id", custom_id=line.custom_id)


async def run_batch(
    lines: Iterator[BatchLine | LineError], client: LineClient, results: ResultFile, in_flight: int, on_line: Callable[[], None]
) -> None:
    """Send the lines, at most `in_flight` at once, and write each response when it comes.

    `on_line` is called after each. Raises `RequestError` if the server is given up, and `OSError` if a line cannot be written.
    """

    async def worker() -> None:
        for line in lines:  # all workers take from one iterator
            try:
                if isinstance(line, LineError):
                    raise line
                results.add_response(line.custom_id, await client.send(line))
            except LineError as error:
                results.add_error(error)
                await asyncio.sleep(0)  # many wrong lines let others go on
            on_line()

    workers = [asyncio.create_task(worker()) for _ in range(in_flight)]
    try:
        await asyncio.gather(*workers)
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
