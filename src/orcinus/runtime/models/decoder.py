"""One decoder for every architecture, over a flat batch of tokens.

Only attention sees requests.

tokens [T] ── embed ── layers ── hidden [T] ── rows that are asked for ── norm ── logits [S, vocab]
                          │
          x = x + attention(norm(x));  x = x + mlp(norm(x))

Over several devices every rank runs this code on its part (Megatron-LM, section 3): some heads and columns of the MLP of each
layer of its stage, with one sum over the tensor ranks behind attention and one behind the MLP.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from orcinus.errors import ModelError
from orcinus.model_config import shown
from orcinus.runtime.attention.port import Angles, Attention, Heads
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.linear_weight import Split, SplitKind, SplitPart, share
from orcinus.runtime.models.linear import Factory, Linear, Piece, PlainWeight, Shards
from orcinus.runtime.models.spec import DecoderSpec
from orcinus.runtime.operators import ACTIVATIONS
from orcinus.runtime.pack import PackedBatch
from orcinus.runtime.parallel.stages import check_mesh, stage_layers


class Decoder(nn.Module):
    """A rank's part of a decoder.

    It has the layers of its stage, and of each its tensor rank's part. The first stage has the embedding, the last one norm and
    head. The weights are uninitialised: `load_model` fills them. Raises `ConfigError` if the model cannot be split this way.
    """

    def __init__(self, spec: DecoderSpec, attend: Attention, make: Factory) -> None:
        super().__init__()
        self.spec, self.attend, self.dtype = spec, attend, make.dtype
        self.place, self.collectives = make.place, make.collectives
        check_mesh(spec, self.place.mesh)
        first, last = self.place.first, self.place.last
        self.embed = Embedding(make, spec.vocab_size, spec.hidden_size) if first else None
        self.positions = Embedding(make, spec.max_position_embeddings, spec.hidden_size) if first and not spec.rope else None
        self.stage = stage_layers(spec, self.place.mesh)[self.place.stage]
        self.layers = nn.ModuleDict({str(index): Layer(spec, index, attend, make) for index in self.stage})
        self.kv_groups = spec.kv_groups[self.stage.start : self.stage.stop]
        frequencies = spec.rope.inverse_frequencies if spec.rope else ()
        self.frequencies = torch.tensor(frequencies, dtype=torch.float32, device=make.device)  # no parameter: not loaded
        self.norm = Norm(make, spec, spec.hidden_size) if last else None
        self.head = self._make_head(make) if last else None

    def _make_head(self, make: Factory) -> Linear:
        spec = self.spec
        split = Split(SplitKind.VOCABULARY, (SplitPart(spec.vocab_size, spec.vocab_size),))
        mine = make.split(split)
        matrix = self.embed.weight if spec.tied and self.embed else make.empty(mine.size, spec.hidden_size)
        return Linear(make.to_quantize(PlainWeight(matrix.data, mine)), None, Shards.of(split, self.place))

    @property
    def heads(self) -> Heads:
        """Attention of the stage's first layer; other layers have equally many heads."""
        layer: Layer = next(iter(self.layers.values()))  # type: ignore[assignment]
        return layer.attention.heads

    @property
    def num_kv_heads(self) -> int:
        """Key and value heads of this rank."""
        return self.heads.num_kv_heads

    @property
    def mlp_columns(self) -> int:
        """Columns of each layer's MLP that this rank has."""
        layer: Layer = next(iter(self.layers.values()))  # type: ignore[assignment]
        return layer.mlp.down.weight.shape[1]

    @property
    def _shares_embedding(self) -> bool:
        """Whether the head's matrix is the embedding's own.

        On the last of several stages a tied head is a copy.
        """
        return self.spec.tied and self.embed is not None and self.head is not None

    def linears(self) -> dict[str, Linear]:
        """Linear layers by name, except a head that is the embedding."""
        named = {name: module for name, module in self.named_modules() if isinstance(module, Linear)}
        return {name: linear for name, linear in named.items() if not (self._shares_embedding and linear is self.head)}

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters()) + sum(linear.num_parameters for linear in self.linears().values())

    def num_bytes(self, *, prepacked: bool) -> int:
        """Bytes of the weights; a prepacked or quantised model holds a tied embedding twice."""
        twice = self.head.num_bytes if self.head is not None and prepacked and self._shares_embedding else 0
        return self._other_bytes + sum(linear.num_bytes for linear in self.linears().values()) + twice

    @property
    def decode_bytes(self) -> int:
        """Bytes of the weights that every iteration reads: all but embeddings."""
        looked_up = sum(each.weight.nbytes for each in (self.embed, self.positions) if each is not None)
        linears = {*self.linears().values()} | ({self.head} if self.head is not None else set())
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
        """A tensor's view of one part of a fused layer; None: all."""
        owner, _, kind = name.rpartition(".")
        module = self.get_submodule(owner)
        found: Tensor = module.part(kind, part) if isinstance(module, Linear) else getattr(module, kind).data
        return found

    def pieces(self, name: str, part: int | None = None) -> list[Piece]:
        """The regions of a parameter that this rank holds, with targets.

        The parameter is one of the whole model, or a part of it; [] if none of it is here.
        """
        owner, _, kind = name.rpartition(".")
        if owner == "embed" and self.embed is None and self.spec.tied:
            owner = "head"
        try:
            module = self.get_submodule(owner)
        except AttributeError:  # it is another stage's
            return []
        if isinstance(module, Linear):
            return module.pieces(kind, part)
        region = module.region if isinstance(module, Embedding) else ()
        return [Piece(getattr(module, kind).data, region)]

    def num_parts(self, name: str) -> int:
        """Parts of a fused layer in a tensor; 1 for other layers."""
        module = self.get_submodule(name.rpartition(".")[0])
        return len(module.weight.split.parts) if isinstance(module, Linear) else 1

    def process_when_filled(self, names: Iterable[str]) -> Callable[[str], None]:
        """A callback for each of these tensors, as it is filled.

        After its last tensor a linear layer gets its final form, so that few plain weights take memory at a time.
        """
        linears, left = self.linears(), Counter(name.rpartition(".")[0] for name in names)

        def filled(name: str) -> None:
            owner = name.rpartition(".")[0]
            left[owner] -= 1
            if not left[owner] and owner in linears:
                linears[owner].process_after_loading()

        return filled

    def process_after_loading(self) -> None:
        """Give every linear layer its final form: the fastest layout, or integers.

        Nothing can be loaded into it afterwards.
        """
        for module in self.modules():
            if isinstance(module, Linear):
                module.process_after_loading()

    def forward(self, batches: Sequence[PackedBatch], kv: Sequence[LayerKV], x: Tensor | None = None) -> Tensor:
        """Hidden states `[T, hidden_size]` of all tokens.

        The batch's keys and values are written into `kv`. `batches` is one batch as each group of layers sees it: they differ
        in block tables alone. `x` is the output of the stage before (overwritten); the first stage has none.
        """
        positions = batches[0].positions
        if x is None:
            x = self._embedded(batches[0].tokens, positions)
        angles = self._angles(positions, x.dtype)
        delta = None
        for layer, group, layer_kv in zip(self.layers.values(), self.kv_groups, kv, strict=True):
            delta = layer(x, delta, angles, batches[group], layer_kv)
        return x if delta is None else x.add_(delta)

    def _embedded(self, tokens: Tensor, positions: Tensor) -> Tensor:
        assert self.embed is not None, "only the first stage embeds tokens"
        x = self.embed(tokens)
        if self.positions is not None:
            x = x + self.positions(positions)
        return self.collectives.all_reduce(x)

    def _angles(self, positions: Tensor, dtype: torch.dtype) -> Angles | None:
        """Cosine and sine of every position, each `[T, head_dim / 2]`.

        They are computed in float32.
        """
        if self.spec.rope is None:
            return None
        angles = positions[:, None].float() * self.frequencies
        scale = self.spec.rope.scale
        return (angles.cos() * scale).to(dtype), (angles.sin() * scale).to(dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits `[n, vocab_size]` of hidden states `[n, hidden_size]`.

        They have the model's dtype, and are the same on all ranks.
        """
        tp = self.place.mesh.tp
        return self.collectives.all_gather(
            self.local_logits(hidden), [len(share(self.spec.vocab_size, rank, tp)) for rank in range(tp)]
        )

    def local_logits(self, hidden: Tensor) -> Tensor:
        """Logits of this tensor rank's share of the vocabulary."""
        assert self.norm is not None, "only the last stage has norm and head"
        assert self.head is not None
        logits: Tensor = self.head(self.norm(hidden))
        return logits


class Embedding(nn.Module):
    """A rank's rows of a table `[rows, size]` of vectors.

    The sum of all ranks' results is the whole table's result.
    """

    def __init__(self, make: Factory, rows: int, size: int) -> None:
        super().__init__()
        self.rows, self.whole = make.share(rows), len(make.share(rows)) == rows
        self.weight = make.empty(len(self.rows), size)

    @property
    def region(self) -> tuple[slice, ...]:
        """The region of these rows in the table; () is all."""
        return () if self.whole else (slice(self.rows.start, self.rows.stop),)

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors `[T, size]` of `ids`; zeros for those of other ranks."""
        if self.whole:
            return self.weight[ids]
        places = ids - self.rows.start
        absent = (places < 0) | (places >= len(self.rows))
        return self.weight[places.masked_fill(absent, 0)].masked_fill_(absent[:, None], 0)


class Norm(nn.Module):
    """RMSNorm (Zhang and Sennrich, 2019) or LayerNorm, after adding the residual."""

    def __init__(self, make: Factory, spec: DecoderSpec, size: int) -> None:
        super().__init__()
        self.operators, self.eps, self.weight = make.operators, spec.norm_eps, make.empty(size)
        self.bias = make.empty(size) if spec.norm == "layer" else None

    def forward(self, x: Tensor, delta: Tensor | None = None) -> Tensor:
        """The norm of `x` `[T, size]`, after adding `delta` in place."""
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
        """The MLP's output, to be added to the residual stream `x`.

        `delta` and attention's output are added to `x` in place.
        """
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
        heads = SplitPart(query, spec.num_heads, groups=spec.num_kv_heads)
        columns, rows = Split(SplitKind.COLUMN, (heads, *kv_parts)), Split(SplitKind.ROW, (heads,))
        self.qkv = make.linear(spec.hidden_size, query + key + value, columns, bias=spec.qkv_bias)
        self.out = make.linear(query, spec.hidden_size, rows, bias=spec.out_bias)
        self.q_norm = Norm(make, spec, spec.head_dim) if spec.qk_norm else None
        self.k_norm = Norm(make, spec, spec.head_dim) if spec.qk_norm else None
        norms = (self.q_norm.weight, self.k_norm.weight, spec.norm_eps) if self.q_norm and self.k_norm else None
        scale, window = spec.scales[index], spec.windows[index]
        mine = [part.units for part in make.split(columns).parts]
        self.heads = Heads(mine[0], mine[1], spec.head_dim, scale, window, norms, spec.soft_cap)

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
        x = self.operators.gated(x, self.activation) if self.gated else self.operators.activated(x, self.activation)
        out: Tensor = self.down(x)
        return out
