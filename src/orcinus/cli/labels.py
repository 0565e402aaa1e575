"""Labels for the runs of one command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def varying(configs: Sequence[Any], names: Sequence[str]) -> list[str]:
    """Fields in which the configs differ.

    A paper stands for its policy and K/V manager.
    """
    found = [name for name in names if len({getattr(config, name) for config in configs}) > 1]
    return [name for name in found if name not in ("policy", "kv")] if "paper" in found else found


def labels(configs: Sequence[Any], names: Sequence[str]) -> list[str]:
    """A label for each config, from the fields that differ.

    Else its paper or its policy; equal ones are counted.
    """
    differing = varying(configs, names)
    found = [
        ", ".join(str(getattr(config, name)) for name in differing) or config.paper or str(config.policy) for config in configs
    ]
    seen = [found[:place].count(label) for place, label in enumerate(found)]
    return [f"{label} ({again + 1})" if again else label for label, again in zip(found, seen, strict=True)]
