"""Cosine and sine of the positions of a rotary embedding (RoFormer, section 3.2)."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from orcinus.runtime.attention.port import Angles
from orcinus.runtime.cpu_kernels.elements import array
from orcinus.runtime.models.spec import Rope

Array: TypeAlias = "np.ndarray[Any, Any]"
LEAST_GROWTH = 1024  # positions that a table gains at once


class RotaryAngles:
    """The angles of one rotary embedding, in a model's number format.

    A CPU looks them up in a table, since computing those of a few positions takes five calls of operators in every iteration.
    The table grows to the positions that are asked for, a few hundred bytes each. A GPU computes them: its graphs cannot
    contain a table that grows.
    """

    def __init__(self, rope: Rope, dtype: torch.dtype, device: torch.device) -> None:
        self._frequencies = torch.tensor(rope.inverse_frequencies, dtype=torch.float32, device=device)
        self._scale, self._dtype = rope.scale, dtype
        self._table: Angles | None = self._of(torch.arange(0)) if device.type == "cpu" else None
        self._arrays: tuple[Array, Array] | None = None  # of the table

    @property
    def columns(self) -> int:
        """Angles of a position."""
        return len(self._frequencies)

    def __call__(self, positions: Tensor) -> Angles:
        """Cosine and sine, each `[T, rotated dimensions / 2]`, of positions `[T]`; computed in float32."""
        if self._table is None:
            return self._of(positions)
        cos, sin = self._table_of(1 + int(positions.numpy().max(initial=-1)))
        return cos.index_select(0, positions), sin.index_select(0, positions)

    def arrays(self, positions: int) -> tuple[Array, Array]:
        """A CPU's table of cosines and sines, of at least so many positions, for its kernels."""
        table = self._table_of(positions)
        if self._arrays is None:
            self._arrays = array(table[0]), array(table[1])
        return self._arrays

    def _table_of(self, positions: int) -> Angles:
        assert self._table is not None, "only a CPU has a table"
        missing = positions - len(self._table[0])
        if missing > 0:
            self._table, self._arrays = self._extended(self._table, missing), None
        return self._table

    def _extended(self, table: Angles, missing: int) -> Angles:
        known = len(table[0])
        more = self._of(torch.arange(known, known + max(missing, known, LEAST_GROWTH)))
        return torch.cat([table[0], more[0]]), torch.cat([table[1], more[1]])

    def _of(self, positions: Tensor) -> Angles:
        angles = positions[:, None].float() * self._frequencies
        cos, sin = angles.cos(), angles.sin()
        if self._scale != 1:
            cos, sin = cos.mul_(self._scale), sin.mul_(self._scale)
        return cos.to(self._dtype), sin.to(self._dtype)
