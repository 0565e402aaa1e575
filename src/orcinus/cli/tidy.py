"""CSV files: a row for each observation, units in column names."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from orcinus.errors import ConfigError

Csv = Annotated[Path | None, typer.Option("--csv", help="Write the numbers to this CSV file, units in its columns' names.")]
SPELLED = {"requests/s": "requests_per_s", "tokens/s": "tokens_per_s", "s/token": "s_per_token"}


def check_csv(path: Path | None) -> None:
    """Raise `ConfigError`, before the work, if a file cannot be written."""
    if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
        raise ConfigError(f"cannot write {path}: give --csv a file in a folder that is there and can be written")


def column(metric: str, unit: str) -> str:
    """`ttft.p99` in `s` -> `ttft_p99_s`; a unit is not repeated."""
    name, spelled = metric.replace(".", "_"), SPELLED.get(unit, unit)
    return name if not spelled or name.endswith(spelled) else f"{name}_{spelled}"


def labelled(name: str, unit: str) -> str:
    """`ttft.p99` in `s` -> `ttft.p99 (s)`, for axes and legends."""
    return f"{name} ({unit})" if unit else name


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the columns of any of them. Raises `ConfigError`."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from None
