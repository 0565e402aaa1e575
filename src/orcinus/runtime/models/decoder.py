"""One decoder for every architecture, over a flat batch of tokens.

Only attention sees requests.

tokens [T] ── embed ── layers ── hidden [T] ── rows that are asked for ── norm ── logits [S, vocab]
                          │
          x = x + attention(norm(x));  x = x + mlp(norm(x))         (`layer.py` has the variants)

Over several devices every rank runs this code on its part (Megatron-LM, section 3): some heads and columns of the MLP of each
layer of its stage, with one sum over the tensor ranks behind attention and one behind the MLP.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from orcinus.runtime.attention.port import Angles, Attention, Heads
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.linear_weight import Split, SplitKind, SplitPart, share
from orcinus.runtime.models.embedding import Embedding
from orcinus.runtime.models.fused_layers import FusedLayers, can_fuse
from orcinus.runtime.models.layer import NORMS, Layer, Norm
from orcinus.runtime.models.linear import Factory, Linear, Piece, PlainWeight, Shards
from orcinus.runtime.models.mixture import Mixture
from orcinus.runtime.models.mlp import MLP
from orcinus.runtime.models.spec import DecoderSpec
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
        self.embed = Embedding(make, spec.vocab_size, spec.hidden_size, make.formats.embedding) if first else None
        learned = first and spec.learned_positions
        self.positions = Embedding(make, spec.max_position_embeddings, spec.hidden_size) if learned else None
        self.stage = stage_layers(spec, self.place.mesh)[self.place.stage]
        self.layers = nn.ModuleDict(
            {str(index): Layer(spec, index, attend, make.within(f"layers.{index}")) for index in self.stage}
        )
        self.decode_layers: FusedLayers | None = None  # the same layers, for batches of decodes alone
        self.kv_groups = spec.kv_groups[self.stage.start : self.stage.stop]
        self.frequencies = [  # no parameters: not loaded
            torch.tensor(rope.inverse_frequencies, dtype=torch.float32, device=make.device) for rope in spec.ropes
        ]
        self.norm = NORMS[spec.norm](make, spec, spec.hidden_size) if last else None
        self.head = self._make_head(make) if last else None

    def _make_head(self, make: Factory) -> Linear:
        spec = self.spec
        split = Split(SplitKind.VOCABULARY, (SplitPart(spec.vocab_size, spec.vocab_size),))
        mine = make.split(split)
        tied = spec.tied and self.embed is not None
        shared = self.embed.weight.data if tied and self.embed else None
        if spec.tied and (stored := make.formats.embedding) is not None:
            if shared is None:
                shared = torch.empty(mine.size, stored.row_bytes(spec.hidden_size), dtype=torch.uint8, device=make.device)
            weight = stored.weight(shared, spec.hidden_size, mine)
        elif shared is not None:
            weight = make.to_quantize(PlainWeight(shared, mine))
        else:
            weight = make.weight("head", (mine.size, spec.hidden_size), mine)
        bias = make.empty(mine.size) if spec.head_bias else None  # a parameter of a tied head, which is among no layers
        return Linear(weight, bias if bias is None or tied else bias.data, Shards.of(split, self.place))

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
        """Most columns that this rank has of an MLP; 0 if all layers have experts."""
        return max((mlp.down.weight.shape[1] for mlp in self.mlps() if isinstance(mlp, MLP)), default=0)

    def mlps(self) -> Iterator[MLP | Mixture]:
        """The MLP or the mixture of every layer of the stage."""
        for layer in self.layers.values():
            assert isinstance(layer, Layer)
            yield layer.mlp

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
        others = sum(p.numel() for p in self.parameters()) + sum(
            table.num_parameters - table.weight.numel() for table in self.tables
        )
        return others + sum(linear.num_parameters for linear in self.linears().values())

    @property
    def tables(self) -> list[Embedding]:
        """The tables whose rows are looked up."""
        return [each for each in (self.embed, self.positions) if each is not None]

    def num_bytes(self, *, prepacked: bool) -> int:
        """Bytes of the weights; a prepacked or quantised model holds a plain embedding that is its head twice."""
        packed = self.head is not None and (prepacked or type(self.head.weight) is not PlainWeight)
        head = self.head.weight.num_bytes if self.head is not None and packed and self._shares_embedding else 0
        return self._norm_bytes + self._table_bytes + sum(linear.num_bytes for linear in self.linears().values()) + head

    def decode_bytes(self, requests: int) -> int:
        """Bytes of the weights that an iteration of so many decodes reads: all but embeddings.

        Of experts it reads those that a router without preferences chooses, on average.
        """
        linears = {*self.linears().values()} | ({self.head} if self.head is not None else set())
        unread = sum(mlp.num_bytes * mlp.unread(requests) for mlp in self.mlps() if isinstance(mlp, Mixture))
        return self._norm_bytes + sum(linear.num_bytes for linear in linears) - round(unread)

    @property
    def _norm_bytes(self) -> int:
        """Bytes of all parameters but tables."""
        return sum(parameter.nbytes for parameter in self.parameters()) - sum(table.weight.nbytes for table in self.tables)

    @property
    def _table_bytes(self) -> int:
        """Bytes of the tables; an embedding that is stored in blocks is read from the head that it is."""
        own = [table for table in self.tables if not (self._shares_embedding and table.stored is not None)]
        return sum(table.weight.nbytes for table in own)

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
        if isinstance(module, Norm):
            return module.pieces(kind)
        region = module.region if isinstance(module, Embedding) else ()
        return [Piece(getattr(module, kind).data, region)]

    def num_parts(self, name: str) -> int:
        """Parts of a fused layer in a tensor; 1 for other layers."""
        module = self.get_submodule(name.rpartition(".")[0])
        return len(module.weight.split.parts) if isinstance(module, Linear) else 1

    def process_when_filled(
        self, names: Iterable[str], complete: Callable[[str, Linear], None] = lambda name, linear: None
    ) -> Callable[[str], None]:
        """A callback for each of these tensors, as it is filled.

        After its last tensor a linear layer is `complete` and gets its final form, so that few plain weights take memory at a
        time.
        """
        linears, left = self.linears(), Counter(name.rpartition(".")[0] for name in names)

        def filled(name: str) -> None:
            owner = name.rpartition(".")[0]
            left[owner] -= 1
            if not left[owner] and owner in linears:
                complete(owner, linears[owner])
                linears[owner].process_after_loading()

        return filled

    def process_after_loading(self) -> None:
        """Give every linear layer its final form: the fastest layout, or integers.

        Nothing can be loaded into it afterwards.
        """
        for module in self.modules():
            if isinstance(module, Linear):
                module.process_after_loading()
        if self._shares_embedding and self.embed is not None and self.head is not None:
            self.embed.share(self.head.weight)
        layers: list[Layer] = [*self.layers.values()]  # type: ignore[list-item]
        if can_fuse(self.spec, layers, self.place.mesh.tp):
            self.decode_layers = FusedLayers(self.spec, layers, self.kv_groups, [self.spec.rotary[at] for at in self.stage])

    def forward(
        self, batches: Sequence[PackedBatch], kv: Sequence[LayerKV], x: Tensor | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """Hidden states `[T, hidden_size]` of all tokens, or of `rows` alone.

        Of other rows the last layer computes keys and values alone.

        The batch's keys and values are written into `kv`. `batches` is one batch as each group of layers sees it: they differ
        in block tables alone. `x` is the output of the stage before (overwritten); the first stage has none.
        """
        positions = batches[0].positions
        if x is None:
            x = self._embedded(batches[0].tokens, positions)
        scales = [rope.scale for rope in self.spec.ropes]
        angles = [_angles(positions, *rope, x.dtype) for rope in zip(self.frequencies, scales, strict=True)]
        if self.decode_layers is not None and len(batches[0].sources) == len(positions) and not batches[0].adapters:
            hidden = self.decode_layers(batches, kv, x, angles)
            return hidden if rows is None else hidden.index_select(0, rows)
        delta = None
        for index, group, layer_kv in zip(self.stage, self.kv_groups, kv, strict=True):
            rope = self.spec.rotary[index]
            turn = None if rope is None else angles[rope]
            asked = rows if index == self.stage[-1] else None
            x, delta = self.layers[str(index)](x, delta, turn, batches[group], layer_kv, asked)
        return x if delta is None else x.add_(delta)

    def _embedded(self, tokens: Tensor, positions: Tensor) -> Tensor:
        assert self.embed is not None, "only the first stage embeds tokens"
        x: Tensor = self.embed(tokens)
        if self.spec.embedding_multiplier != 1:  # in the model's own format, as Gemma was trained
            x.mul_(torch.tensor(self.spec.embedding_multiplier, dtype=x.dtype))
        if self.positions is not None:
            x = x + self.positions(positions)
        return self.collectives.all_reduce(x)

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
        if self.spec.logit_multiplier != 1:
            logits.mul_(self.spec.logit_multiplier)
        cap = self.spec.logit_soft_cap
        return logits if cap is None else logits.div_(cap).tanh_().mul_(cap)


def _angles(positions: Tensor, frequencies: Tensor, scale: float, dtype: torch.dtype) -> Angles:
    """Cosine and sine of every position, each `[T, rotated dimensions / 2]`, computed in float32."""
    angles = positions[:, None].float() * frequencies
    cos, sin = angles.cos(), angles.sin()
    if scale != 1:
        cos, sin = cos.mul_(scale), sin.mul_(scale)
    return cos.to(dtype), sin.to(dtype)
