"""A record as a trace for https://ui.perfetto.dev or chrome://tracing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

ENGINE, REQUESTS = 1, 2  # "processes" of the trace
Line = Mapping[str, Any]


def trace(lines: Iterable[Line]) -> dict[str, Any]:
    """The trace of a record in Chrome's JSON format.

    Requests are tracks, iterations are slices; times are microseconds from the first event.
    """
    drawing = _Drawing()
    for line in lines:
        if line["kind"] != "engine":
            drawing.add(line)
    return {"displayTimeUnit": "ms", "traceEvents": drawing.events}


class _Drawing:
    """The events of a trace, from the lines of a record."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._start: float | None = None
        self._tracks: dict[str, int] = {}
        self._prompts: dict[str, int] = {}
        self._idle_since: dict[str, float] = {}  # request -> when it last did something
        self._launched: dict[int, tuple[Line, float]] = {}
        self._lanes: list[int | None] = []  # batches in flight, each on a track of its own
        self._name("process_name", ENGINE, 0, "engine")
        self._name("process_name", REQUESTS, 0, "requests")

    def add(self, line: Line) -> None:
        self._start = line["at"] if self._start is None else self._start
        at = round((line["at"] - self._start) * 1e6, 3)
        match line["kind"]:
            case "submit":
                self._submit(line, at)
            case "launch":
                lane = next((lane for lane, batch in enumerate(self._lanes) if batch is None), len(self._lanes))
                self._lanes[lane : lane + 1] = [line["batch"]]
                self._launched[line["batch"]] = line, at
            case "return":
                self._iteration(line["batch"], at)
            case "finish":
                tid = self._tracks[line["id"]]
                self.events.append({"ph": "i", "s": "t", "name": line["reason"], "pid": REQUESTS, "tid": tid, "ts": at})

    def _submit(self, line: Line, at: float) -> None:
        name = line["id"]
        self._tracks[name] = len(self._tracks) + 1
        self._prompts[name] = len(line["prompt"])
        self._idle_since[name] = at
        self._name("thread_name", REQUESTS, self._tracks[name], f"{name} ({len(line['prompt'])} tokens)")

    def _iteration(self, batch: int, end: float) -> None:
        """Draw an iteration, and each request's phase or wait."""
        line, begin = self._launched.pop(batch)
        lane = self._lanes.index(batch)
        self._lanes[lane] = None
        facts = {key: line[key] for key in ("waiting", "running", "free_blocks", "why", "others")}
        facts |= {"tokens": sum(count for _, _, count, *_ in line["chunks"]), "requests": len(line["chunks"])}
        self._slice(f"iteration {batch}", ENGINE, lane, begin, end, facts)
        for name, start, count, _, *drafts in line["chunks"]:
            idle_since = self._idle_since[name]
            if begin - idle_since > 1:
                self._slice("waiting", REQUESTS, self._tracks[name], idle_since, begin, {})
            phase = "decode" if count - sum(drafts) == 1 and start >= self._prompts[name] else "prefill"
            facts = {"tokens": count, "start": start}
            # An iteration that followed another began for its requests when that one ended: slices of a track may not cross.
            self._slice(phase, REQUESTS, self._tracks[name], max(begin, idle_since), end, facts)
            self._idle_since[name] = end

    def _slice(self, name: str, pid: int, tid: int, begin: float, end: float, facts: Mapping[str, Any]) -> None:
        times = {"ts": begin, "dur": round(end - begin, 3)}
        self.events.append({"ph": "X", "name": name, "pid": pid, "tid": tid, **times, "args": dict(facts)})

    def _name(self, what: str, pid: int, tid: int, name: str) -> None:
        self.events.append({"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}})
