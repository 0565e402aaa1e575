"""Options of benchmarks: the load, and the server that is measured."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from orcinus.bench.measure import read_slo
from orcinus.bench.requests import BenchRequest, describe
from orcinus.bench.result import Work
from orcinus.config import option
from orcinus.errors import ConfigError
from orcinus.workload.lengths import read_as
from orcinus.workload.trace import Trace
from orcinus.workload.workload import Workload, make_workload

MOST_REQUESTS = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadConfig:
    """The load of a benchmark; each field's doc is its help text.

    Raises `ConfigError`.
    """

    workload: str = option(
        "mixed",
        "Lengths of requests: equal_size (128 in, 128 out), short_long_mix ((32, 32) and (512, 128) in turn), orca, mixed "
        "(32 to 256 in and out), long-prompts, shared-prefix, decode-only, prefill-only, sharegpt, …, two distributions with "
        "a comma between, or trace:file=.",
    )
    arrivals: str = option(
        "all-at-once",
        "Arrivals: all-at-once, closed:clients=:think=, poisson:rate=, gamma:rate=:cv=, constant:rate=, "
        "ramp:start=:end=:seconds=; `trace` for the times of a trace.",
    )
    requests: int | None = option(64, "How many requests, at most.")
    max_total: int | None = option(None, "Leave out requests of more tokens than this, prompt and output.")
    tokenizer: str = option(
        "", "Folder of the tokenizer that counts the tokens of a trace of texts. Default: the bundled model's."
    )
    reject_bad_rows: bool = option(False, "Stop at the first bad row of a trace. Default: count and skip bad rows.")
    repeats: int = option(7, "Repeats of every measurement: 7 or more can tell two sides from noise.")
    goodput: str | None = option(None, "Count requests per second that keep these objectives, in seconds: ttft=0.5,tbt=0.05.")

    def __post_init__(self) -> None:
        if not isinstance(self.repeats, int) or self.repeats < 1:
            raise ConfigError(f"repeats must be a whole number of at least 1, not {self.repeats!r}")
        if self.requests is not None and self.requests > MOST_REQUESTS:
            raise ConfigError(f"requests must be at most {MOST_REQUESTS}, as all of them are kept, not {self.requests}")

    def make(self, seed: int) -> Workload:
        """The workload that these options describe. Raises `ConfigError`."""
        lengths = read_as(self.workload, self.tokenizer, self.reject_bad_rows)
        return make_workload(self.arrivals, lengths, self.requests, seed, self.max_total)

    def notes(self, seed: int) -> list[str]:
        """Notes on requests from a file, after reading it.

        Raises `ConfigError`.
        """
        workload = self.make(seed)
        if isinstance(workload.lengths, Trace):
            deque(workload.untimed(), maxlen=0)
        return workload.notes()

    @property
    def limits(self) -> dict[str, Any]:
        """The limits that cut the workload short."""
        return {"max_total": self.max_total} if self.max_total is not None else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConfig:
    """A server to measure, and its requests' format. Raises `ConfigError`."""

    url: str | None = option(None, "Server to measure, such as http://127.0.0.1:8000: anything with the OpenAI API.")
    api: str = option("completions", "Endpoint: completions or chat.")
    prompts: str | None = option(
        None, "Prompts as ids (token ids: lengths are exact) or text. Default: ids, but text for chats, which take no ids."
    )
    api_key: str | None = option(None, "API key. Default: $ORCINUS_API_KEY, else $OPENAI_API_KEY.")
    timeout: float = option(300.0, "Seconds after which a request counts as lost.")
    max_delay: float = option(0.01, "Most seconds of the client's own delay (P99) in a valid run.")
    any_length: bool = option(False, "Take answers of any length, from servers that cannot ignore the end of a text.")
    slo: str | None = option(
        None,
        "Send these objectives with every request, in seconds: ttft=0.5,tbt=0.05. A server that keeps promises refuses what it "
        "cannot serve in time. Counts the promises kept, and the goodput unless --goodput says another one.",
    )
    keep_prompts: bool = option(
        False, "Send the same prompts in every run, so that prefix caches hit. Default: new prompts in each run."
    )

    def __post_init__(self) -> None:
        for name in ("timeout", "max_delay"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0 seconds, not {getattr(self, name)}")
        read_slo(self.slo)

    def counted(self, load: LoadConfig) -> LoadConfig:
        """The load, whose goodput counts what its requests ask for unless it has objectives of its own."""
        return replace(load, goodput=load.goodput or self.slo)


def work_of(load: LoadConfig, seed: int, requests: Sequence[BenchRequest], model: str) -> Work:
    """A result's description of its work."""
    arrivals, limits = load.arrivals, load.limits
    return describe(requests, workload=load.workload, arrivals=arrivals, seed=seed, model=model, limits=limits)
