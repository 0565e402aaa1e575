"""docs/papers.md, from what was found: published and simulated side by side, misses with their reasons."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orcinus.papers.row import Check, Found, Row

HEAD = """# The papers, reproduced

Every experiment below runs the real scheduler, policies and K/V managers in the simulator, and is compared with what the paper
published. `orcinus reproduce --write docs` writes this page; do not edit it. [ideas.md](ideas.md) says where each idea lives in
the code, [simulator.md](simulator.md) how the simulator works.

Sources of published numbers: [P] text or table of the paper, exact; [V] read off a vector drawing, ±0.5 %; [I] off a raster
copy, ±2 %; [A] the authors' artefact; [D] by arithmetic. The papers' own repetitions differ by 5 to 14 %. No constant is
fitted on the row that it is judged by, except where the row says so.
"""


def page(results: Sequence[tuple[Row, Found]], pictures: str = "pictures/papers") -> str:
    """The whole page, in Markdown. `pictures` is the folder of the figures, from the page."""
    parts = [HEAD, _overview(results)]
    for paper in dict.fromkeys(row.paper for row, _ in results):
        parts.append(f"## {paper}\n")
        parts += [_section(row, found, pictures) for row, found in results if row.paper == paper]
    return "\n".join(parts)


def _overview(results: Sequence[tuple[Row, Found]]) -> str:
    lines = [
        f"{tally([found for _, found in results])}\n",
        "| # | Experiment | Tolerance | Worst error | |",
        "|---|---|---|---|---|",
    ]
    for row, found in results:
        name = f"[{row.experiment}](#{_anchor(row)})"
        lines.append(f"| {row.number or ''} | {name} | {row.tolerance} | {worst(found)} | {verdict(found)} |")
    return "\n".join([*lines, ""])


def _section(row: Row, found: Found, pictures: str) -> str:
    lines = [
        f"### {heading(row)}\n",
        f"{row.setup}\n",
        f"*Fitted:* {row.calibrated}. *Source:* [{row.source}]. *Tolerance:* {row.tolerance}. **{verdict(found)}**\n",
        "| | Published | Simulated | Error | |",
        "|---|---|---|---|---|",
        *(_line(check) for check in found.checks),
        "",
        *([f"- Skipped: {found.skipped}"] if found.skipped else []),
        *(f"- {note}" for note in found.notes),
        *(f"\n![{figure.title}]({pictures}/{figure.name}.svg)" for figure in found.figures),
    ]
    return "\n".join([*lines, ""])


def _line(check: Check) -> str:
    if check.holds is not None:
        return f"| {check.what} | | | | {'holds' if check.holds else '**does not hold**'} |"
    cells = (check.what, number(check.published, check.unit), number(check.simulated, check.unit), percent(check.error))
    return f"| {' | '.join(cells)} | {judged(check) if check.passed else '**miss**'} |"


def judged(check: Check) -> str:
    """What became of a check that has numbers."""
    if check.only_bound:
        return f"bound kept, at {check.times:.1f} times the published"
    return "pass" if check.passed else "miss"


def verdict(found: Found) -> str:
    """Whether all checks of a row passed, and whether one of them did so as a bound only."""
    if found.skipped or not found.passed:
        return "skipped" if found.skipped else "miss"
    bounds = ", ".join(judged(check) for check in found.checks if check.only_bound)
    return bounds or "pass"


def heading(row: Row) -> str:
    """What a row is called."""
    return f"Row {row.number}: {row.experiment}" if row.number else f"Besides: {row.experiment}"


def tally(results: Sequence[Found]) -> str:
    """How many passed."""
    skipped = sum(found.skipped is not None for found in results)
    bounds = sum(found.only_bound for found in results)
    text = f"{sum(found.passed for found in results)} of {len(results) - skipped} experiments pass"
    text += f", {bounds} of them with a number that only keeps a bound, far from the published one." if bounds else "."
    return text + (f" {skipped} skipped." if skipped else "")


def worst(found: Found) -> str:
    """The greatest error of all numbers of a row."""
    errors = [check.error for check in found.checks if check.error is not None]
    return percent(max(errors, key=abs)) if errors else ""


def number(value: float | None, unit: str = "") -> str:
    """Four digits and the unit."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.0f} {unit}".strip() if abs(value) >= 1000 else f"{value:.4g} {unit}".strip()


def percent(error: float | None) -> str:
    """A relative error with its sign."""
    return "" if error is None else f"{error:+.1%}"


def _anchor(row: Row) -> str:
    """What GitHub makes of the heading."""
    text = heading(row).lower()
    return "".join(letter for letter in text if letter.isalnum() or letter in " -_").replace(" ", "-")
