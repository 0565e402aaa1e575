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
from orcinus.cli.options import takes
from orcinus.cli.progress import progress
from orcinus.errors import ConfigError
from orcinus.sim.config import SimulationConfig

SHOWN = "request_throughput,output_throughput,rejected,ttft.p50,ttft.p99,tbt.p99,e2e.p50"
WHOLE = ("lengths", "arrivals")  # whose values may hold commas


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
    plot: Annotated[Path | None, typer.Option(help="Draw the first metric against the last setting to this file.")] = None,
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
        raise ConfigError(f"cannot draw against {list(axes)[-1]}, whose values are no numbers: vary a number last")
    if plot is not None:
        check_picture(plot)
    if config.record is not None:
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
    if plot is not None:
        from orcinus.plots.sweep import draw_sweep

        points = [(_setting(result), _shown(result, columns[0])) for result in good]
        draw_sweep(plot, points, list(axes), columns[0] if against is None else f"{columns[0]} against {against}")
    if not good:
        raise typer.Exit(1)


def _columns(metrics: str) -> list[str]:
    """The metrics of the table. Raises `ConfigError` for one that no result can have."""
    from orcinus.sim.record import METRICS

    columns = [name.strip() for name in metrics.split(",") if name.strip()]
    for column in columns or [""]:
        name, _, part = column.partition(".")
        if name not in METRICS or (METRICS[name] and part not in METRICS[name]) or (part and not METRICS[name]):
            known = ", ".join(f"{key}.{parts[0]}" if parts else key for key, parts in METRICS.items())
            raise ConfigError(f"there is no metric {column!r}: choose among {known}")
    return columns


def _axes(vary: Sequence[str]) -> dict[str, list[Any]]:
    """`name=a,b` -> the values by name, as numbers where the setting is one. Raises `ConfigError`."""
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
    """The setting to compare with: its name, and its value as `_setting` says it. Raises `ConfigError` if none varies so."""
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


def _setting(result: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a point, with those that stand inside others."""
    config = dict(result["config"])
    inside = {
        "rate": _option(config["arrivals"], "rate"),
        "ratio": _option(config["lengths"], "ratio"),
        "chunk_size": _option(config["policy"], "chunk_size", "token_budget"),
    }
    return {name: str(value) for name, value in (config | inside).items()}


def _option(spelled: str, *names: str) -> str:
    """The value of the first of these options in `name:a=1:b=2`, or a dash."""
    options = dict(part.split("=", 1) for part in spelled.split(":")[1:] if "=" in part)
    return next((value for name, value in options.items() if name in names), "-")


def _divide(results: Sequence[dict[str, Any]], columns: Sequence[str], axes: Sequence[str], base: tuple[str, str]) -> None:
    """Add to every result its metrics over those of the point with the base's setting and all others equal.

    A base that lacks a setting, as a policy without chunks does, is compared with all values of it.
    """
    name, value = base
    bases = [result for result in results if _setting(result)[name] == value]
    for result in results:
        own = _setting(result)
        for other in bases:
            if all(_setting(other)[axis] in (own[axis], "-") for axis in axes if axis != name):
                pairs = ((column, _metric(result, column), _metric(other, column)) for column in columns)
                result["against"] = {column: one / two if one is not None and two else None for column, one, two in pairs}
                break
        else:
            result["against"] = dict.fromkeys(columns)


def _shown(result: Mapping[str, Any], column: str) -> float | None:
    """What stands in the table: the metric, or its ratio to the base's."""
    value: float | None = result["against"][column] if "against" in result else _metric(result, column)
    return value


def _metric(result: Mapping[str, Any], name: str) -> Any:
    value: Any = result
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _print(axes: Sequence[str], columns: Sequence[str], results: Sequence[Mapping[str, Any]]) -> None:
    table = Table(box=None, header_style="bold")
    for title in (*axes, *columns):
        table.add_column(title, justify="right" if title in columns else "left", overflow="fold")
    for result in results:
        cells = [_setting(result)[axis] for axis in axes]
        if "error" in result:
            table.add_row(*cells, "-")
        else:
            table.add_row(*cells, *(_number(_shown(result, column)) for column in columns))
    console = Console(highlight=False)
    console.print(table)
    for result in results:
        if "error" in result:
            point = ", ".join(f"{axis}={_setting(result)[axis]}" for axis in axes)
            console.print(f"{point}: {result['error']}", soft_wrap=True)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
