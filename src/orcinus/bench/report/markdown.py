"""A Markdown table of a result, with its origin."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from orcinus.bench.formatting import digits
from orcinus.bench.report.numbers import SideNumbers
from orcinus.bench.report.tables import spell_ratio
from orcinus.bench.result import Result
from orcinus.bench.validity import Doubt, cautions, doubts
from orcinus.errors import plural

RATIO = "output_throughput"
COLUMNS = (
    "",
    "requests/s",
    "output tokens/s",
    "TTFT p50 / p99 (ms)",
    "TBT p50 / p99 (ms)",
    "output tokens/s against the first",
)


def markdown_tables(results: Sequence[tuple[str, Result, Sequence[SideNumbers]]]) -> str:
    """A table per result, labelled if there are several."""
    several = len(results) > 1
    return "\n".join(f"**{_plain(label)}**\n\n" * several + markdown_table(result, sides) for label, result, sides in results)


def markdown_table(result: Result, sides: Sequence[SideNumbers]) -> str:
    """A row per side, then date, machine, commit and command."""
    lines = [_row(COLUMNS), _row(["---", *("---:" for _ in COLUMNS[1:])])]
    lines += [_row(_cells(side)) for side in sides]
    if result.capacity:
        lines += [
            "",
            f"Capacity: {'; '.join(f'{_plain(name)} {digits(rate)} requests/s' for name, rate in result.capacity.items())}",
        ]
    warnings = [_warning("Not to be believed as it stands", doubts(result)), _warning("Keep in mind", cautions(result))]
    return "\n".join([*lines, "", *(part for warning in warnings if warning for part in (warning, "")), _origin(result), ""])


def _warning(heading: str, found: Sequence[Doubt]) -> str:
    return f"{heading}: {_plain(' '.join(doubt.what for doubt in found))}" if found else ""


def _cells(side: SideNumbers) -> list[str]:
    return [
        _plain(side.name),
        digits(side.median("request_throughput")),
        digits(side.median("output_throughput")),
        f"{digits(side.median('ttft.p50') * 1e3)} / {digits(side.median('ttft.p99') * 1e3)}",
        f"{digits(side.median('tbt.p50') * 1e3)} / {digits(side.median('tbt.p99') * 1e3)}",
        _ratio(side),
    ]


def _ratio(side: SideNumbers) -> str:
    """The ratio of output throughput, marked better or worse."""
    found = side.summary.ratios.get(RATIO)
    return f"{spell_ratio(found)} {side.judgement(RATIO)}".strip() if found else "–"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _origin(result: Result) -> str:
    machine = result.machine
    parts = [
        result.when[:10],
        ", ".join([machine.processor, plural(machine.cores, "core"), *machine.gpus]),
        f"commit {result.commit}" if result.commit else "no commit",
    ]
    return f"{'; '.join(_plain(part) for part in parts)}; {_code(shlex.join(result.command))}"


def _plain(text: str) -> str:
    """A text on one line, escaped for Markdown."""
    return re.sub(r"([\\`*_\[\]<>|#&~$])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """A code span, with a fence longer than its runs of backticks."""
    text = " ".join(text.split())
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"
