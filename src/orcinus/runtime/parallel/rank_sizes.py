"""What each rank of a mesh holds, in bytes, from a model's config alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from orcinus.memory.footprint import kv_token_bytes
from orcinus.runtime.checkpoint import outline
from orcinus.runtime.linear_weight import MakeLinearWeight
from orcinus.runtime.models import Decoder, DecoderSpec
from orcinus.runtime.parallel.mesh import Mesh, MeshPlace


@dataclass(frozen=True, slots=True)
class RankSizes:
    """One rank's part of a model."""

    place: MeshPlace
    layers: range
    spec: DecoderSpec  # a decoder of the rank's heads, columns and layers; without a vocabulary where it draws no tokens
    weights: int  # bytes
    decode_bytes: int  # of them, which an iteration of decodes reads
    kv_token_bytes: int  # bytes of one token's keys and values


@lru_cache(maxsize=8)
def rank_sizes(
    spec: DecoderSpec, dtype: torch.dtype, linear_weight: MakeLinearWeight, mesh: Mesh, *, prepacked: bool
) -> tuple[RankSizes, ...]:
    """The part of every rank. `prepacked` is how a CPU's weights lie. Raises `ConfigError` if the model cannot be split so."""
    return tuple(_sizes(outline(spec, dtype, linear_weight, mesh.at(rank)), prepacked=prepacked) for rank in range(mesh.size))


def _sizes(part: Decoder, *, prepacked: bool) -> RankSizes:
    spec, stage = part.spec, slice(part.stage.start, part.stage.stop)
    mine = replace(
        spec,
        num_heads=part.heads.num_heads,
        num_kv_heads=part.heads.num_kv_heads,
        intermediate_size=part.mlp_columns,
        vocab_size=spec.vocab_size if part.place.last else 0,
        scales=spec.scales[stage],
        windows=spec.windows[stage],
        rotary=spec.rotary[stage],
    )
    per_token = kv_token_bytes(mine.num_layers, mine.num_kv_heads, mine.head_dim, part.dtype.itemsize)
    return RankSizes(part.place, part.stage, mine, part.num_bytes(prepacked=prepacked), part.decode_bytes, per_token)
