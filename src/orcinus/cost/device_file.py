"""Finds a device by its name, or reads one of one's own from a JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from orcinus.cost.devices import DEVICES, EFFICIENCIES, ELEMENTWISE, DeviceSpec, Efficiency, elementwise_kernels
from orcinus.cost.own_file import find_base, only_fields
from orcinus.errors import ConfigError

KIND, VERSION = "orcinus device", 1
SIZES = ("memory_bytes", "sms")  # whole numbers
DATA_SHEET = (*SIZES, "peak_flops", "bandwidth", "clock_hz")
FIELDS = ("kind", "version", "name", "like", *DATA_SHEET, "linear", "elementwise")
LINEAR = ("flops", "bandwidth", "launch_seconds", "tile_seconds", "split_seconds")
KERNELS = ("norm", "add", "embedding", "rope", "activation")
OF_A_KERNEL = ("latency", "bandwidth")


def find_device(name: str) -> DeviceSpec:
    """The device of this name, or in this .json file.

    Raises `ConfigError` that lists the names if there is none.
    """
    if name.endswith(".json"):
        return read_device(Path(name))
    try:
        return DEVICES[name.lower()]
    except KeyError:
        raise ConfigError(f"unknown device {name!r}: choose one of {', '.join(DEVICES)}, or give a .json file") from None


def is_device_file(name: str) -> bool:
    """Whether this is a file with a device's data sheet, and not one from `orcinus calibrate`."""
    return name.endswith(".json") and _content(Path(name)).get("kind") == KIND


def like_of(name: str) -> str:
    """The known device that a file's device is like, or the name itself."""
    like = _content(Path(name)).get("like") if name.endswith(".json") else name
    return like if isinstance(like, str) else ""


def read_device(path: Path) -> DeviceSpec:
    """The device in a file.

    Raises `ConfigError` if it holds none, with the field that is wrong.
    """
    content = _content(path)
    if (content.get("kind"), content.get("version")) != (KIND, VERSION):
        raise ConfigError(f'{path} is no device: it begins with {{"kind": "{KIND}", "version": {VERSION}, …')
    try:
        return _device(content, path)
    except ConfigError as error:
        raise ConfigError(f"the device {path}: {error}") from None


def _content(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _device(content: Mapping[str, Any], path: Path) -> DeviceSpec:
    only_fields(content, FIELDS, "a device")
    name = content.get("name", path.stem)
    known = {*DEVICES, *EFFICIENCIES, *ELEMENTWISE}
    if not isinstance(name, str) or not name or name.lower() in known:
        raise ConfigError(f"its name must be a text, and none of the known devices, not {name!r}")
    base = find_base(content, DEVICES)
    sheet: dict[str, Any] = {each: _number(content, each) for each in DATA_SHEET if each in content}
    linear, elementwise = _linear(content, base, name), _elementwise(content, base)
    needed = (*DATA_SHEET, "linear", "elementwise")
    if base is None and (missing := [each for each in needed if each not in content]):
        raise ConfigError(f"give {', '.join(missing)}, or `like`, a known device from which the rest is taken")
    kernels = base.elementwise if base and "elementwise" not in content else elementwise_kernels(elementwise, name)
    efficiency = base.efficiency if base and "linear" not in content else Efficiency(**linear)
    if base is not None:
        return replace(base, name=name, chip=name, **sheet, efficiency=efficiency, elementwise=kernels)
    return DeviceSpec(name=name, chip=name, **sheet, efficiency=efficiency, elementwise=kernels)


def _linear(content: Mapping[str, Any], base: DeviceSpec | None, name: str) -> dict[str, Any]:
    """The constants of linear layers: those given, and for the rest those of `like`."""
    given = _object(content.get("linear", {}), "linear", (*LINEAR, "overlapped"))
    found = asdict(base.efficiency) if base else {}
    found |= {each: _number(given, each) for each in LINEAR if each in given} | {"device": name}
    if "overlapped" in given:
        if not isinstance(given["overlapped"], bool):
            raise ConfigError(f"`overlapped` of `linear` must be true or false, not {given['overlapped']!r}")
        found["overlapped"] = given["overlapped"]
    missing = [each for each in LINEAR if each not in found]
    if "linear" in content and missing:
        raise ConfigError(f"`linear` lacks {', '.join(missing)}: give them, or `like`")
    return found


def _elementwise(content: Mapping[str, Any], base: DeviceSpec | None) -> dict[str, dict[str, float]]:
    """The constants of elementwise kernels, likewise."""
    given = _object(content.get("elementwise", {}), "elementwise", KERNELS)
    found = {name: asdict(getattr(base.elementwise, name)) for name in KERNELS} if base else {}
    for name, constants in given.items():
        kernel = _object(constants, name, OF_A_KERNEL)
        found[name] = found.get(name, {}) | {each: _number(kernel, each) for each in kernel}
        if missing := [each for each in OF_A_KERNEL if each not in found[name]]:
            raise ConfigError(f"`{name}` of `elementwise` lacks {', '.join(missing)}")
    missing = [name for name in KERNELS if name not in found]
    if "elementwise" in content and missing:
        raise ConfigError(f"`elementwise` lacks {', '.join(missing)}: give them, or `like`")
    return found


def _number(content: Mapping[str, Any], name: str) -> float:
    value = content[name]
    kinds = int if name in SIZES else (int, float)
    if not isinstance(value, kinds) or isinstance(value, bool) or not math.isfinite(value) or not 0 <= value < 1e18:
        said = "a whole number" if name in SIZES else "a number"
        raise ConfigError(f"`{name}` must be {said} of at least 0, in SI units, not {value!r}")
    return value


def _object(value: object, name: str, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"`{name}` must be an object with {', '.join(known)}, not {value!r}")
    only_fields(value, known, f"`{name}`")
    return value
