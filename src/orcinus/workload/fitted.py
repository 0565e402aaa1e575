"""Constants that `benchmarks/fit_lengths.py` fitted to published traces and tables, with what the fit leaves over."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def fitted(name: str) -> dict[str, Any]:
    """What is known of one preset: its source, its distributions, and the residuals of the fit."""
    known: dict[str, dict[str, Any]] = json.loads(files("orcinus.workload").joinpath("fitted.json").read_text("utf-8"))
    return known[name]
