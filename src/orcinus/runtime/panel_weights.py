"""Weights in panels, the layout of our own products on CPUs (`cpu_kernels/panel_product.py`).

A row of a product has the same bits in every batch, and a product of few rows takes hardly longer than reading the weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from orcinus.runtime.cpu_kernels.elements import LOADED, array
from orcinus.runtime.cpu_kernels.packed_rows_product import multiply_rows
from orcinus.runtime.cpu_kernels.panel_product import PANEL, segmented_panel_product
from orcinus.runtime.cpu_kernels.vectors import has
from orcinus.runtime.huge_pages import zeros
from orcinus.runtime.linear_weight import LinearWeight, PackedWeight, Split


@cache
def can_use_panels(device: str, dtype: torch.dtype) -> bool:
    """Whether our products are the fastest here: x86 with AVX2, but not bfloat16 where tiles (AMX) multiply it."""
    tiles = dtype is torch.bfloat16 and has("amx-bf16")
    return device == "cpu" and dtype in LOADED and has("avx2") and has("fma") and not tiles


@cache
def _zeros(count: int) -> NDArray[np.float32]:
    return np.zeros(count, np.float32)


@dataclass(frozen=True, slots=True)
class PanelWeight(PackedWeight):
    """A weight in panels."""

    panels: NDArray[Any]  # float32, or words of two bfloat16; see `multiply_panels`
    dtype: torch.dtype
    shape: tuple[int, int]
    split: Split

    @classmethod
    def pack(cls, weight: LinearWeight) -> PanelWeight:
        """A packed copy of a plain weight."""
        plain = weight.tensors()["weight"].detach()
        outputs, inputs = weight.shape
        pairs = plain.dtype is torch.bfloat16
        if pairs and inputs % 2:
            plain = F.pad(plain, (0, 1))
        words = plain.contiguous().view(torch.int32 if pairs else torch.float32)
        whole, rest = divmod(outputs, PANEL)
        packed = zeros((whole + bool(rest), words.shape[1], PANEL), words.dtype)
        packed[:whole].copy_(words[: whole * PANEL].view(whole, PANEL, words.shape[1]).transpose(1, 2))
        if rest:
            packed[whole, :, :rest].copy_(words[whole * PANEL :].t())
        return cls(packed.numpy(), plain.dtype, weight.shape, weight.split)

    @property
    def num_bytes(self) -> int:
        """Bytes of the numbers; the last panel may have some more."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    @staticmethod
    def multiply_segments(weights: Sequence[PanelWeight], x: Tensor, counts: Sequence[int]) -> Tensor:
        """Segments of rows, each times its own weight: the first `counts[0]` rows times the first one, and so on."""
        like, panels = weights[0], [weight.panels for weight in weights]
        out = torch.empty(len(x), like.shape[0], dtype=x.dtype)
        segmented_panel_product(array(like._even(x)), panels, list(counts), like.padded(None), array(out))
        return out

    def _even(self, x: Tensor) -> Tensor:
        """x with as many inputs as there are in the panels: pairs of bfloat16."""
        return F.pad(x, (0, 1)) if self.dtype is torch.bfloat16 and self.shape[1] % 2 else x

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        out = torch.empty(len(x), self.shape[0], dtype=x.dtype)
        multiply_rows(array(self._even(x)), *self.arguments(bias), array(out))
        return out

    def arguments(self, bias: Tensor | None) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """The weight and a bias, as kernels take them."""
        return self.panels, self.padded(bias)

    def padded(self, bias: Tensor | None) -> NDArray[np.float32]:
        """A bias as `multiply_panels` takes it: a number for each output of a panel."""
        outputs = len(self.panels) * PANEL
        return _zeros(outputs) if bias is None else F.pad(bias.float(), (0, outputs - self.shape[0])).numpy()
