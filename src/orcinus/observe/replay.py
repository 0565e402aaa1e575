"""Replays of records: equal arrivals and times give equal decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from orcinus.core.batch import Batch, BatchResult, Event, Finished
from orcinus.core.component_spec import make_order, make_policy
from orcinus.core.engine import Engine
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.request import Failure, Finish, FinishCode, Overlap, Request, RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.scheduler import Scheduler
from orcinus.core.slo import SLO
from orcinus.core.view import Limits
from orcinus.errors import ConfigError, ReplayDiffers
from orcinus.observe.recorder import chunk_lines


@dataclass(slots=True)
class Replayed:
    """Counts of a replay."""

    batches: int = 0
    requests: int = 0
    tokens: int = 0
    seconds: float = 0.0  # from the first to the last line


class _Clock:
    """A clock that shows the record's time."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at


class _Lines:
    """The record as an executor: checks launches and returns recorded results."""

    def __init__(self, lines: Sequence[Mapping[str, Any]], clock: _Clock) -> None:
        self.lines, self.clock = lines, clock
        self.place = 1
        self.depth, self.overlap = int(lines[0]["depth"]), _overlap(lines[0])
        self.drafts = any(len(chunk) > 4 for line in lines for chunk in line.get("chunks", ()))  # whether any were verified

    @property
    def line(self) -> Mapping[str, Any]:
        if self.place == len(self.lines):
            raise ReplayDiffers("the record ends here, but the engine goes on: was it closed while requests were running?")
        return self.lines[self.place]

    def next(self, kind: str) -> Mapping[str, Any]:
        """Take a line of this kind; the clock then shows the next."""
        line = self.line
        if line["kind"] != kind:
            raise ReplayDiffers(f"line {self.place + 1}: the record says {line['kind']!r} where the engine comes to {kind!r}")
        self.place += 1
        if self.place < len(self.lines):
            self.clock.at = self.lines[self.place].get("at", self.clock.at)
        return line

    def submit(self, batch: Batch) -> None:
        ours = chunk_lines(batch)
        theirs = self.next("launch")
        if ours != theirs["chunks"]:
            where = f"line {self.place}: iteration {theirs['batch']}"
            raise ReplayDiffers(f"{where} was recorded with the chunks {theirs['chunks']}, and is {ours} now")

    def draft(self, request: Request, most: int) -> tuple[int, ...]:
        """As many drafts as in the record.

        The recorded result says which of them are accepted.
        """
        chunks = {name: drafts for name, _, _, _, *drafts in self.line.get("chunks", ())}
        count: int = sum(chunks.get(request.id, ()))
        return (0,) * count

    def collect(self) -> BatchResult:
        at = self.line.get("at", self.clock.at)
        line = self.next("return")
        self.clock.at = at
        tokens = tuple(tuple(row) for row in line["tokens"])
        return BatchResult(
            line["batch"], tokens, errors={int(row): _failure(told) for row, told in line.get("errors", {}).items()}
        )

    def close(self) -> None:
        """Nothing to close."""


def replay(lines: Sequence[Mapping[str, Any]]) -> Replayed:
    """Replay a record. Raises `ReplayDiffers` at the first decision that differs."""
    clock = _Clock()
    script = _Lines(lines, clock)
    engine = _engine(lines[0], script, clock)
    done = Replayed()
    while script.place < len(lines):
        place, line = script.place, script.line
        clock.at = line["at"]
        match line["kind"]:
            case "submit":
                script.place += 1
                _expect(script, engine.submit(_request(line)))
                done.requests += 1
            case "cancel":
                script.place += 1
                _expect(script, engine.cancel(line["id"], Finish(line["reason"])))
            case "use":
                script.place += 1
                engine.use(make_policy(line["policy"]), make_order(line["order"]), Limits(**line["limits"]))
            case "launch":  # separate from the launch: requests come and go meanwhile
                engine.dispatch()
            case "return":
                _expect(script, engine.settle())
        if script.place == place:
            raise ReplayDiffers(f"line {script.place + 1}: the record says {line['kind']!r}, which did not happen now")
    returned = [line for line in lines if line["kind"] == "return"]
    done.batches, done.tokens = len(returned), sum(len(row) for line in returned for row in line["tokens"])
    done.seconds = lines[-1].get("at", 0.0) - lines[1].get("at", 0.0) if len(lines) > 1 else 0.0
    return done


def _expect(script: _Lines, events: Sequence[Event]) -> None:
    """Check that an action's endings follow it in the record."""
    for event in events:
        if isinstance(event, Finished):
            line = script.next("finish")
            if (line["id"], line["reason"]) != (event.request_id, event.reason.value):
                now = f"{event.request_id} ends with {event.reason.value!r} now"
                raise ReplayDiffers(f"line {script.place}: {line['id']} ended with {line['reason']!r}, and {now}")


def _engine(header: Mapping[str, Any], script: _Lines, clock: _Clock) -> Engine:
    limits = Limits(**header["limits"])
    if header["kv"] not in KV_MANAGERS:
        raise ConfigError(f"the record names the K/V manager {header['kv']!r}, which there is not: {', '.join(KV_MANAGERS)}")
    kv = KV_MANAGERS[header["kv"]](header["num_blocks"], header["block_size"], limits)
    scheduler = Scheduler(
        make_policy(header["policy"]), kv, limits, make_order(header["order"]), script if script.drafts else None
    )
    return Engine(scheduler, script, clock)


def _overlap(header: Mapping[str, Any]) -> Overlap:
    """The recorded overlap; version 1 has one flag for both kinds."""
    return Overlap(*header["overlap"]) if "overlap" in header else Overlap(*(bool(header.get("chains")),) * 2)


def _failure(told: str | Sequence[str]) -> Failure:
    """A failure of a record; version 1 has only its text."""
    return Failure(FinishCode.EXECUTOR_FAILED, told) if isinstance(told, str) else Failure(FinishCode(told[0]), told[1])


def _request(line: Mapping[str, Any]) -> Request:
    known = {field.name for field in fields(SamplingParams)}
    params = {name: value for name, value in line["params"].items() if name in known}
    if "logit_bias" in params:
        params["logit_bias"] = {int(token): bias for token, bias in params["logit_bias"].items()}
    given = {field.name: line[field.name] for field in fields(RequestContext) if field.name in line}
    if "slo" in given:
        given["slo"] = SLO(given["slo"])
    context = RequestContext(**given)
    output = list(line.get("output", ()))
    return Request(line["id"], tuple(line["prompt"]), SamplingParams(**params), line["at"], context, output)
