"""The feed-forward network of a layer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from orcinus.errors import ModelError
from orcinus.model_config import shown
from orcinus.runtime.linear_weight import Split, SplitKind, SplitPart
from orcinus.runtime.lora.product import Segment
from orcinus.runtime.models.linear import Factory
from orcinus.runtime.models.spec import DecoderSpec
from orcinus.runtime.operators import ACTIVATIONS


class MLP(nn.Module):
    """The feed-forward network of `width` columns; `up` also holds the gate if it is gated."""

    def __init__(self, spec: DecoderSpec, make: Factory, width: int) -> None:
        super().__init__()
        if spec.activation not in ACTIVATIONS:
            raise ModelError(f"activation {shown(spec.activation)} is not supported: known are {', '.join(ACTIVATIONS)}")
        self.operators, self.activation, self.gated = make.operators, spec.activation, spec.gated_mlp
        parts = (SplitPart(width, width),) * (2 if spec.gated_mlp else 1)
        self.up = make.linear("up", spec.hidden_size, width * len(parts), Split(SplitKind.COLUMN, parts), bias=spec.mlp_bias)
        self.down = make.linear("down", width, spec.hidden_size, Split(SplitKind.ROW, parts[:1]), bias=spec.mlp_bias)

    def activate(self, x: Tensor) -> Tensor:
        """act(gate) · up, or act(up), of what `up` gives."""
        return self.operators.gated(x, self.activation) if self.gated else self.operators.activated(x, self.activation)

    def forward(self, x: Tensor, adapters: Sequence[Segment] = ()) -> Tensor:
        out: Tensor = self.down(self.activate(self.up(x, adapters)), adapters)
        return out
