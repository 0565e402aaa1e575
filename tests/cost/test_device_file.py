"""A user's own device in a JSON file: read, told apart from calibrations, and refused with the field that is wrong."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from orcinus.cost.architecture import Parallel
from orcinus.cost.cluster import find_cluster
from orcinus.cost.device_file import find_device, is_device_file
from orcinus.cost.linear import elementwise_seconds, linear_seconds
from orcinus.cost.provenance import provenance_of
from orcinus.errors import ConfigError
from orcinus.sim.config import SimulationConfig
from orcinus.sim.machine import find_machine

A40 = find_device("a40")
HEAD = {"kind": "orcinus device", "version": 1}
SHEET = {"memory_bytes": 32 * 2**30, "peak_flops": 2e14, "bandwidth": 1.2e12, "sms": 100, "clock_hz": 1.9e9}
LINEAR = {"flops": 0.7, "bandwidth": 0.8, "launch_seconds": 4e-6, "tile_seconds": 2e-7, "split_seconds": 3e-6}
KERNELS = {name: {"latency": 3e-6, "bandwidth": 0.5} for name in ("norm", "add", "embedding", "rope", "activation")}


def written(folder: Path, content: object) -> str:
    path = folder / "mine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def origins(path: str) -> dict[str, tuple[str, str]]:
    found = provenance_of(find_cluster(path, "pcie", "default", Parallel()), "default", curve=False)
    return {each.operators: (each.basis, each.source) for each in found}


def test_a_device_like_a_known_one_borrows_its_constants(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD | {"like": "a40", "bandwidth": 1.2e12})
    device = find_device(path)
    assert device == replace(A40, name="mine", chip="mine", bandwidth=1.2e12)
    assert origins(path)["linear layers"] == origins(path)["norms and activations"] == ("borrowed", "from a40")
    assert linear_seconds(device, 1, 4096, 4096) < linear_seconds(A40, 1, 4096, 4096)


def test_a_device_of_its_own_has_its_own_constants(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD | SHEET | {"name": "Own 1", "linear": LINEAR, "elementwise": KERNELS})
    device = find_device(path)
    assert (device.name, device.memory_bytes, device.efficiency.flops) == ("Own 1", 32 * 2**30, 0.7)
    assert elementwise_seconds(device, 1.2e12, "norm") == pytest.approx(2.0)
    assert origins(path)["linear layers"] == origins(path)["norms and activations"] == ("given", "for Own 1")


def test_the_documented_example_is_a_device(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/simulator.md").read_text(encoding="utf-8")
    (example,) = [block for block in page.split("```json\n")[1:] if '"orcinus device"' in block]
    device = find_device(written(tmp_path, example.split("```")[0]))
    assert (device.name, device.sms, device.efficiency.flops) == ("rtx-5090", 170, 0.85)


def test_some_constants_replace_those_of_the_known_one(tmp_path: Path) -> None:
    given = {"linear": {"flops": 0.5}, "elementwise": {"norm": {"bandwidth": 0.25}}}
    path = written(tmp_path, HEAD | {"like": "h100", **given})
    device, h100 = find_device(path), find_device("h100")
    assert asdict(device.efficiency) == asdict(h100.efficiency) | {"flops": 0.5, "device": "mine"}
    assert device.elementwise.norm == replace(h100.elementwise.norm, bandwidth=0.25)
    assert device.elementwise.add == h100.elementwise.add
    assert origins(path)["linear layers"][0] == "given"


def test_a_simulation_takes_the_file_with_its_likes_network(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD | {"like": "a40", "memory_bytes": 96 * 2**30})
    config = SimulationConfig(device=path)
    assert (config.measured, config.network, config.model) == (False, "a40-bridges", "mistral-7b")
    machine = find_machine(config)
    assert machine.device == "mine"
    assert machine.kv_tokens > 2 * find_machine(SimulationConfig(device="a40")).kv_tokens
    assert not is_device_file(str(tmp_path / "missing.json"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"like": "a50"}, "`like` must be one of a100-40g, "),
        ({"like": "a40", "name": "A40"}, "none of the known devices, not 'A40'"),
        ({"like": "a40", "watts": 300}, "a device has no field 'watts': it has kind, "),
        ({"like": "a40", "sms": 84.5}, "`sms` must be a whole number"),
        ({"like": "a40", "bandwidth": "fast"}, "`bandwidth` must be a number of at least 0, in SI units, not 'fast'"),
        ({"like": "a40", "bandwidth": True}, "`bandwidth` must be a number"),
        ({"like": "a40", "bandwidth": 0}, "must be positive"),
        ({"like": "a40", "linear": [1]}, "`linear` must be an object with flops, "),
        ({"like": "a40", "linear": {"flops": 1.5}}, "a device reaches a fraction of its peaks"),
        ({"like": "a40", "linear": {"overlapped": 1}}, "`overlapped` of `linear` must be true or false"),
        ({"like": "a40", "elementwise": {"softmax": {}}}, "`elementwise` has no field 'softmax'"),
        ({"like": "a40", "elementwise": {"norm": {"bandwidth": 2}}}, "an elementwise kernel has"),
        (SHEET, "give linear, elementwise, or `like`"),
        ({**SHEET, "linear": {"flops": 0.5}, "elementwise": KERNELS}, "`linear` lacks bandwidth, "),
        ({**SHEET, "linear": LINEAR, "elementwise": {"norm": {"latency": 0}}}, "`norm` of `elementwise` lacks bandwidth"),
        ({**SHEET, "linear": LINEAR, "elementwise": {}}, "`elementwise` lacks norm, "),
    ],
)
def test_a_wrong_file_is_refused_with_the_field_that_is_wrong(content: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = written(tmp_path, HEAD | content)
    with pytest.raises(ConfigError) as error:
        find_device(path)
    assert str(error.value).startswith(f"the device {path}: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["{", "[]", '{"kind": "orcinus device", "version": 2}', "[" * 100_000])
def test_what_is_no_device_is_refused(content: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no device: it begins with"):
        find_device(written(tmp_path, content))
