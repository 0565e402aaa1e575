"""Prompt and output lengths: published data sets, and pairs of distributions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Protocol

import numpy as np

from orcinus.core.component_spec import make, with_option
from orcinus.errors import ConfigError
from orcinus.workload.arrival import Arrival
from orcinus.workload.bounds import MOST_TOKENS, positive, within
from orcinus.workload.file_position import Skipped
from orcinus.workload.fitted import fitted
from orcinus.workload.marginals import MARGINALS, NORMAL, Floats, Geometric, Ints, Lognormal, Marginal, Quantiles, Uniform, Zipf
from orcinus.workload.trace import Trace


class Lengths(Protocol):
    """A joint distribution of prompt and output lengths."""

    def pairs(self, shares: Floats) -> Ints:
        """Prompt and output tokens, shape [n, 2], from uniform draws [n, 2]."""


@dataclass(frozen=True, slots=True)
class Independent:
    """Prompt and output lengths drawn independently."""

    prompt: Marginal
    output: Marginal

    def pairs(self, shares: Floats) -> Ints:
        return np.column_stack([self.prompt.at(shares[:, 0]), self.output.at(shares[:, 1])])


@dataclass(frozen=True, slots=True)
class Cycle:
    """A fixed cycle of length pairs, without randomness."""

    sizes: tuple[tuple[int, int], ...]

    def pairs(self, shares: Floats) -> Ints:
        return np.resize(np.array(self.sizes, np.int64), (len(shares), 2))


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """Prompts that begin with one of `prefixes` shared prefixes.

    A prefix has `prefix` tokens; `own` tokens follow.
    """

    prefixes: int = 4
    prefix: int = 256
    own: int = 32
    output: int = 64

    def __post_init__(self) -> None:
        within("prefixes", self.prefixes, 1, MOST_TOKENS)
        for name in ("prefix", "own", "output"):
            within(f"{name} (in tokens)", getattr(self, name), 1, MOST_TOKENS)

    def pairs(self, shares: Floats) -> Ints:
        return np.tile(np.array((self.prefix + self.own, self.output), np.int64), (len(shares), 1))

    def arrival(self, at: float, number: int, prompt: int, output: int) -> Arrival:
        """The request with the given number."""
        return Arrival(at, prompt, output, prefix=f"prefix-{number % self.prefixes}", prefix_tokens=self.prefix)


@dataclass(frozen=True, slots=True)
class PromptToDecode:
    """Equal requests of `length` tokens at a P:D `ratio` (SARATHI)."""

    length: int
    ratio: float

    def __post_init__(self) -> None:
        within("length (in tokens)", self.length, 2, MOST_TOKENS)
        positive("ratio", self.ratio)

    def pairs(self, shares: Floats) -> Ints:
        return _split(np.full(len(shares), self.length, np.int64), self.ratio)


@dataclass(frozen=True, slots=True)
class SarathiZipf:
    """Zipf-distributed total lengths at a fixed P:D ratio (SARATHI, 2.3)."""

    theta: float = 0.4
    low: int = 1024
    high: int = 4096
    ratio: float = 10.0

    def __post_init__(self) -> None:
        within("low (in tokens)", self.low, 2, MOST_TOKENS)
        positive("ratio", self.ratio)
        Zipf(self.theta, self.low, self.high)

    def pairs(self, shares: Floats) -> Ints:
        return _split(Zipf(self.theta, self.low, self.high).at(shares[:, 0]), self.ratio)


@dataclass(frozen=True, slots=True)
class Correlated:
    """Two distributions joined by a Gaussian copula.

    The prompt of a pair with more than `max_total` tokens is shortened.
    """

    prompt: Marginal
    output: Marginal
    correlation: float  # of the copula, within -1 and 1
    max_total: int

    def pairs(self, shares: Floats) -> Ints:
        inner = np.clip(shares, 1e-15, 1 - 1e-15)
        first, own = np.reshape([NORMAL.inv_cdf(share) for share in inner.T.ravel().tolist()], (2, -1))
        joined = self.correlation * first + (1 - self.correlation**2) ** 0.5 * own
        output = self.output.at(np.fromiter(map(NORMAL.cdf, joined.tolist()), float, len(joined)))
        return np.column_stack([np.minimum(self.prompt.at(shares[:, 0]), self.max_total - output), output])


@dataclass(frozen=True, slots=True)
class Empirical:
    """Lengths drawn with replacement from a trace file held in memory."""

    file: str
    tokenizer: str = ""
    answer: int | None = None
    reject_bad_rows: bool = False

    def __post_init__(self) -> None:
        _lengths_in(self.trace)

    @property
    def trace(self) -> Trace:
        """The trace file, with its reading options."""
        return Trace(self.file, 1.0, self.tokenizer, self.answer, self.reject_bad_rows)

    @property
    def skipped(self) -> Skipped:
        """The rows that were skipped."""
        return _lengths_in(self.trace)[1]

    def pairs(self, shares: Floats) -> Ints:
        known, _ = _lengths_in(self.trace)
        return known[(shares[:, 0] * len(known)).astype(np.int64)]


def fitted_lengths(name: str) -> Correlated:
    """A distribution fitted to a published trace, by its name in fitted.json."""
    known = fitted(name)
    return Correlated(_marginal(known["prompt"]), _marginal(known["output"]), known["correlation"], known["max_total"])


# "Published" is what the papers say; where vLLM (6.1) tells a mean and no more, the geometric shape is our assumption.
LENGTHS: Mapping[str, Callable[..., Lengths | Trace]] = {
    "orca": lambda: Independent(Uniform(32, 512), Uniform(1, 128)),  # Orca, 6.2
    "sharegpt": partial(fitted_lengths, "sharegpt"),  # Sarathi-Serve, table 2: openchat_sharegpt4
    "arxiv": partial(fitted_lengths, "arxiv"),  # the same articles cut at 4096 tokens, as published with Vidur
    "arxiv-16k": partial(fitted_lengths, "arxiv-16k"),  # Sarathi-Serve, table 2: arxiv_summarization
    "azure-conversation": partial(fitted_lengths, "azure-conversation"),  # Splitwise, 3
    "sharegpt-vllm": lambda: Independent(Geometric(161.31), Geometric(337.99)),
    "alpaca": lambda: Independent(Geometric(19.31), Geometric(58.45)),
    "sarathi-zipf": SarathiZipf,
    "pd": PromptToDecode,
    # The classic shapes of benchmarks of one engine.
    "equal_size": lambda: Cycle(((128, 128),)),
    "short_long_mix": lambda: Cycle(((32, 32), (512, 128))),
    "mixed": lambda: Independent(Uniform(32, 256), Uniform(32, 256)),
    "long-prompts": lambda: Cycle((*[(32, 128)] * 7, (2000, 16))),  # decodes that 2K prompts interrupt
    "shared-prefix": SharedPrefix,
    "decode-only": lambda: Cycle(((1, 256),)),
    "prefill-only": lambda: Cycle(((512, 1),)),
    "empirical": Empirical,
    "trace": Trace,
}
FROM_FILES = ("trace", "empirical")


def make_lengths(spelled: str) -> Lengths | Trace:
    """Lengths from a preset, a trace, or two comma-separated distributions.

    For example `orca`, `pd:length=1024:ratio=50`, `trace:file=azure.csv:scale=0.5`, `empirical:file=azure.csv`,
    `uniform:low=32:high=512,fixed:tokens=64`. A file's name may hold no colon. Raises `ConfigError` that lists the choices.
    """
    if spelled.split(":")[0] not in MARGINALS:
        known: dict[str, Callable[..., Any]] = {**LENGTHS, **MARGINALS}
        found: Lengths | Trace = make("length preset", known, spelled)
        return found
    prompt, comma, output = spelled.partition(",")
    if not comma:
        raise ConfigError(f"{spelled!r} says how long one side is: give two, for prompt and output, with a comma between them")
    return Independent(make("length distribution", MARGINALS, prompt), make("length distribution", MARGINALS, output))


def read_as(spelled: str, tokenizer: str, reject_bad_rows: bool) -> str:
    """The lengths with other options for reading their file.

    Raises `ConfigError` if they come from no file.
    """
    asked = {"tokenizer": tokenizer, "reject_bad_rows": "true" if reject_bad_rows else ""}
    for option, value in asked.items():
        if value and spelled.split(":")[0] not in FROM_FILES:
            raise ConfigError(f"{option} is about a trace, and the lengths are {spelled!r}: leave it out")
        spelled = with_option(spelled, option, value) if value else spelled
    return spelled


def _split(total: Ints, ratio: float) -> Ints:
    output = np.maximum(1, total - np.rint(total * (ratio / (ratio + 1))).astype(np.int64))
    output = np.minimum(output, total - 1)
    return np.column_stack([total - output, output])


def _marginal(known: dict[str, Any]) -> Marginal:
    if "tokens" in known:
        return Quantiles(tuple(known["shares"]), tuple(known["tokens"]))
    return Lognormal(**known)


@lru_cache(maxsize=2)
def _lengths_in(trace: Trace) -> tuple[Ints, Skipped]:
    skipped = Skipped()
    found = [(arrival.prompt_tokens, arrival.output_tokens) for arrival in trace.arrivals(skipped=skipped)]
    return np.array(found, np.int64), skipped
