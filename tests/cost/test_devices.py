"""The table of devices: consistent with itself, and helpful about names that are not in it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from orcinus.cost.device_file import find_device
from orcinus.cost.devices import DEVICES, DeviceSpec
from orcinus.errors import ConfigError

A100 = find_device("a100-80g")


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
def test_peaks_are_what_the_multiprocessors_compute(device: DeviceSpec) -> None:
    """Tensor cores do 1024, 2048 or 4096 operations a cycle in each multiprocessor, by generation."""
    per_cycle = device.peak_flops / (device.sms * device.clock_hz)
    assert min(abs(per_cycle / power - 1) for power in (1024, 2048, 4096)) < 0.01


@pytest.mark.parametrize("name", ["a100-40g", "a100-80g", "a6000", "a40", "h100", "h200"])
def test_devices_are_found_whatever_the_case(name: str) -> None:
    assert find_device(name.upper()) is DEVICES[name]
    assert DEVICES[name].name == name


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="unknown device 'tpu': choose one of a100-40g, a100-80g, "):
        find_device("tpu")


@pytest.mark.parametrize("change", [{"flops": 1.1}, {"bandwidth": 0.0}, {"tile_seconds": -1e-9}])
def test_efficiencies_that_no_device_has_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="give "):
        replace(A100.efficiency, **change)


def test_rates_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="must be positive"):
        replace(A100, sms=0)


def test_rows_are_values() -> None:
    assert replace(A100) == A100
    assert hash(replace(A100)) == hash(A100)
    with pytest.raises(FrozenInstanceError):
        A100.sms = 1  # type: ignore[misc]
