"""Random weights, to measure a geometry without its model (`load_format="dummy"`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from zlib import crc32

import torch
from torch import Tensor

from orcinus.runtime.models import Decoder, Piece

STD = 0.02  # GPT-2's initial value; small enough that no activation overflows at any depth
SEED = 0  # independent of the engine's seed: equal models can then be compared


def fill_at_random(
    model: Decoder,
    whole: Decoder,
    progress: Callable[[int, int], None] = lambda done, total: None,
    filled: Callable[[str], None] = lambda name: None,
) -> None:
    """Fill a decoder with random weights in place, tensor by tensor.

    Matrices are normal with standard deviation 0.02, norm weights 1 and biases 0. The weights are equal on equal devices, and
    on the ranks of a mesh: each rank makes each tensor of the `whole` model (an outline) and keeps its part. `progress` is
    called after every tensor with the bytes made and the bytes in all, and `filled` with its name.
    """
    pieces = {name: model.pieces(name) for name in whole.tensors()}
    done, total = 0, sum(piece.target.nbytes for each in pieces.values() for piece in each)
    for name, outline in whole.tensors().items():
        mine = pieces.pop(name)  # the last reference to a weight that is packed or quantised when it is filled
        if mine:
            _fill(name, mine, outline)
            done += sum(piece.target.nbytes for piece in mine)
            del mine
            filled(name)
            progress(done, total)


def _fill(name: str, pieces: Sequence[Piece], outline: Tensor) -> None:
    target = pieces[0].target
    if name.endswith(".bias") or outline.dim() == 1:  # only norms have one-dimensional weights
        for piece in pieces:
            piece.target.fill_(0.0 if name.endswith(".bias") else 1.0)
        return
    generator = torch.Generator(target.device).manual_seed(SEED + crc32(name.encode()))
    if not pieces[0].region:
        target.normal_(std=STD, generator=generator)
        return
    made = torch.empty(outline.shape, dtype=target.dtype, device=target.device).normal_(std=STD, generator=generator)
    for piece in pieces:
        piece.target.copy_(made[piece.region])
