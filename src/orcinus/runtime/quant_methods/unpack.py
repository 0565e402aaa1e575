"""Unsigned integers of 2 to 8 bits, packed densely into 32-bit words."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

AT_ONCE = 32  # so many numbers take a whole number of words, whatever their bits


def unpack(words: Tensor, bits: int) -> Tensor:
    """The numbers in int32 words `[..., words]`, lowest bits first: uint8 `[..., words · 32 / bits]`."""
    found = words.contiguous().view(torch.uint8)
    if bits == 8:
        return found
    if 8 % bits == 0:
        fields = [(found >> shift) & (2**bits - 1) for shift in range(0, 8, bits)]
        return torch.stack(fields, dim=-1).flatten(-2)
    single = np.unpackbits(found.numpy(), axis=-1, bitorder="little")
    count = single.shape[-1] // bits
    numbers = single[..., : count * bits].reshape(*single.shape[:-1], count, bits)
    return torch.from_numpy(numbers @ (1 << np.arange(bits)).astype(np.uint8))


def unpack_span(words: Tensor, bits: int, span: range) -> Tensor:
    """The numbers of a span of the last dimension, from the words that hold them."""
    first, last = span.start // AT_ONCE, -(-span.stop // AT_ONCE)
    start = first * AT_ONCE
    return unpack(words[..., first * bits : last * bits], bits)[..., span.start - start : span.stop - start]
