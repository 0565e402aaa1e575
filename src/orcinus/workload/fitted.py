"""Constants that `benchmarks/fit_lengths.py` fitted, with their residuals."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def fitted(name: str) -> dict[str, Any]:
    """A preset's source, distributions and residuals."""
    known: dict[str, dict[str, Any]] = json.loads(files("orcinus.workload").joinpath("fitted.json").read_text("utf-8"))
    return known[name]
