"""What runs of one command are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def labels(configs: Sequence[Any], names: Sequence[str]) -> list[str]:
    """What sets each config apart from the others, of these fields; else its paper or its policy. Equal ones are counted."""
    varying = [name for name in names if len({getattr(config, name) for config in configs}) > 1]
    if "paper" in varying:  # it says both
        varying = [name for name in varying if name not in ("policy", "kv")]
    found = [
        ", ".join(str(getattr(config, name)) for name in varying) or config.paper or str(config.policy) for config in configs
    ]
    seen = [found[:place].count(label) for place, label in enumerate(found)]
    return [f"{label} ({again + 1})" if again else label for label, again in zip(found, seen, strict=True)]
