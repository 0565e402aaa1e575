"""Linear layers, their plain weights, and the table of weight formats."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from orcinus.runtime.linear_weight import LinearFormat, LinearWeight, MakeLinearWeight, Split
from orcinus.runtime.onednn_weights import OneDNNWeight, can_prepack
from orcinus.runtime.operators import PLAIN, Operators


@dataclass(frozen=True, slots=True)
class PlainWeight:
    """A weight as torch multiplies it."""

    tensor: Tensor
    split: Split

    @classmethod
    def make(cls, shape: tuple[int, int], split: Split, dtype: torch.dtype, device: torch.device) -> PlainWeight:
        """A weight that waits to be filled."""
        return cls(torch.empty(shape, dtype=dtype, device=device), split)

    @property
    def shape(self) -> tuple[int, int]:
        return self.tensor.shape[0], self.tensor.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        return self.tensor.dtype

    @property
    def num_bytes(self) -> int:
        return self.tensor.nbytes

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.tensor}

    def part(self, name: str, part: int | None) -> Tensor:
        span = self.split.span(part)
        return self.tensor[:, span] if self.split.dim else self.tensor[span]

    def process_after_loading(self) -> LinearWeight:
        """Itself, or a copy in the layout that a CPU multiplies fastest."""
        return OneDNNWeight.prepack(self) if can_prepack(self.tensor.device.type, self.dtype) else self

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, self.tensor, bias)


# By `quant_method` in the quantization_config of a checkpoint; None is a checkpoint without one.
LINEAR_WEIGHTS: dict[str | None, LinearFormat] = {None: lambda settings: PlainWeight.make}


@dataclass(frozen=True, slots=True)
class Factory:
    """Makes uninitialised parameters, for a checkpoint to fill."""

    device: torch.device
    dtype: torch.dtype  # of activations, norms and embeddings; a format of linear weights may have others
    operators: Operators = PLAIN
    linear_weight: MakeLinearWeight = PlainWeight.make

    def empty(self, *shape: int) -> nn.Parameter:
        return nn.Parameter(torch.empty(shape, device=self.device, dtype=self.dtype), requires_grad=False)

    def linear(self, inputs: int, outputs: int, split: Split, *, bias: bool) -> Linear:
        """A linear layer with a weight in the checkpoint's format."""
        weight = self.linear_weight((outputs, inputs), split, self.dtype, self.device)
        return Linear(weight, self.empty(outputs).data if bias else None)


class Linear(nn.Module):
    """x · weightᵀ + bias."""

    def __init__(self, weight: LinearWeight, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    @property
    def num_parameters(self) -> int:
        outputs, inputs = self.weight.shape
        return outputs * inputs + (0 if self.bias is None else self.bias.numel())

    @property
    def num_bytes(self) -> int:
        return self.weight.num_bytes + (0 if self.bias is None else self.bias.nbytes)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint fills, by the last part of its name there."""
        return dict(self.weight.tensors()) | ({} if self.bias is None else {"bias": self.bias})

    def part(self, name: str, part: int | None) -> Tensor:
        """The view of a tensor for one part of the layer; None: all."""
        if name != "bias" or self.bias is None:
            return self.weight.part(name, part)
        split = self.weight.split
        return self.bias if split.dim else self.bias[split.span(part)]

    def forward(self, x: Tensor) -> Tensor:
        return self.weight.multiply(x, self.bias)
