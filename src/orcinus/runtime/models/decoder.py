"""One decoder for every architecture in the registry. All of it but attention sees a flat batch of tokens.

tokens [T] ── embed ── layers ── hidden [T] ── rows that are asked for ── norm ── logits [S, vocab]
                          │
          x = x + attention(norm(x));  x = x + mlp(norm(x))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from orcinus.errors import ModelError
from orcinus.runtime.attention.port import Attention
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.models.spec import DecoderSpec, Rope
from orcinus.runtime.pack import PackedBatch
from orcinus.runtime.packed import multiply, pack


def _tanh_gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "swish": F.silu,
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
}


@dataclass(frozen=True, slots=True)
class Factory:
    """Makes parameters that wait to be filled: no time is spent on random values that a checkpoint replaces."""

    device: torch.device
    dtype: torch.dtype

    def empty(self, *shape: int) -> nn.Parameter:
        return nn.Parameter(torch.empty(shape, device=self.device, dtype=self.dtype), requires_grad=False)


class Decoder(nn.Module):
    """Its parameters hold nothing yet: let `load_model` fill them."""

    def __init__(self, spec: DecoderSpec, attend: Attention, make: Factory) -> None:
        super().__init__()
        self.spec = spec
        self.embed = Linear(make, spec.hidden_size, spec.vocab_size, bias=False)
        self.positions = None if spec.rope else Linear(make, spec.hidden_size, spec.max_position_embeddings, bias=False)
        self.layers = nn.ModuleList(Layer(spec, index, attend, make) for index in range(spec.num_layers))
        self.norm = Norm(make, spec, spec.hidden_size)
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
        angles = _angles(self.spec.rope, batch.positions, x.dtype) if self.spec.rope else None
        for layer, layer_kv in zip(self.layers, kv, strict=True):
            x = layer(x, angles, batch, layer_kv)
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits `[n, vocab_size]` in float32 of hidden states `[n, hidden_size]`."""
        head = self.embed if self.head is None else self.head
        logits: Tensor = head(self.norm(hidden))
        return logits.float()


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
    """RMSNorm (Zhang and Sennrich, 2019) or LayerNorm over the last dimension."""

    def __init__(self, make: Factory, spec: DecoderSpec, size: int) -> None:
        super().__init__()
        self.eps, self.weight = spec.norm_eps, make.empty(size)
        self.bias = make.empty(size) if spec.norm == "layer" else None

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class Layer(nn.Module):
    def __init__(self, spec: DecoderSpec, index: int, attend: Attention, make: Factory) -> None:
        super().__init__()
        self.attention_norm = Norm(make, spec, spec.hidden_size)
        self.attention = SelfAttention(spec, index, attend, make)
        self.mlp_norm = Norm(make, spec, spec.hidden_size)
        self.mlp = MLP(spec, make)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor] | None, batch: PackedBatch, kv: LayerKV) -> Tensor:
        x = x + self.attention(self.attention_norm(x), angles, batch, kv)
        out: Tensor = x + self.mlp(self.mlp_norm(x))
        return out


class SelfAttention(nn.Module):
    """Fused query-key-value projection, optional head norms and rotation, the backend's attention, output projection."""

    def __init__(self, spec: DecoderSpec, index: int, attend: Attention, make: Factory) -> None:
        super().__init__()
        self.attend, self.scale, self.window = attend, spec.scales[index], spec.windows[index]
        self.rotary, self.head_dim = spec.rotary[index], spec.head_dim
        self.heads = (spec.num_heads, spec.num_kv_heads, spec.num_kv_heads)
        self.qkv = Linear(make, spec.hidden_size, sum(spec.qkv_sizes), bias=spec.qkv_bias)
        self.out = Linear(make, spec.num_heads * spec.head_dim, spec.hidden_size, bias=spec.out_bias)
        self.q_norm = Norm(make, spec, spec.head_dim) if spec.qk_norm else None
        self.k_norm = Norm(make, spec, spec.head_dim) if spec.qk_norm else None

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor] | None, batch: PackedBatch, kv: LayerKV) -> Tensor:
        q, k, v = self.qkv(x).view(len(x), sum(self.heads), self.head_dim).split(self.heads, dim=1)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if angles is not None and self.rotary:
            q, k = _rotate(q, *angles), _rotate(k, *angles)
        out: Tensor = self.out(self.attend(q, k, v, kv, batch, self.scale, self.window).flatten(1))
        return out


class MLP(nn.Module):
    """`up` holds gate and up projections in one matrix when the architecture is gated."""

    def __init__(self, spec: DecoderSpec, make: Factory) -> None:
        super().__init__()
        if spec.activation not in ACTIVATIONS:
            raise ModelError(f"activation {spec.activation!r} is not supported: known are {', '.join(ACTIVATIONS)}")
        self.act, self.gated = ACTIVATIONS[spec.activation], spec.gated_mlp
        self.up = Linear(make, spec.hidden_size, spec.intermediate_size * (2 if spec.gated_mlp else 1), bias=spec.mlp_bias)
        self.down = Linear(make, spec.intermediate_size, spec.hidden_size, bias=spec.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        if self.gated:
            gate, up = x.chunk(2, dim=-1)
            x = self.act(gate) * up
        else:
            x = self.act(x)
        out: Tensor = self.down(x)
        return out


def _angles(rope: Rope, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position's angles, each `[T, 1, head_dim / 2]`; computed in float32."""
    frequencies = torch.tensor(rope.inverse_frequencies, dtype=torch.float32, device=positions.device)
    angles = positions[:, None, None].float() * frequencies
    return (angles.cos() * rope.scale).to(dtype), (angles.sin() * rope.scale).to(dtype)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + head_dim / 2) of every head of `x` `[T, heads, head_dim]` (RoFormer, as Llama pairs them)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
