"""Linear layers, and their plain weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from orcinus.runtime.linear_weight import PLAIN_LAYERS, LayerFormats, LinearWeight, Quantizer, Split, SplitKind, share
from orcinus.runtime.lora.product import Segment, Updates
from orcinus.runtime.operators import PLAIN, Operators
from orcinus.runtime.packed_weights import packed_format
from orcinus.runtime.parallel.collectives import ALONE, Collectives
from orcinus.runtime.parallel.mesh import WHOLE, MeshPlace
from orcinus.runtime.quantized_weights import QUANTIZED_WEIGHTS, head_format


@dataclass(frozen=True, slots=True)
class PlainWeight:
    """A weight as torch multiplies it."""

    tensor: Tensor
    split: Split

    @classmethod
    def make(cls, shape: tuple[int, int], split: Split, dtype: torch.dtype, device: torch.device) -> PlainWeight:
        """An uninitialised weight."""
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

    def split_dim(self, name: str) -> int | None:
        return self.split.dim

    def part(self, name: str, part: int | None) -> Tensor:
        span = self.split.span(part)
        return self.tensor[:, span] if self.split.dim else self.tensor[span]

    def process_after_loading(self) -> LinearWeight:
        """Itself, or a copy in the fastest layout of a CPU."""
        packed = packed_format(self.tensor.device.type, self.dtype)
        return self if packed is None else packed.pack(self)

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, self.tensor, bias)


@dataclass(frozen=True, slots=True)
class WeightToQuantize(PlainWeight):
    """A plain weight that is quantised once it is loaded."""

    quantized: Quantizer

    @property
    def num_bytes(self) -> int:
        """Bytes of the quantised weight."""
        return self.quantized.bytes_of(self.shape)

    def process_after_loading(self) -> LinearWeight:
        return self.quantized.quantize(self.tensor, self.split)


@dataclass(frozen=True, slots=True)
class Factory:
    """Makes uninitialised parameters of one rank, for a checkpoint to fill."""

    device: torch.device
    dtype: torch.dtype  # dtype of activations, norms and embeddings; a format of linear weights may have others
    operators: Operators = PLAIN
    formats: LayerFormats = PLAIN_LAYERS  # of the checkpoint's linear layers
    quantization: str | None = None  # of plain weights, once they are loaded; in `QUANTIZED_WEIGHTS`
    place: MeshPlace = WHOLE
    collectives: Collectives = ALONE
    prefix: str = ""  # of the names of the layers that it makes

    def within(self, name: str) -> Factory:
        """The factory of a module's parts."""
        return replace(self, prefix=f"{self.prefix}{name}.")

    def share(self, count: int) -> range:
        """The tensor rank's share of `count` things."""
        return share(count, self.place.tensor, self.place.mesh.tp)

    def split(self, split: Split) -> Split:
        """The tensor rank's part of a split.

        Raises `ConfigError` if units would be cut.
        """
        return split.of_rank(self.place.tensor, self.place.mesh.tp)

    def empty(self, *shape: int, dtype: torch.dtype | None = None) -> nn.Parameter:
        """An uninitialised parameter, of the activations' dtype if no other is given."""
        return nn.Parameter(torch.empty(shape, device=self.device, dtype=dtype or self.dtype), requires_grad=False)

    def to_quantize(self, weight: PlainWeight) -> LinearWeight:
        """A plain weight that is quantised after loading, if that was asked for."""
        of_head = weight.split.kind is SplitKind.VOCABULARY
        made: Quantizer | None = self.formats.tied_head if of_head else None
        if self.quantization is not None:
            made = head_format(self.quantization) if of_head else QUANTIZED_WEIGHTS[self.quantization]
        return weight if made is None else WeightToQuantize(weight.tensor, weight.split, made)

    def linear(self, name: str, inputs: int, outputs: int, split: Split, *, bias: bool) -> Linear:
        """A rank's part of a linear layer, in the checkpoint's format.

        Raises `ConfigError` if it cannot be split so.
        """
        mine, stored = self.split(split), self.formats.of(self.prefix + name)
        if split.kind is SplitKind.ROW:
            slices = split.shards(self.place.tensor, self.place.mesh.tp)
            if stored is not None:
                stored.check_shards(slices)
            elif self.quantization is not None:
                QUANTIZED_WEIGHTS[self.quantization].check_shards(slices)
            inputs = mine.size
            bias = bias and self.place.tensor == 0  # added on one rank, because the ranks' products are summed
        else:
            outputs = mine.size
        weight = self.weight(name, (outputs, inputs), mine)
        return Linear(weight, self.empty(outputs).data if bias else None, Shards.of(split, self.place), self.collectives)

    def weight(self, name: str, shape: tuple[int, int], split: Split) -> LinearWeight:
        """A rank's empty weight, in the checkpoint's format or the one that it is quantised to."""
        stored = self.formats.of(self.prefix + name)
        if stored is not None:
            return stored.make(shape, split, self.dtype, self.device)
        return self.to_quantize(PlainWeight.make(shape, split, self.dtype, self.device))


class Piece(NamedTuple):
    """A region of a whole parameter, and the rank's tensor for it."""

    target: Tensor
    region: tuple[slice | int, ...] = ()  # () is all of it
    added: float = 0.0  # to what a checkpoint holds


class PartShare(NamedTuple):
    """A rank's share of the product with one part of a layer."""

    here: slice  # of this rank's outputs
    outputs: slice  # of the part's
    inputs: slice  # of the layer's
    lengths: tuple[int, int]  # outputs and inputs of the share


@dataclass(frozen=True, slots=True)
class Shards:
    """The slices of a linear layer that a rank holds."""

    split: Split  # of the whole layer
    slices: tuple[slice, ...]  # of each part

    @classmethod
    def of(cls, split: Split, place: MeshPlace) -> Shards | None:
        """The rank's shards; None if it holds all of the layer."""
        return cls(split, split.shards(place.tensor, place.mesh.tp)) if place.mesh.tp > 1 else None

    def region(self, part: int, dim: int, *, inside: bool) -> tuple[slice, ...]:
        """A rank's slice of a part, in the whole tensor.

        With `inside` it is counted in a tensor of that part alone.
        """
        mine, first = self.slices[part], 0 if inside else self.split.span(part).start
        return *[slice(None)] * dim, slice(first + mine.start, first + mine.stop)


class Linear(nn.Module):
    """x · weightᵀ + bias, or a rank's part of it.

    The part has some of the outputs, or some of the inputs: then the products are summed over the ranks.
    """

    def __init__(
        self,
        weight: LinearWeight,
        bias: Tensor | None = None,
        shards: Shards | None = None,
        collectives: Collectives = ALONE,
    ) -> None:
        super().__init__()
        self.weight, self.bias, self.shards, self.collectives = weight, bias, shards, collectives
        self.updates: Updates | None = None  # of LoRA adapters
        self.summed = shards is not None and shards.split.kind is SplitKind.ROW

    @property
    def num_parameters(self) -> int:
        outputs, inputs = self.weight.shape
        return outputs * inputs + (0 if self.bias is None else self.bias.numel())

    @property
    def num_bytes(self) -> int:
        return self.weight.num_bytes + (0 if self.bias is None else self.bias.nbytes)

    def tensors(self) -> dict[str, Tensor]:
        """Tensors to fill, by the last part of their checkpoint names."""
        return dict(self.weight.tensors()) | ({} if self.bias is None else {"bias": self.bias})

    def part(self, name: str, part: int | None) -> Tensor:
        """A tensor's view of one part of the layer; None: all."""
        if name != "bias" or self.bias is None:
            return self.weight.part(name, part)
        split = self.weight.split
        return self.bias if split.dim else self.bias[split.span(part)]

    def pieces(self, name: str, part: int | None) -> list[Piece]:
        """The regions of a tensor that this rank holds, with targets.

        The tensor is that of the whole layer, or of one part of it.
        """
        if name == "bias" and self.bias is None:
            return []
        dim = (None if self.summed else 0) if name == "bias" else self.weight.split_dim(name)
        if self.shards is None or dim is None:
            return [Piece(self.part(name, part))]
        inside, parts = part is not None, range(len(self.shards.slices)) if part is None else (part,)
        return [Piece(self.part(name, each), self.shards.region(each, dim, inside=inside)) for each in parts]

    def shares(self, part: int | None) -> list[PartShare]:
        """This rank's shares of the product with a part; None: with the whole layer.

        They hold for weights of any format, as `pieces` does for those to be filled.
        """
        everything, split, inputs = slice(None), self.weight.split, self.weight.shape[1]
        if split.kind is SplitKind.ROW:
            mine = everything if self.shards is None else self.shards.slices[0]
            return [PartShare(everything, everything, mine, self.weight.shape)]
        if self.shards is None:
            here = split.span(part)
            return [PartShare(here, everything, everything, (len(range(self.weight.shape[0])[here]), inputs))]
        inside, parts = part is not None, range(len(self.shards.slices)) if part is None else (part,)
        found = [(split.span(each), self.shards.region(each, 0, inside=inside)[0]) for each in parts]
        return [PartShare(here, outputs, everything, (here.stop - here.start, inputs)) for here, outputs in found]

    def process_after_loading(self) -> None:
        """Give the weight its final form. A second call changes nothing."""
        self.weight = self.weight.process_after_loading()

    def forward(self, x: Tensor, segments: Sequence[Segment] = ()) -> Tensor:
        """The product; rows in segments also get the update of their adapter."""
        out = self.weight.multiply(x, self.bias)
        if segments and self.updates is not None:
            self.updates.add_to(out, x, segments)
        return self.collectives.all_reduce(out) if self.summed else out
