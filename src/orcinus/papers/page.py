"""docs/papers.md, and the findings on it and in a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orcinus.bench.formatting import digits
from orcinus.observe.interval import Interval
from orcinus.papers.findings import Comparison, Finding, Measurement, Number
from orcinus.papers.simulated.experiment import Experiment

HEAD = """# The papers, reproduced

Every experiment below runs the real scheduler, policies and K/V managers in the simulator, and is compared with what the paper
published. `orcinus reproduce --write docs` writes this page; do not edit it. [ideas.md](ideas.md) says where each idea lives in
the code, [simulator.md](simulator.md) how the simulator works.

Sources of published numbers: [P] text or table of the paper, exact; [V] read off a vector drawing, ±0.5 %; [I] off a raster
copy, ±2 %; [A] the authors' artefact; [D] by arithmetic. The papers' own repetitions differ by 5 to 14 %. No constant is
fitted on the row that it is judged by, except where the row says so. Where the workload is drawn at random, the simulated
number is the median over seeds, and the brackets are the interval in which the true median lies (with 75 % for three seeds).
"""


def page(results: Sequence[tuple[Experiment, Finding]], pictures: str = "pictures/papers") -> str:
    """The whole page in Markdown; `pictures` is the folder of the figures."""
    parts = [HEAD, _overview(results)]
    for paper in dict.fromkeys(row.paper for row, _ in results):
        parts.append(f"## {paper}\n")
        parts += [_section(row, found, pictures) for row, found in results if row.paper == paper]
    return "\n".join(parts)


def _overview(results: Sequence[tuple[Experiment, Finding]]) -> str:
    lines = [
        f"{tally([found for _, found in results])}\n",
        "| # | Experiment | Tolerance | Worst error | |",
        "|---|---|---|---|---|",
    ]
    for row, found in results:
        name = f"[{row.figure}](#{_anchor(row)})"
        lines.append(f"| {row.number or ''} | {name} | {row.tolerance} | {worst(found)} | {verdict(found)} |")
    return "\n".join([*lines, ""])


def _section(row: Experiment, found: Finding, pictures: str) -> str:
    lines = [
        f"### {heading(row)}\n",
        f"{row.setup}\n",
        f"*Fitted:* {row.calibrated}. *Source:* [{row.source}]. *Tolerance:* {row.tolerance}. **{verdict(found)}**\n",
        "| | Published | Simulated | Error | |",
        "|---|---|---|---|---|",
        *map(_line, found.comparisons),
        "",
        *([f"- Skipped: {found.skipped}"] if found.skipped else []),
        *(f"- {note}" for note in found.notes),
        *(f"\n![{figure.title}]({pictures}/{figure.name}.svg)" for figure in found.figures),
    ]
    return "\n".join([*lines, ""])


def _line(comparison: Comparison) -> str:
    *cells, judgement = table_row(comparison)
    cells.append(judgement if comparison.passed else f"**{judgement}**")
    return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"


def table_row(comparison: Comparison) -> tuple[str, str, str, str, str]:
    """A table's row: name, published, ours, error, verdict."""
    what, unit = comparison.what, comparison.unit
    if isinstance(comparison, Number):
        found, simulated = comparison.interval, number(comparison.simulated, unit)
        if found is not None and found.low != found.high:
            simulated += f" ({number(found.low)} to {number(found.high)})"
        return what, number(comparison.published, unit), simulated, percent(comparison.error), judged(comparison)
    if isinstance(comparison, Measurement):
        return what, comparison.published or "-", f"{interval(comparison.measured)} {unit}".strip(), "", ""
    both = [interval(each) for each in (comparison.less, comparison.more) if each is not None]
    return what, "", f"{' against '.join(both)} {unit}".strip(), "", "holds" if comparison.passed else "does not hold"


def judged(compared: Number) -> str:
    """A number's verdict: pass, miss, or only a one-sided bound kept."""
    if compared.only_bound:
        return f"one-sided bound kept, at {compared.times:.1f} times the published"
    return ("pass" if compared.passed else "miss") + ("" if compared.sure else ", not for every seed")


def verdict(found: Finding) -> str:
    """A finding's verdict: pass, miss, skipped, or only bounds kept."""
    if found.skipped or not found.passed:
        return "skipped" if found.skipped else "miss"
    return ", ".join(map(judged, found.bounds)) or "pass"


def heading(row: Experiment) -> str:
    """The heading of a row."""
    return f"Row {row.number}: {row.figure}" if row.number else f"Besides: {row.figure}"


def tally(results: Sequence[Finding]) -> str:
    """How many findings passed, in words."""
    skipped = sum(found.skipped is not None for found in results)
    bounds = sum(bool(found.bounds) for found in results)
    text = f"{sum(found.passed for found in results)} of {len(results)} experiments pass"
    text += f", {bounds} of them only because a bound is one-sided." if bounds else "."
    return text + (f" {skipped} skipped." if skipped else "")


def worst(found: Finding) -> str:
    """The greatest error of a row's numbers."""
    errors = [each.error for each in found.comparisons if isinstance(each, Number)]
    return percent(max(errors, key=abs)) if errors else ""


def number(value: float, unit: str = "") -> str:
    """A number with four digits and its unit."""
    if math.isnan(value):
        return "-"
    return f"{value:.0f} {unit}".strip() if abs(value) >= 1000 else f"{value:.4g} {unit}".strip()


def percent(error: float) -> str:
    """A relative error with its sign."""
    return f"{error:+.1%}"


def interval(found: Interval) -> str:
    """A median with its interval, or alone if it has none."""
    values = [digits(value) for value in (found.median, found.low, found.high)]
    return values[0] if found.level == 0 or found.low == found.high else f"{values[0]} ({values[1]} to {values[2]})"


def _anchor(row: Experiment) -> str:
    """The anchor that GitHub makes of the heading."""
    text = heading(row).lower()
    return "".join(letter for letter in text if letter.isalnum() or letter in " -_").replace(" ", "-")
