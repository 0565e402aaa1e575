"""Which layers each pipeline stage holds, and whether a model can be split over a mesh at all."""

from __future__ import annotations

from functools import lru_cache

from orcinus.errors import ConfigError
from orcinus.runtime.models.spec import DecoderSpec
from orcinus.runtime.parallel.mesh import Mesh, split_layers


@lru_cache(maxsize=8)  # every rank of a plan asks
def stage_layers(spec: DecoderSpec, mesh: Mesh) -> tuple[range, ...]:
    """The layers of every stage: the slowest stage reads as few weights as can be. Raises `ConfigError`.

    The measure is the weights that an iteration of decodes reads, which are also its multiplications for each token: all of a
    layer, all of the head, one row of the embedding. Keys and values are left out: they are alike for all layers but those
    with a window.
    """
    layers = [layer_weights(spec, layer) for layer in range(spec.num_layers)]
    return tuple(split_layers(layers, spec.hidden_size, spec.vocab_size * spec.hidden_size, mesh.pp))


def layer_weights(spec: DecoderSpec, layer: int) -> int:
    """Weights of a layer's linear layers that one token passes."""
    query, key, value = spec.qkv_sizes
    mixture, columns, router = spec.mixture_of(layer), spec.intermediate_size, 0
    if mixture is not None:
        columns, router = mixture.per_token * mixture.expert_size + mixture.shared_size, mixture.num_experts
    return spec.hidden_size * (2 * query + key + value + columns * (3 if spec.gated_mlp else 2) + router)


def check_mesh(spec: DecoderSpec, mesh: Mesh) -> None:
    """Raise `ConfigError` if some rank would have no part of a layer, or some stage no layer."""
    things = {
        "query heads": spec.num_heads,
        "tokens of the vocabulary": spec.vocab_size,
    }
    if not all(spec.sparse) or not spec.sparse:
        things["columns of the MLP"] = spec.intermediate_size
    if spec.num_experts:
        things["experts"] = spec.num_experts
    if spec.learned_positions:
        things["learned positions"] = spec.max_position_embeddings
    for name, count in things.items():
        if count < mesh.tp:
            raise ConfigError(f"{count} {name} cannot be divided over {mesh.tp} ranks: tp must be at most {count}")
    stage_layers(spec, mesh)
