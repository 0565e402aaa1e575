"""Random weights, to measure a geometry without its model (`load_format="dummy"`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from zlib import crc32

import torch
from torch import Tensor

from orcinus.runtime.models import Decoder, Piece

STD = 0.02  # GPT-2's at its start; small enough that no activation overflows, however deep the model is
SEED = 0  # not the engine's: the weights are the model, and equal models are to be compared


def fill_at_random(model: Decoder, whole: Decoder, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Fill a decoder with random weights in place, tensor by tensor.

    Matrices are normal with standard deviation 0.02, weights of norms 1 and biases 0. Equal on equal devices, and on the ranks
    of a mesh: each makes a tensor of the `whole` model (an outline) up and keeps its part of it.
    `progress` hears after every tensor how many bytes have been made, and of how many.
    """
    pieces = {name: model.pieces(name) for name in whole.tensors()}
    done, total = 0, sum(piece.target.nbytes for each in pieces.values() for piece in each)
    for name, outline in whole.tensors().items():
        if pieces[name]:
            _fill(name, pieces[name], outline)
            done += sum(piece.target.nbytes for piece in pieces[name])
            progress(done, total)


def _fill(name: str, pieces: Sequence[Piece], outline: Tensor) -> None:
    target = pieces[0].target
    if name.endswith(".bias") or outline.dim() == 1:  # only norms have weights that are no matrices
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
