"""One decoder for every architecture, over a flat batch of tokens.

Only attention sees requests.

tokens [T] ── embed ── layers ── hidden [T] ── rows that are asked for ── norm ── logits [S, vocab]
                          │
          x = x + attention(norm(x));  x = x + mlp(norm(x))         (`layer.py` has the variants)

Over several devices every rank runs this code on its part (Megatron-LM, section 3): some heads and columns of the MLP of each
layer of its stage, with one sum over the tensor ranks behind attention and one behind the MLP.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from orcinus.runtime.attention.port import Attention, Heads
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.linear_weight import Split, SplitKind, SplitPart, share
from orcinus.runtime.models.decoder_weights import DecoderWeights
from orcinus.runtime.models.embedding import Embedding
from orcinus.runtime.models.fused_layers import FusedLayers, can_fuse
from orcinus.runtime.models.layer import NORMS, Layer
from orcinus.runtime.models.linear import Factory, Linear, PlainWeight, Shards
from orcinus.runtime.models.mlp import MLP
from orcinus.runtime.models.rotary_angles import RotaryAngles
from orcinus.runtime.models.spec import DecoderSpec
from orcinus.runtime.pack import PackedBatch
from orcinus.runtime.parallel.stages import check_mesh, stage_layers


class Decoder(DecoderWeights):
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
        self.fused_layers: FusedLayers | None = None  # the same layers, if kernels know them
        self.kv_groups = spec.kv_groups[self.stage.start : self.stage.stop]
        self.angles = [RotaryAngles(rope, make.dtype, make.device) for rope in spec.ropes]
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
            rotary = [self.spec.rotary[at] for at in self.stage]
            plain = self.positions is None and self.spec.embedding_multiplier == 1
            ends = self.embed if plain else None, self.norm
            self.fused_layers = FusedLayers(self.spec, layers, self.kv_groups, rotary, self.angles, *ends, self.dtype)

    def forward(
        self, batches: Sequence[PackedBatch], kv: Sequence[LayerKV], x: Tensor | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """Hidden states `[T, hidden_size]` of all tokens, or of `rows` alone; those of the last stage are normalised.

        Of other rows the last layer computes keys and values alone.

        The batch's keys and values are written into `kv`. `batches` is one batch as each group of layers sees it: they differ
        in block tables alone. `x` is the output of the stage before (overwritten); the first stage has none.
        """
        layers, delta, fused = self.fused_layers, None, 0
        if layers is not None and batches[0].adapters:
            layers.release()  # operators need their own memory
            layers = None
        if x is None and (layers is None or not layers.embeds(batches[0])):
            x = self._embedded(batches[0])
        if layers is not None:
            fused = len(self.stage) - (rows is not None)  # only in the last layer do `rows` matter
            x, delta = layers.run(batches, kv, x, fused)
        assert x is not None
        if fused < len(self.stage):
            x, delta = self._run_layers(range(fused, len(self.stage)), batches, kv, x, delta, rows)
        if self.norm is None:
            return x if delta is None else x.add_(delta)
        if layers is not None and delta is not None and fused == len(self.stage):
            return layers.normalized(x)
        hidden: Tensor = self.norm(x, delta)
        return hidden

    def _run_layers(
        self,
        places: range,
        batches: Sequence[PackedBatch],
        kv: Sequence[LayerKV],
        x: Tensor,
        delta: Tensor | None,
        rows: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Layers of the stage at some places, operator by operator."""
        angles = [angles_of(batches[0].positions) for angles_of in self.angles]
        for place in places:
            index = self.stage[place]
            rope = self.spec.rotary[index]
            turn = None if rope is None else angles[rope]
            asked = rows if index == self.stage[-1] else None
            x, delta = self.layers[str(index)](x, delta, turn, batches[self.kv_groups[place]], kv[place], asked)
        return x, delta

    def _embedded(self, batch: PackedBatch) -> Tensor:
        """Vectors `[T, hidden_size]` of a batch's tokens."""
        assert self.embed is not None, "only the first stage embeds tokens"
        tokens, positions = batch.tokens, batch.positions
        x: Tensor = self.embed(tokens)
        if self.spec.embedding_multiplier != 1:  # in the model's own format, as Gemma was trained
            x.mul_(torch.tensor(self.spec.embedding_multiplier, dtype=x.dtype))
        if self.positions is not None:
            x = x + self.positions(positions)
        return self.collectives.all_reduce(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits `[n, vocab_size]` of normalised hidden states `[n, hidden_size]`.

        They have the model's dtype, and are the same on all ranks.
        """
        tp = self.place.mesh.tp
        if tp == 1:
            return self.local_logits(hidden)
        return self.collectives.all_gather(
            self.local_logits(hidden), [len(share(self.spec.vocab_size, rank, tp)) for rank in range(tp)]
        )

    def local_logits(self, hidden: Tensor) -> Tensor:
        """Logits of this tensor rank's share of the vocabulary."""
        assert self.head is not None, "only the last stage has norm and head"
        logits: Tensor = self.head(hidden)
        if self.spec.logit_multiplier != 1:
            logits.mul_(self.spec.logit_multiplier)
        cap = self.spec.logit_soft_cap
        return logits if cap is None else logits.div_(cap).tanh_().mul_(cap)
