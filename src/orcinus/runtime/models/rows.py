"""How a row of the registry is written, and switches that several rows share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from orcinus.runtime.models.family import Family, Field, Flag, TensorNames
from orcinus.runtime.models.tensor_names import LLAMA

Switches: TypeAlias = "dict[str, Any]"

ATTENTION_BIAS: Switches = {"qkv_bias": Flag("attention_bias"), "out_bias": Flag("attention_bias")}
ALL_BIASES: Switches = {**ATTENTION_BIAS, "mlp_bias": Flag("mlp_bias")}
GRANITE_READS = ("attention_multiplier", "logits_scaling")
GRANITE: Switches = {
    "scales": lambda config: (config.attention_multiplier,) * config.num_hidden_layers,
    "embedding_multiplier": Field("embedding_multiplier"),
    "residual_multiplier": Field("residual_multiplier"),
    "logit_multiplier": lambda config: 1 / config.logits_scaling,
}


def row(
    model_type: str,
    base: str,
    examples: str,
    tensors: TensorNames = LLAMA,
    *,
    required: Mapping[str, bool] | None = None,
    text_type: str | None = None,
    reads: tuple[str, ...] = (),
    **switches: Any,
) -> Family:
    """A row of the registry; `switches` are fields of `DecoderSpec`, and `rotated` (see `LLAMA_SWITCHES`)."""
    return Family(
        model_type=model_type,
        base=base,
        examples=examples,
        names=tensors,
        switches=switches,
        required=required or {},
        text_type=text_type,
        reads=reads,
    )
