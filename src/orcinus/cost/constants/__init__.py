"""Constants fitted by `benchmarks/fit_costs.py`, in JSON, with sources and residuals."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def read(name: str) -> dict[str, Any]:
    """The contents of a file: `linear`, `elementwise` or `network`."""
    text = resources.files(__name__).joinpath(f"{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(text))
