"""Rows of architectures with a mixture of experts; a part of the registry (`families.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orcinus.errors import ModelError
from orcinus.model_config import shown
from orcinus.runtime.models.family import Family, Field, Flag, no_windows, windows
from orcinus.runtime.models.rows import ATTENTION_BIAS, GRANITE, GRANITE_READS, Switches, row
from orcinus.runtime.models.spec import MixtureSpec
from orcinus.runtime.models.tensor_names import GRANITE_MOE, MIXTRAL, QWEN_MOE

MOST_EXPERTS, MOST_COLUMNS = 2**12, 2**24  # no published model comes near these
MIXTURE_READS = ("num_experts", "num_local_experts", "num_experts_per_tok")
QWEN_READS = (
    *MIXTURE_READS,
    "moe_intermediate_size",
    "norm_topk_prob",
    "decoder_sparse_step",
    "mlp_only_layers",
)


@dataclass(frozen=True, slots=True)
class _Mixture:
    """The mixture of a config, as the value of a switch; strings name fields."""

    experts: str
    size: str
    normalized: bool | None = None  # None: the config says it
    shared: str | None = None
    shared_gate: bool = False

    def __call__(self, config: Any) -> MixtureSpec:
        return MixtureSpec(
            num_experts=_number(config, self.experts, 1, MOST_EXPERTS),
            per_token=_number(config, "num_experts_per_tok", 1, MOST_EXPERTS),
            expert_size=_number(config, self.size, 1, MOST_COLUMNS),
            normalized=bool(config.norm_topk_prob) if self.normalized is None else self.normalized,
            shared_size=_number(config, self.shared, 0, MOST_COLUMNS) if self.shared else 0,
            shared_gate=self.shared_gate,
        )


def _number(config: Any, name: str, least: int, most: int) -> int:
    value = getattr(config, name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ModelError(f"{name} must be a whole number from {least} to {most}, not {shown(value)}")
    return value


def _all_sparse(config: Any) -> tuple[bool, ...]:
    layers: int = config.num_hidden_layers
    return (True,) * layers


def _qwen_sparse(config: Any) -> tuple[bool, ...]:
    step, dense = config.decoder_sparse_step, config.mlp_only_layers
    if step < 1:
        raise ModelError(f"decoder_sparse_step must be at least 1, not {shown(step)}")
    return tuple(layer not in dense and (layer + 1) % step == 0 for layer in range(config.num_hidden_layers))


def _used_windows(config: Any) -> tuple[int | None, ...]:
    return windows(config) if config.use_sliding_window else no_windows(config)


GRANITE_MIXTURE: Switches = {"sparse": _all_sparse, **GRANITE, **ATTENTION_BIAS}

MIXTURES: dict[str, Family] = {
    "MixtralForCausalLM": row(
        "mixtral",
        "MixtralModel",
        "Mixtral 8x7B, 8x22B",
        MIXTRAL,
        mixture=_Mixture("num_local_experts", "intermediate_size", normalized=True),
        sparse=_all_sparse,
        windows=windows,
        reads=MIXTURE_READS,
    ),
    "Qwen2MoeForCausalLM": row(
        "qwen2_moe",
        "Qwen2MoeModel",
        "Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B",
        QWEN_MOE,
        mixture=_Mixture("num_experts", "moe_intermediate_size", shared="shared_expert_intermediate_size", shared_gate=True),
        sparse=_qwen_sparse,
        windows=_used_windows,
        qkv_bias=Flag("qkv_bias"),
        reads=(*QWEN_READS, "shared_expert_intermediate_size"),
    ),
    "Qwen3MoeForCausalLM": row(
        "qwen3_moe",
        "Qwen3MoeModel",
        "Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder",
        QWEN_MOE,
        mixture=_Mixture("num_experts", "moe_intermediate_size"),
        sparse=_qwen_sparse,
        windows=windows,
        qk_norm="head",
        reads=QWEN_READS,
        **ATTENTION_BIAS,
    ),
    "OlmoeForCausalLM": row(
        "olmoe",
        "OlmoeModel",
        "OLMoE-1B-7B",
        QWEN_MOE,
        mixture=_Mixture("num_experts", "intermediate_size"),
        sparse=_all_sparse,
        qk_norm="all",
        clip_qkv=Field("clip_qkv"),
        reads=(*MIXTURE_READS, "norm_topk_prob"),
        **ATTENTION_BIAS,
    ),
    "GraniteMoeForCausalLM": row(
        "granitemoe",
        "GraniteMoeModel",
        "Granite 3.x 1B-A400M and 3B-A800M",
        GRANITE_MOE,
        mixture=_Mixture("num_local_experts", "intermediate_size", normalized=True),
        reads=(*MIXTURE_READS, *GRANITE_READS),
        **GRANITE_MIXTURE,
    ),
    "GraniteMoeSharedForCausalLM": row(
        "granitemoeshared",
        "GraniteMoeSharedModel",
        "Granite MoE with a shared expert",
        GRANITE_MOE,
        mixture=_Mixture("num_local_experts", "intermediate_size", normalized=True, shared="shared_intermediate_size"),
        reads=(*MIXTURE_READS, *GRANITE_READS, "shared_intermediate_size"),
        **GRANITE_MIXTURE,
    ),
}
