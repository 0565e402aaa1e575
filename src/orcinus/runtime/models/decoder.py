"""One decoder for every architecture in the registry. All of it but attention sees a flat batch of tokens.

tokens [T] ── embed ── layers ── hidden [T] ── rows that are asked for ── norm ── logits [S, vocab]
                          │
          x = x + attention(norm(x));  x = x + mlp(norm(x))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from orcinus.errors import ModelError
from orcinus.model_config import shown
from orcinus.runtime.attention.port import Angles, Attention, Heads
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.models.spec import DecoderSpec
from orcinus.runtime.operators import ACTIVATIONS, PLAIN, Operators
from orcinus.runtime.pack import PackedBatch
from orcinus.runtime.packed import multiply, pack


@dataclass(frozen=True, slots=True)
class Factory:
    """Makes parameters that wait to be filled: no time is spent on random values that a checkpoint replaces."""

    device: torch.device
    dtype: torch.dtype
    operators: Operators = PLAIN

    def empty(self, *shape: int) -> nn.Parameter:
        return nn.Parameter(torch.empty(shape, device=self.device, dtype=self.dtype), requires_grad=False)


class Decoder(nn.Module):
    """Its parameters hold nothing yet: let `load_model` fill them."""

    def __init__(self, spec: DecoderSpec, attend: Attention, make: Factory) -> None:
        super().__init__()
        self.spec, self.attend = spec, attend
        self.embed = Linear(make, spec.hidden_size, spec.vocab_size, bias=False)
        self.positions = None if spec.rope else Linear(make, spec.hidden_size, spec.max_position_embeddings, bias=False)
        self.layers = nn.ModuleList(Layer(spec, index, attend, make) for index in range(spec.num_layers))
        self.norm = Norm(make, spec, spec.hidden_size)
        frequencies = spec.rope.inverse_frequencies if spec.rope else ()
        self.frequencies = torch.tensor(frequencies, dtype=torch.float32, device=make.device)  # no parameter: it is not loaded
        self.head = None if spec.tied else Linear(make, spec.hidden_size, spec.vocab_size, bias=False)

    def pack(self) -> None:
        """Let products read their weights in the CPU's layout. Nothing can be loaded into them afterwards."""
        looked_up = [self.embed, self.positions]
        for module in self.modules():
            if isinstance(module, Linear) and (module not in looked_up or (module is self.embed and self.head is None)):
                module.pack(keep=module in looked_up)

    def forward(self, batch: PackedBatch, kv: Sequence[LayerKV]) -> Tensor:
        """Hidden states `[T, hidden_size]` of all tokens. Keys and values of the batch are written into `kv`."""
        x = self.embed.weight[batch.tokens]
        if self.positions is not None:
            x = x + self.positions.weight[batch.positions]
        angles = self._angles(batch.positions, x.dtype)
        delta = None
        for layer, layer_kv in zip(self.layers, kv, strict=True):
            delta = layer(x, delta, angles, batch, layer_kv)
        return x if delta is None else x.add_(delta)

    def _angles(self, positions: Tensor, dtype: torch.dtype) -> Angles | None:
        """Cosine and sine of every position's angles, each `[T, head_dim / 2]`; computed in float32."""
        if self.spec.rope is None:
            return None
        angles = positions[:, None].float() * self.frequencies
        scale = self.spec.rope.scale
        return (angles.cos() * scale).to(dtype), (angles.sin() * scale).to(dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits `[n, vocab_size]`, in the model's own dtype, of hidden states `[n, hidden_size]`."""
        head = self.embed if self.head is None else self.head
        logits: Tensor = head(self.norm(hidden))
        return logits


class Linear(nn.Module):
    """x · weightᵀ + bias, weight `[outputs, inputs]`. Its rows are also an embedding's vectors."""

    def __init__(self, make: Factory, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = make.empty(outputs, inputs)
        self.bias = make.empty(outputs) if bias else None
        self.packed: Tensor | None = None

    def pack(self, *, keep: bool) -> None:
        """Multiply by a packed copy from now on; the plain weight goes, unless its rows are looked up too."""
        self.packed = pack(self.weight)
        if not keep:
            del self.weight

    def forward(self, x: Tensor) -> Tensor:
        if self.packed is not None:
            return multiply(x, self.packed, self.bias)
        return F.linear(x, self.weight, self.bias)


class Norm(nn.Module):
    """RMSNorm (Zhang and Sennrich, 2019) or LayerNorm over the last dimension, and the sum of the residual before it."""

    def __init__(self, make: Factory, spec: DecoderSpec, size: int) -> None:
        super().__init__()
        self.operators, self.eps, self.weight = make.operators, spec.norm_eps, make.empty(size)
        self.bias = make.empty(size) if spec.norm == "layer" else None

    def forward(self, x: Tensor, delta: Tensor | None = None) -> Tensor:
        """The norm of `x` `[T, size]`, to which `delta` is added first, in place."""
        if self.bias is not None:
            x = x if delta is None else x.add_(delta)
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        if delta is None:
            return self.operators.rms_norm(x, self.weight, self.eps)
        return self.operators.add_rms_norm(x, delta, self.weight, self.eps)


class Layer(nn.Module):
    def __init__(self, spec: DecoderSpec, index: int, attend: Attention, make: Factory) -> None:
        super().__init__()
        self.attention_norm = Norm(make, spec, spec.hidden_size)
        self.attention = SelfAttention(spec, index, attend, make)
        self.mlp_norm = Norm(make, spec, spec.hidden_size)
        self.mlp = MLP(spec, make)

    def forward(self, x: Tensor, delta: Tensor | None, angles: Angles | None, batch: PackedBatch, kv: LayerKV) -> Tensor:
        """What this layer's MLP adds to the residual stream `x`; all that comes before is added to it in place."""
        delta = self.attention(self.attention_norm(x, delta), angles, batch, kv)
        out: Tensor = self.mlp(self.mlp_norm(x, delta))
        return out


class SelfAttention(nn.Module):
    """Fused query-key-value projection, the backend's attention, output projection."""

    def __init__(self, spec: DecoderSpec, index: int, attend: Attention, make: Factory) -> None:
        super().__init__()
        self.attend, self.rotary = attend, spec.rotary[index]
        self.qkv = Linear(make, spec.hidden_size, sum(spec.qkv_sizes), bias=spec.qkv_bias)
        self.out = Linear(make, spec.num_heads * spec.head_dim, spec.hidden_size, bias=spec.out_bias)
        self.q_norm = Norm(make, spec, spec.head_dim) if spec.qk_norm else None
        self.k_norm = Norm(make, spec, spec.head_dim) if spec.qk_norm else None
        norms = (self.q_norm.weight, self.k_norm.weight, spec.norm_eps) if self.q_norm and self.k_norm else None
        scale, window = spec.scales[index], spec.windows[index]
        self.heads = Heads(spec.num_heads, spec.num_kv_heads, spec.head_dim, scale, window, norms)

    def forward(self, x: Tensor, angles: Angles | None, batch: PackedBatch, kv: LayerKV) -> Tensor:
        angles = angles if self.rotary else None
        out: Tensor = self.out(self.attend(self.qkv(x), angles, kv, batch, self.heads))
        return out


class MLP(nn.Module):
    """`up` holds gate and up projections in one matrix when the architecture is gated."""

    def __init__(self, spec: DecoderSpec, make: Factory) -> None:
        super().__init__()
        if spec.activation not in ACTIVATIONS:
            raise ModelError(f"activation {shown(spec.activation)} is not supported: known are {', '.join(ACTIVATIONS)}")
        self.operators, self.activation, self.gated = make.operators, spec.activation, spec.gated_mlp
        self.up = Linear(make, spec.hidden_size, spec.intermediate_size * (2 if spec.gated_mlp else 1), bias=spec.mlp_bias)
        self.down = Linear(make, spec.intermediate_size, spec.hidden_size, bias=spec.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        x = self.operators.gated(x, self.activation) if self.gated else ACTIVATIONS[self.activation](x)
        out: Tensor = self.down(x)
        return out
