"""`orcinus sweep`: simulations over a product of settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from orcinus import interrupt
from orcinus.cli.evidence import CAUTION, print_evidence, print_lines
from orcinus.cli.options import takes
from orcinus.cli.progress import progress
from orcinus.cli.simulate_view import legend, metric_columns, over_seeds
from orcinus.cli.tidy import Csv, check_csv, column, labelled, write_csv
from orcinus.cost.provenance import OperatorProvenance, format_provenance
from orcinus.errors import ConfigError
from orcinus.sim.config import SimulationConfig
from orcinus.sim.record import COLUMNS, METRICS, label_of, metric_of

SHOWN = "request_throughput,output_throughput,rejected,ttft.p50,ttft.p99,tbt.p99,e2e.p50"
AXIS_UNITS = {
    "rate": "requests/s",
    "chunk_size": "tokens",
    **dict.fromkeys(("max_batch_tokens", "max_model_len", "block_size"), "tokens"),
}
COLUMN = 26  # characters of a median with its interval
WHOLE = ("lengths", "arrivals")  # settings whose values may hold commas


@takes("config", SimulationConfig)
def sweep(
    vary: Annotated[
        list[str] | None,
        typer.Option(help="A setting and its values: policy=orca,sarathi, chunk_size=128,256, rate=1,2,4. May be repeated."),
    ] = None,
    metrics: Annotated[str, typer.Option(help="Columns of the table: names as in the JSON, with dots.")] = SHOWN,
    against: Annotated[
        str | None, typer.Option(help="Divide metrics by those of the point with this setting: policy=orca.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object for every point, all metrics in it.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the metrics against the last setting to this file.")] = None,
    csv: Csv = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one for every core.")] = None,
    *,
    config: SimulationConfig,
) -> None:
    """Simulate every combination of the values of several settings, in parallel.

    Settings are the other options of this command by name (max_batch_size, tp, kv, …), and `rate`, of the arrivals,
    `chunk_size`, of the policy, and `ratio`, of lengths that have a P:D ratio. `lengths` and `arrivals` are repeated instead:
    `--vary lengths=orca --vary lengths=sharegpt`.
    Example: `orcinus sweep --vary policy=orca,stall-free --vary rate=1,2,4`
    """
    from orcinus.plots.style import check_picture
    from orcinus.sim.sweep import sweep as run

    axes = _axes(vary or [])
    if not axes:
        raise ConfigError("nothing varies: give at least one --vary, such as --vary rate=1,2,4")
    if plot is not None and not all(isinstance(value, (int, float)) for value in list(axes.values())[-1]):
        raise ConfigError(f"cannot draw against {list(axes)[-1]}, whose values are not numbers: vary a number last")
    if plot is not None:
        check_picture(plot)
    check_csv(csv)
    if config.record is not None or "record" in axes:
        raise ConfigError("--record takes the iterations of one run: use orcinus simulate")
    columns = _columns(metrics)
    base = None if against is None else _base(against, axes)
    interrupt.raise_exception()  # so that other processes end too
    with progress() as bars:
        tell = bars.bar("points", 0)
        results = run(config, axes, workers=workers, watch=tell)
    good = [result for result in results if "error" not in result]
    if base is not None:
        _divide(good, columns, list(axes), base)
    if as_json:
        for result in results:
            print(json.dumps(result))
    else:
        _print(list(axes), columns, results)
        _print_evidence(results, config.seeds)
    if csv is not None:
        write_csv(csv, [_row(result, axes) for result in results])
    if plot is not None:
        _draw(plot, good, list(axes), columns, against, config.seeds)
    if not good:
        raise typer.Exit(1)


def _print_evidence(results: Sequence[Mapping[str, Any]], seeds: int) -> None:
    """Print origins, notes and doubts on stderr, apart from the table."""
    console = Console(stderr=True, highlight=False)
    good = {_named(one): one for one in results if "error" not in one}
    origins = [format_provenance([OperatorProvenance(**each) for each in one["costs"]]) for one in good.values()]
    notes = [note for one in good.values() for note in one["notes"]]
    print_lines(console, CAUTION, [*dict.fromkeys([*origins, *notes]), *over_seeds(seeds)])
    print_evidence(console, good)


def _row(result: Mapping[str, Any], axes: Mapping[str, Any]) -> dict[str, Any]:
    """A point as a row: settings, metrics, and ratios to the base."""
    row = {column(axis, AXIS_UNITS.get(axis, "")): value for axis, value in result["settings"].items()}
    if "error" in result:
        return row | {"error": result["error"]}
    ratios = {f"{column(metric, '')}_ratio": value for metric, value in result.get("against", {}).items()}
    return row | metric_columns(result) | ratios


def _named(result: Mapping[str, Any]) -> str:
    """A point by its settings."""
    return ", ".join(f"{axis}={value}" for axis, value in result["settings"].items())


def _draw(
    plot: Path,
    results: Sequence[Mapping[str, Any]],
    axes: Sequence[str],
    columns: Sequence[str],
    against: str | None,
    seeds: int,
) -> None:
    """Draw all requested metrics against the last axis."""
    from orcinus.plots.sweep import SweepPoint, draw_sweep

    *others, last = axes
    points = []
    for result in results:
        settings = result["settings"]
        if settings[last] != "-":  # a policy without chunks has no chunk size
            spans = {name: span for name in columns if (span := _span(result, name)) is not None}
            points.append(SweepPoint(", ".join(settings[axis] for axis in others), float(settings[last]), spans))
    panels = {name: f"{name}, times that of {against}" if against else label_of(name) for name in columns}
    named = [labelled(axis.replace("_", " "), AXIS_UNITS.get(axis, "")) for axis in axes]
    draw_sweep(plot, points, panels, named[-1], legend(named[:-1], seeds))


def _span(result: Mapping[str, Any], name: str) -> tuple[float, float, float] | None:
    """A number with its interval over seeds, if it has one."""
    value, found = _shown(result, name), result.get("intervals", {}).get(name)
    if value is None:
        return None
    return (value, value, value) if found is None or "against" in result else (found["low"], value, found["high"])


def _columns(metrics: str) -> list[str]:
    """The metrics of the table. Raises `ConfigError` for unknown ones."""
    columns = [name.strip() for name in metrics.split(",") if name.strip()]
    for each in columns or [""]:
        if each not in COLUMNS:
            known = ", ".join(f"{key}.{parts[0]}" if parts else key for key, parts in METRICS.items())
            raise ConfigError(f"there is no metric {each!r}: choose among {known}")
    return columns


def _axes(vary: Sequence[str]) -> dict[str, list[Any]]:
    """`name=a,b` as values by name, numbers where possible. Raises `ConfigError`."""
    axes: dict[str, list[Any]] = {}
    for one in vary:
        name, equals, values = one.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not values:
            raise ConfigError(f"--vary wants a setting and its values, such as rate=1,2,4, not {one!r}")
        words = [values] if name in WHOLE else values.split(",")
        axes.setdefault(name, []).extend(_value(name, word.strip()) for word in words)
    return axes


def _base(against: str, axes: Mapping[str, Sequence[Any]]) -> tuple[str, str]:
    """The setting to compare with, and its value. Raises `ConfigError`."""
    name, _, value = against.partition("=")
    name = name.strip().replace("-", "_")
    if name not in axes or _value(name, value.strip()) not in axes[name]:
        raise ConfigError(f"cannot compare with {against!r}: give one value of a setting that varies, such as policy=orca")
    return name, str(_value(name, value.strip()))


def _value(name: str, word: str) -> Any:
    from orcinus.sim.sweep import INSIDE

    kind = INSIDE.get(name) or next((str(field.type) for field in fields(SimulationConfig) if field.name == name), "str")
    convert = {"int": int, "float": float}.get(kind.split(" ")[0], str)
    try:
        return convert(word)
    except ValueError:
        raise ConfigError(f"--vary {name} wants numbers, not {word!r}") from None


def _divide(results: Sequence[dict[str, Any]], columns: Sequence[str], axes: Sequence[str], base: tuple[str, str]) -> None:
    """Add to every result its ratios to the base point.

    A base that lacks a setting, as a policy without chunks does, is compared with all values of it.
    """
    name, value = base
    bases = [result for result in results if result["settings"][name] == value]
    for result in results:
        own = result["settings"]
        for other in bases:
            if all(other["settings"][axis] in (own[axis], "-") for axis in axes if axis != name):
                pairs = ((column, metric_of(result, column), metric_of(other, column)) for column in columns)
                result["against"] = {column: one / two if one is not None and two else None for column, one, two in pairs}
                break
        else:
            result["against"] = dict.fromkeys(columns)


def _shown(result: Mapping[str, Any], column: str) -> float | None:
    """The table's value: the metric, or its ratio to the base."""
    value: float | None = result["against"][column] if "against" in result else metric_of(result, column)
    return value


def _print(axes: Sequence[str], columns: Sequence[str], results: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for every point, with a mark for doubts."""
    table = Table(box=None, header_style="bold")
    for title in (*axes, *columns, ""):
        table.add_column(title, justify="right" if title in columns else "left", overflow="fold")
    for result in results:
        cells = [result["settings"][axis] for axis in axes]
        if "error" in result:
            table.add_row(*cells, "-")
        else:
            table.add_row(*cells, *(_cell(result, column) for column in columns), "?" if result["doubts"] else "")
    console = Console(highlight=False)
    if not console.is_terminal:  # a pipe is as wide as necessary
        console = Console(width=max(console.width, COLUMN * (len(axes) + len(columns))), highlight=False)
    console.print(table)
    for result in results:
        if "error" in result:
            console.print(f"{_named(result)}: {result['error']}", soft_wrap=True)


def _cell(result: Mapping[str, Any], column: str) -> str:
    found = _span(result, column)
    if found is None or found[0] == found[2]:
        return _number(_shown(result, column))
    return f"{_number(found[1])} ({_number(found[0])} to {_number(found[2])})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
