"""GGUF's blocks as the levels, scales and offsets that products take.

Formats of 4 bits and Q8_0 are kept exactly. Those of 5 bits, and of 4 with uneven steps (IQ4), become levels of 8, exactly too.
Q2_K, Q3_K and Q6_K, whose scales belong to 16 numbers, are rounded to 8 bits in groups of 32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from orcinus.runtime.grouped_weights import GroupGrid

GROUP, F16 = 32, torch.float16
AT_ONCE = 2**20  # numbers that are rounded at once: they are in float32 meanwhile
SYMMETRIC4, OFFSET4 = GroupGrid(4, GROUP, F16), GroupGrid(4, GROUP, F16, F16)
SYMMETRIC8, OFFSET8 = GroupGrid(8, GROUP, F16), GroupGrid(8, GROUP, F16, F16)
ROUNDED = ("Q2_K", "Q3_K", "Q6_K")
STEPS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)  # of IQ4's numbers
NONLINEAR = torch.tensor([128 + step for step in STEPS], dtype=torch.uint8)
Levels = tuple[Tensor, Tensor, Tensor | None]  # [outputs, inputs] in uint8; scales and offsets [outputs, groups]


def _floats(blocks: Tensor, start: int) -> Tensor:
    """The float16 at a byte of each block, `[outputs, blocks]`."""
    return blocks[..., start : start + 2].contiguous().view(F16)[..., 0]


def _nibbles(blocks: Tensor) -> Tensor:
    """Numbers of 4 bits: all lower halves of the bytes, then all upper ones."""
    return torch.cat((blocks & 15, blocks >> 4), dim=-1)


def _fifth_bits(blocks: Tensor) -> Tensor:
    """32 bits of four bytes, as 16."""
    return (blocks[..., torch.arange(GROUP) // 8] >> (torch.arange(GROUP, dtype=torch.uint8) % 8) & 1) * 16


def _q4_0(blocks: Tensor) -> Levels:
    return _nibbles(blocks[..., 2:]).flatten(1), _floats(blocks, 0), None


def _q4_1(blocks: Tensor) -> Levels:
    return _nibbles(blocks[..., 4:]).flatten(1), _floats(blocks, 0), _floats(blocks, 2)


def _q5_0(blocks: Tensor) -> Levels:
    levels = _nibbles(blocks[..., 6:]) + _fifth_bits(blocks[..., 2:6]) + (128 - 16)  # around 128 instead of 16
    return levels.flatten(1), _floats(blocks, 0), None


def _q5_1(blocks: Tensor) -> Levels:
    levels = _nibbles(blocks[..., 8:]) + _fifth_bits(blocks[..., 4:8])
    return levels.flatten(1), _floats(blocks, 0), _floats(blocks, 2)


def _q8_0(blocks: Tensor) -> Levels:
    return (blocks[..., 2:] ^ 128).flatten(1), _floats(blocks, 0), None


def _k_scales(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Scales and offsets of the eight groups of super-blocks, rounded to float16: their products have 17 bits."""
    packed = blocks[..., 4:16]
    low, high, rest = packed[..., :4], packed[..., 4:8], packed[..., 8:]
    scales = torch.cat((low & 63, (rest & 15) | (low >> 6 << 4)), dim=-1)
    offsets = torch.cat((high & 63, (rest >> 4) | (high >> 6 << 4)), dim=-1)
    scale, offset = (_floats(blocks, start).float()[..., None] for start in (0, 2))
    return (scale * scales).flatten(1).half(), (-offset * offsets).flatten(1).half()


def _q4_k(blocks: Tensor) -> Levels:
    levels = _nibbles(blocks[..., 16:].reshape(*blocks.shape[:2], 4, 32))
    return levels.flatten(1), *_k_scales(blocks)


def _q5_k(blocks: Tensor) -> Levels:
    bits = blocks[..., 16:48, None] >> torch.arange(8, dtype=torch.uint8) & 1  # of a byte: one for each group
    levels = _nibbles(blocks[..., 48:].reshape(*blocks.shape[:2], 4, 32)).flatten(-2) + 16 * bits.transpose(-1, -2).flatten(-2)
    return levels.flatten(1), *_k_scales(blocks)


def _rounded(kind: str) -> Callable[[Tensor], Levels]:
    """Levels of a type with other groups than ours: its numbers, rounded."""

    def read(blocks: Tensor) -> Levels:
        from gguf import GGMLQuantizationType, dequantize

        numbers = dequantize(blocks.flatten(1).numpy(), GGMLQuantizationType[kind])
        return rounded_to_8_bits(torch.from_numpy(np.ascontiguousarray(numbers)))

    return read


def _iq4_nl(blocks: Tensor) -> Levels:
    return NONLINEAR[_nibbles(blocks[..., 2:]).long()].flatten(1), _floats(blocks, 0), None


def _iq4_xs(blocks: Tensor) -> Levels:
    """Super-blocks of eight groups, whose scales have four lower bits in one place and two upper ones in another."""
    groups = torch.arange(8)
    low = blocks[..., 4:8][..., groups // 2] >> (groups % 2 * 4).to(torch.uint8) & 15
    high = blocks[..., 2:4][..., groups // 4] >> (groups % 4 * 2).to(torch.uint8) & 3
    scales = _floats(blocks, 0).float()[..., None] * ((low | high << 4).float() - 32)
    levels = _nibbles(blocks[..., 8:].reshape(*blocks.shape[:2], 8, 16))
    return NONLINEAR[levels.long()].flatten(1), scales.flatten(1).half(), None


def rounded_to_8_bits(numbers: Tensor) -> Levels:
    """Numbers `[outputs, inputs]` rounded to 8 bits, with a scale for each group. Those of Q8_0 stay as they are."""
    outputs, inputs = numbers.shape
    levels = torch.empty(outputs, inputs, dtype=torch.uint8)
    scales = torch.empty(outputs, -(-inputs // GROUP), dtype=torch.float16)
    step = max(1, AT_ONCE // max(1, inputs))
    for some in (slice(first, first + step) for first in range(0, outputs, step)):
        rows = pad(numbers[some].float(), (0, -inputs % GROUP))
        padded = rows.view(len(rows), -1, GROUP)
        scale = (padded.abs().amax(dim=2) / 127).half()
        rounded = (padded / scale.float().clamp_min(1e-36)[..., None]).round_().clamp_(-127, 127).add_(128)
        levels[some], scales[some] = rounded.flatten(1)[:, :inputs], scale
    return levels, scales, None


@dataclass(frozen=True, slots=True)
class KeptType:
    """A GGUF type whose numbers stay integers."""

    grid: GroupGrid
    numbers: int  # of a block
    bytes: int
    read: Callable[[Tensor], Levels]  # blocks `[outputs, blocks, bytes]`

    def levels(self, stored: Tensor) -> Levels:
        """The levels of rows of blocks `[outputs, bytes]`."""
        return self.read(stored.view(len(stored), -1, self.bytes))


KEPT_TYPES = {
    "Q4_0": KeptType(SYMMETRIC4, 32, 18, _q4_0),
    "Q4_1": KeptType(OFFSET4, 32, 20, _q4_1),
    "Q5_0": KeptType(SYMMETRIC8, 32, 22, _q5_0),
    "Q5_1": KeptType(OFFSET8, 32, 24, _q5_1),
    "Q8_0": KeptType(SYMMETRIC8, 32, 34, _q8_0),
    "Q4_K": KeptType(OFFSET4, 256, 144, _q4_k),
    "Q5_K": KeptType(OFFSET8, 256, 176, _q5_k),
    "Q6_K": KeptType(SYMMETRIC8, 256, 210, _rounded("Q6_K")),
    "Q2_K": KeptType(SYMMETRIC8, 256, 84, _rounded("Q2_K")),
    "Q3_K": KeptType(SYMMETRIC8, 256, 110, _rounded("Q3_K")),
    "IQ4_NL": KeptType(SYMMETRIC8, 32, 18, _iq4_nl),
    "IQ4_XS": KeptType(SYMMETRIC8, 256, 136, _iq4_xs),
}
