"""A calibration as a JSON file: iteration costs and the measured engine."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orcinus.core.view import Limits
from orcinus.cost.fitted import FitError, FittedCost
from orcinus.errors import ConfigError

KIND, VERSION = "orcinus calibration", 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A measured engine: its costs, limits and K/V memory.

    Raises `ConfigError` for sizes below 1.
    """

    model: str
    machine: str  # the processor, and how much of it was used
    device: str
    dtype: str
    attention: str
    limits: Limits
    block_size: int  # tokens
    num_blocks: int
    cost: FittedCost
    doubts: tuple[str, ...] = ()  # why the measurement must not be believed, a line each

    def __post_init__(self) -> None:
        if not all(isinstance(size, int) and size > 0 for size in (self.block_size, self.num_blocks)):
            raise ConfigError(f"K/V memory of {self.num_blocks!r} blocks of {self.block_size!r} tokens is none")
        if not all(isinstance(getattr(self, name), str) for name in ("model", "machine", "device", "dtype", "attention")):
            raise ConfigError("a calibration names its model, machine, device, dtype and attention")
        if not all(isinstance(doubt, str) for doubt in self.doubts):
            raise ConfigError("the doubts of a calibration are lines of text")

    def write(self, path: Path) -> None:
        """Write the file for `read_calibration`. Raises `ConfigError` if that fails."""
        content = {"kind": KIND, "version": VERSION, **asdict(self)}
        try:
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror or error}") from None


def read_calibration(path: Path) -> Calibration:
    """The calibration in a file.

    Raises `ConfigError` if it holds none, or one of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the calibration {path}: {error.strerror or error}") from None
    except ValueError:
        raise ConfigError(f"{path} is no JSON file, and so no calibration: make one with orcinus calibrate") from None
    if not isinstance(content, dict) or (content.pop("kind", None), content.pop("version", None)) != (KIND, VERSION):
        raise ConfigError(
            f"{path} is no calibration of version {VERSION}, and no device: make one with orcinus calibrate, or as "
            "docs/simulator.md shows"
        )
    try:
        return _read(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # a ConfigError is a ValueError
        raise ConfigError(f"the calibration {path} is damaged ({error}): make it again with orcinus calibrate") from None


def _read(content: dict[str, Any]) -> Calibration:
    fitted = content["cost"]
    cost = FittedCost(**fitted | {"error": FitError(**fitted["error"]), "factors": tuple(fitted["factors"])})
    doubts = content.get("doubts", [])
    if not isinstance(doubts, list):
        raise TypeError("doubts must be a list")
    return Calibration(**content | {"limits": Limits(**content["limits"]), "cost": cost, "doubts": tuple(doubts)})
