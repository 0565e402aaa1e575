"""One decoder for every architecture in the registry. All of it but attention sees a flat batch of tokens.

tokens [T] ── embed ── layers ── hidden [T] ── rows that are asked for ── norm ── logits [S, vocab]
                          │
          x = x + attention(norm(x));  x = x + mlp(norm(x))
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from orcinus.errors import ModelError
from orcinus.model_config import shown
from orcinus.runtime.attention.port import Angles, Attention, Heads
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.linear_weight import Split, SplitKind, SplitPart
from orcinus.runtime.models.linear import Factory, Linear, PlainWeight
from orcinus.runtime.models.spec import DecoderSpec
from orcinus.runtime.operators import ACTIVATIONS
from orcinus.runtime.pack import PackedBatch


class Decoder(nn.Module):
    """Its weights hold nothing yet: let `load_model` fill them."""

    def __init__(self, spec: DecoderSpec, attend: Attention, make: Factory) -> None:
        super().__init__()
        self.spec, self.attend = spec, attend
        self.embed = Embedding(make, spec.vocab_size, spec.hidden_size)
        self.positions = None if spec.rope else Embedding(make, spec.max_position_embeddings, spec.hidden_size)
        self.layers = nn.ModuleList(Layer(spec, index, attend, make) for index in range(spec.num_layers))
        self.norm = Norm(make, spec, spec.hidden_size)
        frequencies = spec.rope.inverse_frequencies if spec.rope else ()
        self.frequencies = torch.tensor(frequencies, dtype=torch.float32, device=make.device)  # no parameter: it is not loaded
        matrix = self.embed.weight if spec.tied else make.empty(spec.vocab_size, spec.hidden_size)
        self.head = Linear(
            PlainWeight(matrix.data, Split(SplitKind.VOCABULARY, (SplitPart(spec.vocab_size, spec.vocab_size),)))
        )

    def linears(self) -> dict[str, Linear]:
        """Linear layers by name, without a tied head."""
        named = {name: module for name, module in self.named_modules() if isinstance(module, Linear)}
        return {name: linear for name, linear in named.items() if not (self.spec.tied and linear is self.head)}

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters()) + sum(linear.num_parameters for linear in self.linears().values())

    def num_bytes(self, *, prepacked: bool) -> int:
        """Bytes of the weights; a prepacked model holds a tied embedding twice."""
        twice = self.head.num_bytes if prepacked and self.spec.tied else 0
        return self._other_bytes + sum(linear.num_bytes for linear in self.linears().values()) + twice

    @property
    def decode_bytes(self) -> int:
        """Bytes of the weights that every iteration reads: all but embeddings."""
        looked_up = self.embed.weight.nbytes + (0 if self.positions is None else self.positions.weight.nbytes)
        linears = {*self.linears().values(), self.head}
        return self._other_bytes - looked_up + sum(linear.num_bytes for linear in linears)

    @property
    def _other_bytes(self) -> int:
        """Bytes of embeddings and norms."""
        return sum(parameter.nbytes for parameter in self.parameters())

    def tensors(self) -> dict[str, Tensor]:
        """All tensors that a checkpoint fills, by name."""
        found: dict[str, Tensor] = {}
        linears = self.linears()
        for name, module in self.named_modules():
            own = linears[name].tensors() if name in linears else dict(module.named_parameters(recurse=False))
            found |= {f"{name}.{kind}": tensor.data for kind, tensor in own.items()}
        return found

    def part(self, name: str, part: int | None) -> Tensor:
        """The view of a tensor for one part of a fused layer; None: all."""
        owner, _, kind = name.rpartition(".")
        module = self.get_submodule(owner)
        found: Tensor = module.part(kind, part) if isinstance(module, Linear) else getattr(module, kind).data
        return found

    def num_parts(self, name: str) -> int:
        """Of how many parts of a fused layer a tensor is made; 1 elsewhere."""
        module = self.get_submodule(name.rpartition(".")[0])
        return len(module.weight.split.parts) if isinstance(module, Linear) else 1

    def process_after_loading(self) -> None:
        """Let every linear layer take its fastest layout, which cannot be loaded into."""
        for module in self.modules():
            if isinstance(module, Linear):
                module.weight = module.weight.process_after_loading()

    def forward(self, batches: Sequence[PackedBatch], kv: Sequence[LayerKV]) -> Tensor:
        """Hidden states `[T, hidden_size]` of all tokens. Keys and values of the batch are written into `kv`.

        `batches` is one batch as each group of layers sees it: they differ in block tables alone.
        """
        tokens, positions = batches[0].tokens, batches[0].positions
        x = self.embed.weight[tokens]
        if self.positions is not None:
            x = x + self.positions.weight[positions]
        angles = self._angles(positions, x.dtype)
        delta = None
        for layer, group, layer_kv in zip(self.layers, self.spec.kv_groups, kv, strict=True):
            delta = layer(x, delta, angles, batches[group], layer_kv)
        return x if delta is None else x.add_(delta)

    def _angles(self, positions: Tensor, dtype: torch.dtype) -> Angles | None:
        """Cosine and sine of every position's angles, each `[T, head_dim / 2]`; computed in float32."""
        if self.spec.rope is None:
            return None
        angles = positions[:, None].float() * self.frequencies
        scale = self.spec.rope.scale
        return (angles.cos() * scale).to(dtype), (angles.sin() * scale).to(dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits `[n, vocab_size]` of hidden states `[n, hidden_size]`, in the model's dtype."""
        logits: Tensor = self.head(self.norm(hidden))
        return logits


class Embedding(nn.Module):
    """Vectors that are looked up, `[rows, size]`."""

    def __init__(self, make: Factory, rows: int, size: int) -> None:
        super().__init__()
        self.weight = make.empty(rows, size)


class Norm(nn.Module):
    """RMSNorm (Zhang and Sennrich, 2019) or LayerNorm, after adding the residual."""

    def __init__(self, make: Factory, spec: DecoderSpec, size: int) -> None:
        super().__init__()
        self.operators, self.eps, self.weight = make.operators, spec.norm_eps, make.empty(size)
        self.bias = make.empty(size) if spec.norm == "layer" else None

    def forward(self, x: Tensor, delta: Tensor | None = None) -> Tensor:
        """The norm of `x` `[T, size]`, after `delta` is added to it in place."""
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
        query, key, value = spec.qkv_sizes
        kv_parts = (SplitPart(key, spec.num_kv_heads, shared=True), SplitPart(value, spec.num_kv_heads, shared=True))
        heads = SplitPart(query, spec.num_heads)
        columns, rows = Split(SplitKind.COLUMN, (heads, *kv_parts)), Split(SplitKind.ROW, (heads,))
        self.qkv = make.linear(spec.hidden_size, query + key + value, columns, bias=spec.qkv_bias)
        self.out = make.linear(query, spec.hidden_size, rows, bias=spec.out_bias)
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
    """The feed-forward network; `up` also holds the gate if it is gated."""

    def __init__(self, spec: DecoderSpec, make: Factory) -> None:
        super().__init__()
        if spec.activation not in ACTIVATIONS:
            raise ModelError(f"activation {shown(spec.activation)} is not supported: known are {', '.join(ACTIVATIONS)}")
        self.operators, self.activation, self.gated = make.operators, spec.activation, spec.gated_mlp
        width = spec.intermediate_size
        parts = (SplitPart(width, width),) * (2 if spec.gated_mlp else 1)
        self.up = make.linear(spec.hidden_size, width * len(parts), Split(SplitKind.COLUMN, parts), bias=spec.mlp_bias)
        self.down = make.linear(width, spec.hidden_size, Split(SplitKind.ROW, parts[:1]), bias=spec.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        x = self.operators.gated(x, self.activation) if self.gated else ACTIVATIONS[self.activation](x)
        out: Tensor = self.down(x)
        return out
