"""Which launch is chosen, and how a tuned one is remembered."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from triton.runtime.errors import OutOfResources

from orcinus.errors import ConfigError
from orcinus.runtime.kernels import launch_configs, tune
from orcinus.runtime.kernels.launch_configs import LaunchConfig, ShapeClass, choose, default, memory_file, padded
from orcinus.runtime.kernels.split_kv import choose_shares

CPU = torch.device("cpu")
SHAPE = ShapeClass(128, 4, torch.bfloat16, True)
SHAPES = [
    ShapeClass(dim, group, dtype, decode)
    for dim in (16, 64, 80, 128, 256)
    for group in (1, 3, 8, 20, 64)
    for dtype in (torch.float32, torch.bfloat16)
    for decode in (True, False)
]


def test_padding_takes_the_next_power_of_two() -> None:
    assert [padded(size) for size in (1, 16, 17, 80, 128, 129)] == [16, 16, 32, 128, 128, 256]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_tile_holds_a_token_and_fits_the_shared_memory(shape: ShapeClass) -> None:
    for launch in tune.candidates(shape):
        assert launch.block_m >= shape.group
    tiles = default(shape).block_m + 2 * (default(shape).num_stages - 1) * default(shape).block_n
    assert tiles * padded(shape.head_dim) * shape.dtype.itemsize <= 227 * 1024


def test_tiles_are_powers_of_two() -> None:
    for sizes in ((8, 16), (48, 16), (16, 0)):
        with pytest.raises(ConfigError, match="power of two"):
            LaunchConfig(*sizes, 4, 2)


def test_the_fastest_is_remembered_for_this_class_alone() -> None:
    slow, fast = LaunchConfig(16, 32, 4, 2), LaunchConfig(16, 128, 8, 3)
    assert tune.tune(SHAPE, CPU, {slow: 2.0, fast: 1.0}.__getitem__, [slow, fast]) == fast
    assert choose(SHAPE, CPU) == fast
    other = ShapeClass(64, 4, torch.bfloat16, True)
    assert choose(other, CPU) == default(other)
    launch_configs.remembered.cache_clear()  # as in another process
    assert choose(SHAPE, CPU) == fast
    tune.tune(other, CPU, lambda launch: 1.0, [slow])
    assert choose(SHAPE, CPU) == fast


real = tune.tune


def test_only_what_is_not_remembered_is_tuned(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    measured: list[ShapeClass] = []

    def measure(shape: ShapeClass, device: torch.device, launch: LaunchConfig) -> float:
        measured.append(shape)
        return 1.0

    monkeypatch.setattr(tune, "seconds", measure)
    other = ShapeClass(64, 4, torch.bfloat16, True)
    tune.tune(SHAPE, CPU, lambda launch: 1.0)
    monkeypatch.setattr(tune, "tune", lambda shape, device: real(shape, device, lambda launch: measure(shape, device, launch)))
    tune.tune_unknown([SHAPE, other], CPU)
    assert set(measured) == {other}
    tune.tune_unknown([SHAPE, other], CPU)
    assert len(measured) == len(tune.candidates(other))


def test_what_cannot_be_tuned_runs_with_defaults(caplog: pytest.LogCaptureFixture) -> None:
    tune.tune_unknown([SHAPE], CPU)
    assert "runs with defaults: launches are tuned on a CUDA device" in caplog.text


def test_the_file_says_which_device_and_compiler_it_was() -> None:
    tune.tune(SHAPE, CPU, lambda launch: 1.0)
    file = memory_file()
    assert file is not None
    (key,) = json.loads(file.read_text())
    assert key.startswith("cpu, triton ")
    assert key.endswith("decode-bfloat16-dim128-group4")


def test_a_launch_that_does_not_fit_is_passed_over() -> None:
    def measure(launch: LaunchConfig) -> float:
        if launch.block_n < 128:
            raise OutOfResources(300_000, 232_448, "shared memory")
        return 1.0

    assert tune.tune(SHAPE, CPU, measure).block_n == 128
    with pytest.raises(ConfigError, match="no launch"):
        tune.tune(SHAPE, CPU, measure, [LaunchConfig(16, 16, 4, 2)])


@pytest.mark.parametrize("text", ["not json", "[1]", '{"a": {"block_m": 16}}', '{"a": 7}'])
def test_a_damaged_file_counts_as_none(text: str, caplog: pytest.LogCaptureFixture) -> None:
    file = memory_file()
    assert file is not None
    file.write_text(text)
    with caplog.at_level(logging.WARNING):
        assert choose(SHAPE, CPU) == default(SHAPE)
    assert "are not used" in caplog.text


def test_there_is_nothing_to_measure_on_a_cpu() -> None:
    with pytest.raises(ConfigError, match="CUDA"):
        tune.tune(SHAPE, CPU)


def test_what_is_measured_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triton.testing.do_bench", lambda run, return_mode: run() is not None and 3.0)
    monkeypatch.setattr(tune, "DECODES", (2, 1, 20))
    monkeypatch.setattr(tune, "KV_HEADS", 1)
    assert tune.seconds(ShapeClass(16, 2, torch.float32, True), CPU, LaunchConfig(16, 16, 4, 2)) == 0.003


@pytest.mark.parametrize(
    ("programs", "context", "shares"),
    [(8, 131_072, 33), (8, 1024, 4), (8, 1500, 5), (8, 100, 1), (1, 10**6, 128), (264, 10**6, 1), (0, 10**6, 128)],
)
def test_shares_fill_the_device_but_are_not_tiny(programs: int, context: int, shares: int) -> None:
    assert choose_shares(programs, context, CPU) == shares
