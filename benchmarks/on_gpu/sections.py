"""The sections of the benchmark and their seconds; without heavy imports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orcinus.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Section:
    """One section; the module of the same name in this package has its `run(bench)`."""

    name: str
    share_s: float  # seconds, after which it is cut
    about: str


SECTIONS = (
    Section("ceilings", 15, "what the device can do: copies, reads, products"),
    Section("kernels", 65, "every kernel beside float64"),
    Section("tune", 45, "launches of the attention kernel, the fastest remembered"),
    Section("attention", 50, "bandwidth of decodes and rate of prompts, beside torch's own attention"),
    Section("fused", 30, "fused kernels beside the plain operations that they replace"),
    Section("iteration", 80, "seconds of an iteration, beside the bytes that it has to read"),
    Section("workload", 60, "256 requests from end to end: tokens/s, how busy the device is"),
    Section("golden", 40, "greedy tokens of the GPU beside those of the CPU, in float32"),
)
START_S = 30.0  # for Python, torch and the device, before the first section
TOTAL_S = 420.0  # for all of it


def choose(words: str | None) -> list[Section]:
    """The sections of a comma-separated list, in their own order; all of them for None. Raises `ConfigError`."""
    if words is None:
        return list(SECTIONS)
    wanted = {word.strip() for word in words.split(",") if word.strip()}
    unknown = sorted(wanted - {section.name for section in SECTIONS})
    if unknown or not wanted:
        known = ", ".join(section.name for section in SECTIONS)
        raise ConfigError(f"there is no section {', '.join(unknown) or words!r}: choose among {known}")
    return [section for section in SECTIONS if section.name in wanted]


def listing(sections: Sequence[Section]) -> str:
    """A line for each, with its seconds."""
    lines = [f"{section.name:<10} {section.share_s:>4.0f} s  {section.about}" for section in sections]
    return "\n".join([*lines, f"{'together':<10} {sum(section.share_s for section in sections):>4.0f} s"])
