"""Products and operators: never faster than the device, dearer by tiles, and as measured."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.cost.constants import read
from orcinus.cost.device_file import find_device
from orcinus.cost.devices import DEVICES, DeviceSpec
from orcinus.cost.linear import OPERATORS, elementwise_seconds, linear_seconds
from orcinus.errors import ConfigError
from tests.cost.measurements import assert_file_agrees_with_itself, needs_data, script

A100 = find_device("a100-80g")
ROUNDING = 1 + 1e-12
devices = st.sampled_from(list(DEVICES.values()))
tokens = st.integers(1, 8192)
widths = st.integers(1, 256).map(lambda count: 64 * count)


@given(devices, tokens, widths, widths, st.sampled_from([0.5, 1, 2]))
def test_no_product_is_faster_than_the_data_sheet(device: DeviceSpec, m: int, k: int, n: int, bytes_per_weight: float) -> None:
    seconds = linear_seconds(device, m, k, n, bytes_per_weight)
    assert seconds >= 2 * m * k * n / device.peak_flops
    assert seconds >= (bytes_per_weight * k * n + 2 * m * (k + n)) / device.bandwidth


@given(devices, tokens, st.integers(1, 512), widths, widths)
def test_more_tokens_never_take_less(device: DeviceSpec, m: int, more: int, k: int, n: int) -> None:
    assert linear_seconds(device, m, k, n) <= linear_seconds(device, m + more, k, n) * ROUNDING


@given(devices, tokens, widths, widths)
def test_smaller_weights_never_take_longer(device: DeviceSpec, m: int, k: int, n: int) -> None:
    assert linear_seconds(device, m, k, n, 1) <= linear_seconds(device, m, k, n, 2) * ROUNDING


@given(devices, widths, widths)
def test_tokens_that_share_a_tile_cost_their_own_bytes_and_nothing_else(device: DeviceSpec, k: int, n: int) -> None:
    """From 193 to 256 tokens the tiles are the same, so that only activations make a difference."""
    extra = linear_seconds(device, 256, k, n) - linear_seconds(device, 193, k, n)
    sums = 9 * 63 * n * 4 / device.shared_bandwidth  # at most, if the inner dimension is split in eight
    assert -1e-15 <= extra <= 2 * 63 * (k + n) / (device.bandwidth * device.efficiency.bandwidth) + sums + 1e-15


def test_one_token_more_than_fills_the_tiles_costs_a_wave() -> None:
    """SARATHI section 2.1: 257 tokens take 32 % longer than 256 in the linear layers of LLaMA-13B on an A6000."""
    layers = [(5120, 15360), (5120, 5120), (5120, 20480), (20480, 5120)]
    below, full, above = (sum(linear_seconds(find_device("a6000"), m, k, n) for k, n in layers) for m in (250, 256, 257))
    assert full / below < 1.02
    assert 1.24 <= above / full <= 1.40


def test_a_decode_costs_what_its_weights_cost_to_read() -> None:
    one, many = (linear_seconds(A100, m, 4096, 22016) for m in (1, 32))
    assert many / one < 1.05
    assert 2 * 4096 * 22016 / one > 0.7 * A100.bandwidth


@pytest.mark.parametrize(("name", "least", "most"), [("a100-80g", 0.7, 0.85), ("a6000", 0.6, 0.8), ("h100", 0.55, 0.75)])
def test_large_products_reach_a_plausible_share_of_the_peak(name: str, least: float, most: float) -> None:
    device = find_device(name)
    assert least < 2 * 8192**3 / linear_seconds(device, 8192, 8192, 8192) / device.peak_flops < most


@pytest.mark.parametrize("sizes", list(itertools.permutations([0, 64, 64]))[::2])
def test_a_product_of_nothing_is_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        linear_seconds(A100, *sizes)


@given(devices, st.sampled_from(sorted(OPERATORS)), st.floats(0, 1e10), st.floats(0, 1e10))
def test_an_operator_takes_its_latency_or_its_bytes(device: DeviceSpec, name: str, size: float, more: float) -> None:
    seconds = elementwise_seconds(device, size, name)
    assert seconds * ROUNDING >= max(getattr(device.elementwise, name).latency, size / device.bandwidth)
    assert elementwise_seconds(device, size + more, name) * ROUNDING >= seconds


def test_an_operator_that_was_not_measured_is_refused_with_those_that_were() -> None:
    with pytest.raises(ConfigError, match="unknown operator 'softmax': choose one of norm, "):
        elementwise_seconds(A100, 1024, "softmax")


LARGEST = {  # accepted medians and 90th percentiles of the errors of each linear layer, and of each column (tp degree)
    "a100, Llama-2-7b": (0.07, 0.14, 0.09, 0.16),
    "a100, CodeLlama-34b": (0.06, 0.16, 0.11, 0.2),
    "a40, Llama-2-7b, tp 1 and 4": (0.06, 0.18, 0.08, 0.21),
    "a40, Llama-2-7b, tp 2 and 8": (0.08, 0.21, 0.12, 0.23),
    "h100, Llama-2-7b, tp 1 and 4": (0.09, 0.22, 0.1, 0.22),
    "h100, Llama-2-7b, tp 2 and 8": (0.09, 0.22, 0.11, 0.22),
}


@pytest.mark.parametrize("profile", LARGEST)
def test_residuals_of_products_are_small(profile: str) -> None:
    median, high, of_a_degree, high_of_a_degree = LARGEST[profile]
    residuals = read("linear")["residuals"][profile]
    assert set(residuals) == {*script().LINEARS, "sum"}
    assert residuals["sum"]["all"][0] <= 0.055
    for columns in residuals.values():
        assert columns["all"][0] <= median
        assert columns["all"][1] <= high
        assert all(middle <= of_a_degree and top <= high_of_a_degree for middle, top in columns.values())


@pytest.mark.parametrize("profile", LARGEST)
def test_residuals_of_elementwise_kernels_are_small(profile: str) -> None:
    """Times are whole microseconds, so small kernels are off by a tenth at least: the percentiles are theirs."""
    residuals = read("elementwise")["residuals"][profile]
    assert set(residuals) == set(OPERATORS)
    assert all(columns["all"][0] <= 0.1 for columns in residuals.values())


@pytest.mark.parametrize("chip", ["a40", "h100"])
def test_a_measured_chip_does_not_borrow(chip: str) -> None:
    device = find_device(chip)
    assert device.efficiency.device == device.elementwise.device == chip
    assert read("linear")["efficiency"][chip] != read("linear")["efficiency"]["a100"]


@needs_data
@pytest.mark.parametrize("name", ["linear", "elementwise"])
def test_the_residuals_in_the_file_are_those_of_the_constants_in_it(name: str) -> None:
    assert_file_agrees_with_itself(name)
