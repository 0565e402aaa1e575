"""The JSON file of a benchmark, validated when it is read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import msgspec

from orcinus.bench.record import Repeat
from orcinus.core.slo import SLO
from orcinus.errors import ConfigError

VERSION: Literal[2] = 2  # schema version; raised when an older reader would misunderstand a file
Setting = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine that it ran on."""

    system: str
    processor: str
    cores: int  # cores that this process may use
    memory_mib: int
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The work of a result; only results of equal work are compared.

    Every run on a server draws new prompts, so that its prefix cache does not know them: equal work means the same lengths
    in the same order, with equal shared prefixes. `prompts` is the hash of draw 0, which stands for all.
    """

    workload: str  # lengths of requests
    arrivals: str  # arrivals, as on the command line
    requests: int
    seed: int
    prompt_tokens: int
    output_tokens: int
    prompts: str  # hash of draw 0's prompts and of the output tokens asked for, in order
    model: str
    limits: dict[str, Setting] = field(default_factory=dict)  # max_total and the like
    keep_prompts: bool = False  # every run on a server, its warm-up too, had the prompts of draw 0
    shared_tokens: int | None = None  # prompt tokens shared with an earlier prompt; None if unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the systems or settings to compare."""

    name: str
    settings: dict[str, Setting]
    repeats: tuple[Repeat, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run of `orcinus bench`."""

    version: Literal[1, 2] = VERSION
    kind: Literal["offline", "serve", "sweep", "capacity", "papers", "peers"]
    when: str  # ISO 8601, UTC
    command: tuple[str, ...]
    commit: str  # of the source, with "+" if changed since; "" outside a repository
    versions: dict[str, str]
    machine: Host
    work: Work
    sides: tuple[Side, ...]
    objectives: dict[str, float] = field(default_factory=dict)  # seconds: bounds of the goodput, or of a capacity's percentiles
    capacity: dict[str, float] = field(default_factory=dict)  # requests per second, by side
    complete: bool = True  # false if interrupted: the rest of the measurements is missing

    @property
    def goodput_slo(self) -> SLO:
        """The bounds on each request; None in a capacity search."""
        return SLO() if self.kind == "capacity" else SLO(self.objectives)


def encode(result: Result) -> bytes:
    """A result as JSON."""
    return msgspec.json.encode(_rounded(result))


def write_result(path: str | Path, result: Result) -> None:
    """Write a result as JSON. Raises `ConfigError` if that fails."""
    try:
        Path(path).write_bytes(encode(result) + b"\n")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from None


def read_result(path: str | Path) -> Result:
    """Read and validate a result. Raises `ConfigError` that locates the mistake."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None
    _check_version(path, content)
    try:
        found = msgspec.json.decode(content, type=Result)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is no result of orcinus bench: {error}") from None
    return found if found.version == VERSION else _of_version_1(found)


def _of_version_1(result: Result) -> Result:
    """A result of version 1, converted.

    In version 1 servers got equal prompts in every run.
    """
    kept = any("url" in side.settings for side in result.sides)
    return replace(result, version=VERSION, work=replace(result.work, keep_prompts=kept))


def result_schema() -> dict[str, object]:
    """The JSON schema of the file, for other programs."""
    return msgspec.json.schema(Result)


class _Versioned(msgspec.Struct):
    version: int


def _check_version(path: str | Path, content: bytes) -> None:
    """Raise `ConfigError` for a file of another version."""
    try:
        found = msgspec.json.decode(content, type=_Versioned).version
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is no result of orcinus bench: {error}") from None
    if not 1 <= found <= VERSION:
        raise ConfigError(f"{path} has version {found} of the format, and this orcinus reads versions 1 to {VERSION}")


def _rounded(result: Result) -> object:
    """The result with times rounded to microseconds, at half the size."""
    return _round(msgspec.to_builtins(result))


def _round(value: object) -> object:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _round(item) for key, item in value.items()}
    return [_round(item) for item in value] if isinstance(value, list | tuple) else value
