"""Weights that are made up, to measure what a geometry costs without having the model (`load_format="dummy"`, as in vLLM)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from orcinus.runtime.models import Decoder

STD = 0.02  # GPT-2's at its start; small enough that no activation overflows, however deep the model is
SEED = 0  # not the engine's: the weights are the model, and equal models are to be compared


def fill_at_random(model: Decoder, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Fill a decoder where it is, tensor by tensor in its own dtype: nothing is held beside it.

    Matrices are normal with standard deviation 0.02, weights of norms 1 and biases 0. Equal on equal devices.
    `progress` hears after every tensor how many bytes have been made, and of how many.
    """
    generator = torch.Generator(model.embed.weight.device).manual_seed(SEED)
    parameters = dict(model.named_parameters())
    done, total = 0, sum(parameter.nbytes for parameter in parameters.values())
    for name, parameter in parameters.items():
        _fill(name, parameter, generator)
        done += parameter.nbytes
        progress(done, total)


def _fill(name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
    if name.endswith(".bias"):
        parameter.data.zero_()
    elif parameter.dim() == 1:  # only norms have weights that are no matrices
        parameter.data.fill_(1.0)
    else:
        parameter.data.normal_(std=STD, generator=generator)
