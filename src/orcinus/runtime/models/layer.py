"""One layer of a decoder: norms, attention and MLP, with the switches of `DecoderSpec`.

    x = x + f(norm x);       x = x + g(norm x)           GPT-2, Llama (pre-norm)
    x = x + norm f(norm x);  x = x + norm g(norm x)      Gemma 2 (sandwich)
    x = x + norm f(x);       x = x + norm g(x)           OLMo 2 (norm of outputs)
    x = x + f(norm x) + g(norm x)                        GPT-J, Falcon, Cohere (parallel)

f is attention, g the MLP or a mixture of experts. What is added last waits as `delta`, so that the next norm adds and
normalises in one pass.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orcinus.runtime.attention.port import Angles, Attention, Heads
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.linear_weight import Split, SplitKind, SplitPart
from orcinus.runtime.models.linear import Factory, Piece
from orcinus.runtime.models.mixture import Mixture
from orcinus.runtime.models.mlp import MLP
from orcinus.runtime.models.spec import DecoderSpec
from orcinus.runtime.pack import PackedBatch


class Norm(nn.Module):
    """A norm's parameters.

    Gemma's checkpoints hold a weight less 1. The sum is kept in float32: near 1 a narrow format would lose its last bits.
    """

    def __init__(self, make: Factory, spec: DecoderSpec, size: int) -> None:
        super().__init__()
        self.operators, self.eps, self.offset, self.size = make.operators, spec.norm_eps, spec.norm_offset, size
        self.dtype = torch.float32 if spec.norm_offset else make.dtype

    def pieces(self, kind: str) -> list[Piece]:
        """The regions of a tensor that this rank holds, with targets."""
        return [Piece(getattr(self, kind).data, added=self.offset if kind == "weight" else 0.0)]


class RMSNorm(Norm):
    """RMSNorm (Zhang and Sennrich, 2019), after adding the residual."""

    def __init__(self, make: Factory, spec: DecoderSpec, size: int) -> None:
        super().__init__(make, spec, size)
        self.weight = make.empty(size, dtype=self.dtype)

    def forward(self, x: Tensor, delta: Tensor | None = None) -> Tensor:
        """The norm of `x` `[T, size]`, after adding `delta` in place."""
        if delta is None:
            return self.operators.rms_norm(x, self.weight, self.eps)
        return self.operators.add_rms_norm(x, delta, self.weight, self.eps)


class LayerNorm(Norm):
    """LayerNorm, after adding the residual; weight and bias are optional."""

    def __init__(self, make: Factory, spec: DecoderSpec, size: int) -> None:
        super().__init__(make, spec, size)
        self.weight = make.empty(size, dtype=self.dtype) if spec.norm_weight else None
        self.bias = make.empty(size, dtype=self.dtype) if spec.norm_bias else None

    def forward(self, x: Tensor, delta: Tensor | None = None) -> Tensor:
        """The norm of `x` `[T, size]`, after adding `delta` in place."""
        if delta is None:
            return self.operators.layer_norm(x, self.weight, self.bias, self.eps)
        return self.operators.add_layer_norm(x, delta, self.weight, self.bias, self.eps)


NORMS = {"rms": RMSNorm, "layer": LayerNorm}


class Residual(nn.Module):
    """In place of a norm, where there is none: adds the residual."""

    def forward(self, x: Tensor, delta: Tensor | None = None) -> Tensor:
        """`x`, after adding `delta` in place."""
        return x if delta is None else x.add_(delta)


class HeadsNorm(RMSNorm):
    """RMSNorm of all heads' queries, or keys, together (OLMo 2); tensor ranks share the mean of squares."""

    def __init__(self, make: Factory, spec: DecoderSpec, part: SplitPart) -> None:
        tensor, ranks = make.place.tensor, make.place.mesh.tp
        self.mine, self.of_all = part.shard(tensor, ranks), part.size
        super().__init__(make, spec, self.mine.stop - self.mine.start)
        self.collectives = make.collectives if ranks > 1 else None
        self.holders = part.holders(tensor, ranks)

    def pieces(self, kind: str) -> list[Piece]:
        """This rank's heads."""
        region = () if self.collectives is None else (self.mine,)
        return [piece._replace(region=region) for piece in super().pieces(kind)]

    def forward(self, x: Tensor, delta: Tensor | None = None) -> Tensor:
        """`x` `[T, this rank's heads · head_dim]`, normalised in place; it may be a part of a wider row."""
        if self.collectives is None:
            return x.copy_(super().forward(x.contiguous(), delta))
        squares = x.float().square().sum(-1, keepdim=True) / self.holders  # each head counts once
        mean = self.collectives.all_reduce(squares) / self.of_all
        return x.copy_(x.float() * torch.rsqrt(mean + self.eps) * self.weight)


class Layer(nn.Module):
    """A layer, in one of the four forms above."""

    def __init__(self, spec: DecoderSpec, index: int, attend: Attention, make: Factory) -> None:
        super().__init__()
        self.parallel, self.multiplier = spec.parallel, spec.residual_multiplier

        def norm() -> Norm:
            return NORMS[spec.norm](make, spec, spec.hidden_size)

        self.attention_norm = norm() if spec.norm_inputs else Residual()
        self.attention = SelfAttention(spec, index, attend, make.within("attention"))
        self.attention_post_norm = norm() if spec.norm_outputs else None
        self.mlp_norm = None if spec.shared_norm else norm() if spec.norm_inputs else Residual()
        mixture = spec.mixture_of(index)
        self.mlp = (
            MLP(spec, make.within("mlp"), spec.intermediate_size)
            if mixture is None
            else Mixture(spec, mixture, make.within("mlp"))
        )
        self.mlp_post_norm = norm() if spec.norm_outputs else None

    def norms(self) -> list[Norm | Residual]:
        """All norms but those of single heads, which attention computes."""
        of_stream = (self.attention_norm, self.attention_post_norm, self.mlp_norm, self.mlp_post_norm)
        of_heads = (self.attention.q_norm, self.attention.k_norm)
        return [norm for norm in of_stream if norm is not None] + [norm for norm in of_heads if isinstance(norm, HeadsNorm)]

    def forward(
        self,
        x: Tensor,
        delta: Tensor | None,
        angles: Angles | None,
        batch: PackedBatch,
        kv: LayerKV,
        rows: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The residual stream `x`, and what is to be added to it at last.

        `delta` is added to `x` in place, and so is attention's output, unless the MLP runs in parallel. With `rows` both have
        these rows alone: of others keys and values are all that is computed.
        """
        normed = self.attention_norm(x, delta)
        attended = self._scaled(self.attention(normed, angles, batch, kv, rows), self.attention_post_norm)
        if rows is not None:
            x, normed = x.index_select(0, rows), normed.index_select(0, rows)
        if self.mlp_norm is not None:
            normed = self.mlp_norm(x, None if self.parallel else attended)
        out = self._scaled(self.mlp(normed, batch.adapters), self.mlp_post_norm)
        return x, out.add_(attended) if self.parallel else out

    def _scaled(self, out: Tensor, norm: Norm | None) -> Tensor:
        """An output as it is added: normalised and multiplied, if the model does so."""
        out = out if norm is None else norm(out)
        return out if self.multiplier == 1 else out.mul_(self.multiplier)


class SelfAttention(nn.Module):
    """Fused query-key-value projection, the backend's attention, output projection."""

    def __init__(self, spec: DecoderSpec, index: int, attend: Attention, make: Factory) -> None:
        super().__init__()
        self.attend, self.rope, self.clip = attend, spec.rotary[index], spec.clip_qkv
        query, key, value = spec.qkv_sizes
        kv_parts = (SplitPart(key, spec.num_kv_heads, shared=True), SplitPart(value, spec.num_kv_heads, shared=True))
        heads = SplitPart(query, spec.num_heads, groups=spec.num_kv_heads)
        columns, rows = Split(SplitKind.COLUMN, (heads, *kv_parts)), Split(SplitKind.ROW, (heads,))
        self.qkv = make.linear("qkv", spec.hidden_size, query + key + value, columns, bias=spec.qkv_bias)
        self.out = make.linear("out", query, spec.hidden_size, rows, bias=spec.out_bias)
        self.q_norm: RMSNorm | None = None
        self.k_norm: RMSNorm | None = None
        norms = None
        if spec.qk_norm == "head":
            self.q_norm, self.k_norm = RMSNorm(make, spec, spec.head_dim), RMSNorm(make, spec, spec.head_dim)
            norms = self.q_norm.weight, self.k_norm.weight, spec.norm_eps
        elif spec.qk_norm == "all":
            self.q_norm, self.k_norm = HeadsNorm(make, spec, heads), HeadsNorm(make, spec, kv_parts[0])
        mine = [part.units for part in make.split(columns).parts]
        scale, window = spec.scales[index], spec.windows[index]
        self.heads = Heads(mine[0], mine[1], spec.head_dim, scale, window, norms, spec.soft_cap)

    def forward(self, x: Tensor, angles: Angles | None, batch: PackedBatch, kv: LayerKV, rows: Tensor | None = None) -> Tensor:
        qkv = self.qkv(x, batch.adapters)
        if isinstance(self.q_norm, HeadsNorm) and isinstance(self.k_norm, HeadsNorm):
            keys = self.heads.num_heads * self.heads.head_dim
            self.q_norm(qkv[:, :keys])
            self.k_norm(qkv[:, keys : keys + self.heads.num_kv_heads * self.heads.head_dim])
        if self.clip is not None:
            qkv.clamp_(-self.clip, self.clip)
        out: Tensor = self.out(self.attend(qkv, angles, kv, batch, self.heads, rows), batch.adapters)
        return out
