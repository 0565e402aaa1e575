"""What each backend needs is told before anything is loaded, and says what to choose instead."""

from __future__ import annotations

import pytest
import torch

from orcinus.errors import ConfigError
from orcinus.runtime import kernels
from orcinus.runtime.attention import ATTENTION, check
from orcinus.runtime.attention.flash import FlashAttention
from orcinus.runtime.attention.triton import TritonAttention

CPU, GPU = torch.device("cpu"), torch.device("cuda")
HALF, WHOLE = torch.bfloat16, torch.float32


@pytest.fixture(autouse=True)
def _hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU, whose kernels are compiled."""
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


@pytest.mark.parametrize(
    ("name", "device", "dtype", "head_dim"),
    [
        ("reference", CPU, WHOLE, 20),
        ("reference", GPU, HALF, 512),
        ("cpu", CPU, WHOLE, 20),
        ("triton", GPU, WHOLE, 20),
        ("flash", GPU, HALF, 256),
        ("flash", GPU, torch.float16, 80),
    ],
)
def test_what_can_run_passes(name: str, device: torch.device, dtype: torch.dtype, head_dim: int) -> None:
    check(name, device, dtype, head_dim)


@pytest.mark.parametrize(
    ("name", "device", "dtype", "head_dim", "message"),
    [
        ("cpu", GPU, HALF, 128, "'cpu' needs device cpu: choose auto"),
        ("triton", CPU, WHOLE, 128, "'triton' needs device cuda, or TRITON_INTERPRET=1"),
        ("flash", CPU, HALF, 128, "'flash' needs device cuda: choose auto"),
        ("flash", GPU, WHOLE, 128, "computes no float32: choose dtype bfloat16, or triton"),
        ("flash", GPU, HALF, 264, "not 264: choose triton"),
        ("flash", GPU, HALF, 20, "not 20: choose triton"),
    ],
)
def test_what_cannot_run_is_refused(name: str, device: torch.device, dtype: torch.dtype, head_dim: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(name, device, dtype, head_dim)


def test_flash_has_no_soft_cap() -> None:
    check("triton", GPU, HALF, 128, 50.0)
    with pytest.raises(ConfigError, match="no soft cap of scores, which this model needs: choose triton"):
        check("flash", GPU, HALF, 128, 50.0)


def test_kernels_may_be_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's own FlashAttention cannot be."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    check("triton", CPU, WHOLE, 20)
    with pytest.raises(ConfigError, match="'flash' needs device cuda: choose auto"):
        check("flash", CPU, HALF, 128)


def test_flash_needs_an_ampere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    check("triton", GPU, HALF, 128)
    with pytest.raises(ConfigError, match=r"8\.0, and cuda has 7\.5: choose triton"):
        check("flash", GPU, HALF, 128)


@pytest.mark.parametrize("name", ["triton", "flash"])
def test_what_is_not_installed_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs triton, which is not installed: .*\\[gpu\\]', or choose auto"):
        check(name, GPU, HALF, 128)


def test_every_backend_says_what_a_graph_may_capture() -> None:
    told = {name: (make().captures_decodes, make().captures_chunks) for name, make in ATTENTION.items()}
    assert told == {"reference": (False, False), "cpu": (False, False), "triton": (True, True), "flash": (True, False)}


def test_the_names_are_those_of_the_backends() -> None:
    assert isinstance(ATTENTION["triton"](), TritonAttention)
    assert isinstance(ATTENTION["flash"](), FlashAttention)
