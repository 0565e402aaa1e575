"""Simulated experiments: the acceptance rows, then further ones."""

from __future__ import annotations

from collections.abc import Sequence

from orcinus.errors import ConfigError
from orcinus.papers.simulated import orca, sarathi, sarathi_serve, sarathi_serve_nodes, sarathi_serve_tensors, vllm
from orcinus.papers.simulated.experiment import Experiment

BESIDES = 0  # the number of experiments that are not in the table
ROWS: tuple[Experiment, ...] = tuple(
    sorted(
        (*orca.ROWS, *sarathi.ROWS, *sarathi_serve.ROWS, sarathi_serve_nodes.ROW, sarathi_serve_tensors.ROW, *vllm.ROWS),
        key=lambda row: (row.number == BESIDES, row.number),
    )
)


def choose(numbers: Sequence[int]) -> tuple[Experiment, ...]:
    """The rows of these numbers; default: all. Raises `ConfigError`."""
    known = dict.fromkeys(row.number for row in ROWS)
    for wanted in numbers:
        if wanted not in known:
            raise ConfigError(f"there is no row {wanted}: choose among {', '.join(map(str, known))} (0: besides the table)")
    return tuple(row for row in ROWS if row.number in numbers) if numbers else ROWS
