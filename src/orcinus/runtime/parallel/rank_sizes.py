"""What each rank of a mesh holds, in bytes, from a model's config alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from orcinus.memory.footprint import LIBRARIES, RANK_PROCESS, kv_token_bytes, widest_product
from orcinus.runtime.checkpoint import Checkpoint, outline
from orcinus.runtime.linear_weight import LayerFormats
from orcinus.runtime.lora.adapter import Adapter
from orcinus.runtime.models import Decoder, DecoderSpec
from orcinus.runtime.models.mixture import Mixture
from orcinus.runtime.models.mlp import MLP
from orcinus.runtime.parallel.mesh import Mesh, MeshPlace
from orcinus.runtime.quantized_weights import QUANTIZED_WEIGHTS


@dataclass(frozen=True, slots=True)
class RankSizes:
    """One rank's part of a model."""

    place: MeshPlace
    layers: range
    spec: DecoderSpec  # a decoder of the rank's heads, columns and layers; without a vocabulary where it draws no tokens
    weights: int  # bytes
    decode_bytes: Callable[[int], int]  # of them, which an iteration of so many decodes reads
    kv_token_bytes: int  # bytes of one token's keys and values
    products: frozenset[str] = frozenset()  # of integers, in `QUANTIZED_WEIGHTS`

    def own_bytes(self, itemsize: int, num_tokens: int) -> int:
        """Bytes of working memory on a CPU for a process of its own, and for products of quantised weights."""
        process = RANK_PROCESS if self.place.mesh.size > 1 else 0
        widest = widest_product(self.spec)
        each = max((QUANTIZED_WEIGHTS[name].working_bytes(*widest, itemsize) for name in self.products), default=0.0)
        return process + int(LIBRARIES * num_tokens * each)


@lru_cache(maxsize=8)
def rank_sizes(
    spec: DecoderSpec,
    dtype: torch.dtype,
    formats: LayerFormats,
    mesh: Mesh,
    *,
    prepacked: bool,
    quantization: str | None = None,
    kv_cache_dtype: str = "auto",
) -> tuple[RankSizes, ...]:
    """The part of every rank.

    `prepacked` is how a CPU's weights lie; quantised ones are packed, too. Raises `ConfigError` if the model cannot be split.
    """
    parts = (outline(spec, dtype, formats, mesh.at(rank), quantization) for rank in range(mesh.size))
    asked = frozenset() if quantization is None else frozenset({quantization})
    return tuple(_sizes(part, prepacked or bool(asked), formats.products | asked, kv_cache_dtype) for part in parts)


def _sizes(part: Decoder, prepacked: bool, products: frozenset[str], kv_cache_dtype: str) -> RankSizes:
    spec, stage, mlps = part.spec, slice(part.stage.start, part.stage.stop), tuple(part.mlps())
    mine = replace(
        spec,
        num_heads=part.heads.num_heads,
        num_kv_heads=part.heads.num_kv_heads,
        intermediate_size=part.mlp_columns,
        mixture=None if spec.mixture is None else replace(spec.mixture, shared_size=max(map(_shared_columns, mlps))),
        sparse=spec.sparse[stage],
        vocab_size=spec.vocab_size if part.place.last else 0,
        scales=spec.scales[stage],
        windows=spec.windows[stage],
        rotary=spec.rotary[stage],
    )
    per_token = kv_token_bytes(mine.num_layers, mine.num_kv_heads, mine.head_dim, part.dtype.itemsize, kv_cache_dtype)
    weights = part.num_bytes(prepacked=prepacked)
    return RankSizes(part.place, part.stage, mine, weights, part.decode_bytes, per_token, products)


def _shared_columns(mlp: MLP | Mixture) -> int:
    shared = mlp.shared if isinstance(mlp, Mixture) else None
    return 0 if shared is None else shared.down.weight.shape[1]


def with_adapters(
    ranks: Sequence[RankSizes], adapters: Sequence[Adapter], checkpoint: Checkpoint, dtype: torch.dtype
) -> tuple[RankSizes, ...]:
    """The same with the weights of adapters; their products fit into the memory that layers take anyway."""
    if not adapters:
        return tuple(ranks)
    parts = [outline(checkpoint.spec, dtype, checkpoint.formats, rank.place) for rank in ranks]
    numbers = [sum(adapter.num_weights(part) for adapter in adapters) for part in parts]
    return tuple(
        replace(rank, weights=rank.weights + count * dtype.itemsize) for rank, count in zip(ranks, numbers, strict=True)
    )
