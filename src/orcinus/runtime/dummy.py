"""Random weights, to measure a geometry without its model (`load_format="dummy"`)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from orcinus.runtime.models import Decoder

STD = 0.02  # GPT-2's at its start; small enough that no activation overflows, however deep the model is
SEED = 0  # not the engine's: the weights are the model, and equal models are to be compared


def fill_at_random(model: Decoder, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Fill a decoder with random weights in place, tensor by tensor.

    Matrices are normal with standard deviation 0.02, weights of norms 1 and biases 0. Equal on equal devices.
    `progress` hears after every tensor how many bytes have been made, and of how many.
    """
    generator = torch.Generator(model.embed.weight.device).manual_seed(SEED)
    tensors = model.tensors()
    done, total = 0, sum(tensor.nbytes for tensor in tensors.values())
    for name, tensor in tensors.items():
        _fill(name, tensor, generator)
        done += tensor.nbytes
        progress(done, total)


def _fill(name: str, tensor: Tensor, generator: torch.Generator) -> None:
    if name.endswith(".bias"):
        tensor.zero_()
    elif tensor.dim() == 1:  # only norms have weights that are no matrices
        tensor.fill_(1.0)
    else:
        tensor.normal_(std=STD, generator=generator)
