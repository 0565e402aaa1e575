"""Records of iterations: files of JSON lines, for traces and replays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from orcinus.core.batch import Batch, BatchResult, Event, Finished, Submitted, in_turn
from orcinus.core.ports import Observer
from orcinus.core.request import Finish, RequestContext
from orcinus.core.unserved import Unserved
from orcinus.core.view import Limits
from orcinus.errors import ConfigError

VERSION = 2
READABLE = (1, 2)


class StepRecorder(Observer):
    """Records an engine: one JSON line per event.

    The first line describes the engine; the others are submissions, cancellations, switches, launches, returns and endings.
    A line costs microseconds and goes through the file's buffer; the record is complete after `close`. Times are seconds on
    the engine's clock. `engine` says what the engine was built with, as `replay` needs it. A caller that learns this only by
    building it opens the file first and calls `describe` later. Every method raises `ConfigError` if the file cannot be
    written.
    """

    def __init__(self, path: str | Path, engine: Mapping[str, Any] | None = None) -> None:
        self._path = path
        try:
            self._file: TextIO = open(path, "w", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise self._unwritable(error) from None
        if engine is not None:
            self.describe(engine)

    def describe(self, engine: Mapping[str, Any]) -> None:
        """Write the first line, which describes the engine."""
        self._write("engine", {"version": VERSION, **engine})

    def on_submit(self, submitted: Submitted) -> None:
        params = {key: value for key, value in _params(submitted).items() if value is not None}
        given = {"at": submitted.at, "id": submitted.request_id, "prompt": submitted.prompt, "params": params}
        earlier = {"output": submitted.output} if submitted.output else {}
        self._write("submit", given | _context(submitted.context) | earlier)

    def on_cancel(self, request_id: str, reason: Finish, now: float) -> None:
        self._write("cancel", {"at": now, "id": request_id, "reason": reason})

    def on_use(self, policy: str, order: str, limits: Limits, now: float) -> None:
        self._write("use", {"at": now, "policy": policy, "order": order, "limits": asdict(limits)})

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        self._write(
            "launch",
            {
                "at": now,
                "batch": batch.id,
                "chunks": chunk_lines(batch),
                "waiting": unserved.num_waiting,
                "running": unserved.num_running,
                "free_blocks": unserved.free_blocks,
                "why": dict(unserved.reasons),
                "others": unserved.others,
                **_block_lines(batch),
            },
        )

    def on_step(self, batch: Batch, result: BatchResult, now: float) -> None:
        failed = {"errors": {row: list(failure) for row, failure in result.errors.items()}} if result.errors else {}
        self._write("return", {"at": now, "batch": batch.id, "tokens": result.tokens, **failed})

    def on_events(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Finished):
                self._write("finish", {"at": event.at, "id": event.request_id, "reason": event.reason})

    def on_close(self) -> None:
        self.close()

    def close(self) -> None:
        """Write the buffer's rest and close the file."""
        with self._writing():
            self._file.close()

    def _write(self, kind: str, content: Mapping[str, Any]) -> None:
        with self._writing():
            self._file.write(json.dumps({"kind": kind, **content}, separators=(",", ":")) + "\n")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            with suppress(OSError):
                self._file.close()
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> ConfigError:
        return ConfigError(f"cannot record to {self._path}: {error.strerror or error}")


def chunk_lines(batch: Batch) -> list[list[str | int]]:
    """The chunks of a batch, as lists for JSON.

    Each is: request, start, number of tokens, whether it samples, and the number of drafts if it has any.
    """
    drafts = ([chunk.drafts] if chunk.drafts else [] for chunk in batch.chunks)
    return [[c.request_id, c.start, len(c.tokens), int(c.samples), *more] for c, more in zip(batch.chunks, drafts, strict=True)]


def _block_lines(batch: Batch) -> dict[str, Any]:
    """The blocks that a batch's requests get, and the requests that have left theirs; {} for neither.

    The blocks of several groups of layers alternate.
    """
    tables = {request.request_id: request.blocks for request in batch.new}
    given = {chunk.request_id: tables.get(chunk.request_id, chunk.new_blocks) for chunk in batch.chunks}
    blocks = {name: in_turn(table) for name, table in given.items() if any(table)}
    return ({"blocks": blocks} if blocks else {}) | ({"removed": batch.removed} if batch.removed else {})


def _context(context: RequestContext) -> dict[str, Any]:
    """A request's context for JSON; its SLO, if any, as bounds."""
    slo = {} if context.slo is None else {"slo": dict(context.slo.bounds)}
    return {name: value for name, value in asdict(context).items() if name != "slo"} | slo


def _params(submitted: Submitted) -> dict[str, Any]:
    """Sampling parameters for JSON."""
    params = submitted.params
    return {name: getattr(params, name) for name in params.__dataclass_fields__} | {
        "logit_bias": {str(token): bias for token, bias in params.logit_bias.items()} or None
    }


def read_lines(path: str | Path, *, maybe_cut: bool = False) -> list[dict[str, Any]]:
    """A record's lines. Raises `ConfigError` naming the wrong line.

    With `maybe_cut` the last one may be incomplete, as a run that was killed leaves it: it is left out.
    """
    try:
        with open(path, encoding="utf-8") as file:
            texts = file.read().splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read the record {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no record of iterations: make one with --record FILE") from None
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            lines.append(json.loads(text))
        except ValueError:
            if maybe_cut and number == len(texts) > 1:
                break
            raise ConfigError(f"line {number} of {path} is no JSON: it was cut short, or is no record of iterations") from None
    first = lines[0] if lines and isinstance(lines[0], dict) else {}
    if first.get("kind") != "engine" or first.get("version") not in READABLE:
        versions = " or ".join(map(str, READABLE))
        raise ConfigError(f"{path} is no record of iterations (version {versions}): make one with --record FILE")
    return lines
