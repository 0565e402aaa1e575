"""Writes the report of results: an HTML page, pictures and a table."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from orcinus.bench.compare import differences
from orcinus.bench.formatting import count, slug
from orcinus.bench.report import tables
from orcinus.bench.report.markdown import markdown_tables
from orcinus.bench.report.numbers import SideNumbers, side_numbers
from orcinus.bench.report.pictures import Picture, draw_pictures
from orcinus.bench.result import Host, Result
from orcinus.bench.summary import rate_of
from orcinus.bench.validity import cautions, checked, doubts
from orcinus.errors import ConfigError, plural

KINDS = {
    "offline": "Engines in one process",
    "serve": "A server under load",
    "sweep": "Latency against throughput",
    "capacity": "Capacity",
    "papers": "Settings of the papers",
    "peers": "Against other engines",
}


@dataclass(frozen=True, slots=True)
class _ReportedResult:
    """A result with everything derived from it."""

    label: str
    result: Result
    sides: tuple[SideNumbers, ...]
    stem: str  # prefix of its pictures' names


def write_report(
    results: Sequence[tuple[str, Result]], html: Path, pngs: Path | None = None, markdown: Path | None = None
) -> list[Path]:
    """Write one page about labelled results; returns the files written.

    `pngs`: a folder for its pictures. `markdown`: a file for a table. The page embeds its pictures and loads nothing.
    Raises `ConfigError` if a file cannot be written, or if there are no results.
    """
    if not results:
        raise ConfigError("there is nothing to report: name at least one file that orcinus bench wrote")
    told = _tell(results)
    with TemporaryDirectory() as folder:
        drawn = {one.stem: draw_pictures(one.result, one.sides, _folder(pngs or Path(folder)) / one.stem) for one in told}
        page = render(told, drawn)
    written = [html, *(picture.path for pictures in drawn.values() for picture in pictures if pngs is not None)]
    _write(html, page)
    if markdown is not None:
        _write(markdown, markdown_tables([(one.label, one.result, one.sides) for one in told]))
        written.append(markdown)
    return written


def _tell(results: Sequence[tuple[str, Result]]) -> list[_ReportedResult]:
    stems: list[str] = []
    for label, _ in results:
        stem, number = slug(Path(label).stem), 2
        while stem in stems:
            stem, number = f"{slug(Path(label).stem)}-{number}", number + 1
        stems.append(stem)
    return [
        _ReportedResult(label, result, side_numbers(result), stem) for (label, result), stem in zip(results, stems, strict=True)
    ]


def render(told: Sequence[_ReportedResult], drawn: dict[str, list[Picture]]) -> str:
    """The page as HTML; all text from results is escaped."""
    environment = Environment(
        loader=PackageLoader("orcinus.bench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = [_section(one, drawn[one.stem]) for one in told]
    same_work = len(told) > 1 and all(one.sides and not differences(one.result.work, told[0].result.work) for one in told)
    comparison = tables.comparison([(one.label, one.sides) for one in told]) if same_work else None
    return environment.get_template("page.html").render(sections=sections, comparison=comparison)


def _section(one: _ReportedResult, pictures: Sequence[Picture]) -> dict[str, Any]:
    """The template's values for one result."""
    result, sides = one.result, one.sides
    return {
        "label": one.label,
        "anchor": one.stem,
        "kind": KINDS[result.kind],
        "names": list(dict.fromkeys(str(side.settings.get("system") or side.name) for side in result.sides)),
        "facts": _facts(result),
        "command": shlex.join(result.command),
        "doubts": doubts(result),
        "checked": checked(result),
        "cautions": cautions(result),
        "headline": tables.headline(sides),
        "several_rates": len({rate_of(side) for side in result.sides}) > 1,
        "capacity": tables.capacities(result),
        "details": tables.details(sides),
        "others": [table for table in (tables.outcomes(sides), tables.client_delays(sides), tables.settings(result)) if table],
        "common": tables.common_settings(result),
        "pictures": [(picture, _data_uri(picture.path)) for picture in pictures],
        "repeats": [tables.repeats(side) for side in sides],
    }


def _facts(result: Result) -> list[tuple[str, str]]:
    work = result.work
    limits = [f"{name} {value}" for name, value in work.limits.items()]
    objectives = [f"{name} ≤ {seconds:g} s" for name, seconds in result.objectives.items()]
    found = [
        ("When", result.when),
        ("Machine", _machine(result.machine)),
        ("Commit", result.commit or "not from a repository"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in result.versions.items())),
        ("Model", work.model),
        ("Workload", ", ".join(filter(None, (work.workload, f"arrivals {work.arrivals}", *limits)))),
        (
            "Requests",
            f"{count(work.requests)} with {count(work.prompt_tokens)} prompt and {count(work.output_tokens)} output tokens",
        ),
        ("Seed", str(work.seed)),
        ("Hash of the prompts", work.prompts),
        ("Objectives", ", ".join(objectives)),
    ]
    return [(name, value) for name, value in found if value]


def _machine(machine: Host) -> str:
    return ", ".join(
        [
            machine.processor,
            plural(machine.cores, "core"),
            f"{machine.memory_mib / 1024:.1f} GiB",
            *machine.gpus,
            machine.system,
        ]
    )


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {path}: {error.strerror or error}") from None
    return path


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from None
