"""A GGUF file's metadata as a config.json says it: one row for each architecture of llama.cpp."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orcinus.errors import ModelError, shown
from orcinus.gguf_file import GgufFile, LargeArray

NUMBER = (int, float)
FIELDS = {  # of a config, by the key that follows the architecture's name
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
THETA = 10000.0  # llama.cpp's default
EMBEDDING, HEAD = "token_embd.weight", "output.weight"
SCALINGS = ("linear", "yarn", "longrope")  # of rotary frequencies; Llama 3's are stored as numbers
YARN = {"yarn_beta_fast": "beta_fast", "yarn_beta_slow": "beta_slow", "yarn_attn_factor": "attention_factor"}
LONGROPE = {"short_factor": "rope_factors_short.weight", "long_factor": "rope_factors_long.weight"}
WINDOWED, MOST_LAYERS = "{}.attention.sliding_window_pattern", 2**9
LAYER_NORM, WINDOW = "attention.layer_norm_epsilon", {"attention.sliding_window": "sliding_window"}
BIASES = {"attention_bias": "attn_q.bias", "mlp_bias": "ffn_up.bias"}

More = Callable[[GgufFile, str], dict[str, Any]]
Part = tuple[str, int | None]  # a module of a layer, and which part of a fused one


@dataclass(frozen=True, slots=True, eq=False)
class GgufArchitecture:
    """How llama.cpp's files hold an architecture."""

    llama_cpp: str  # its name there
    name: str  # in a config.json
    fields: Mapping[str, str] = field(default_factory=dict)  # besides `FIELDS`, or instead of some of them
    flags: Mapping[str, str] = field(default_factory=lambda: BIASES)  # fields that are true if layers have these tensors
    more: More = lambda file, prefix: {}  # further fields
    reads: tuple[str, ...] = ()  # keys that `more` reads, among those of `OPTIONAL`
    rope: bool = True  # rotary positions, not learned ones
    paired: bool = False  # rows of queries and keys that rotate together are neighbours, as in Llama's own code
    tensors: Mapping[str, Part] = field(default_factory=dict)  # of a layer, where ggml's table does not have our names
    marker: str = EMBEDDING  # a tensor that only files of this row hold, among those of one name in llama.cpp


def _score_dimensions(file: GgufFile, prefix: str, largest: int) -> int:
    """Gemma's `query_pre_attn_scalar`, which files leave out.

    It is the dimensions of a head; in the model with the most layers, hidden size / heads, as in llama.cpp.
    """
    share: int = file.get(f"{prefix}.embedding_length", int, 0) // max(1, file.get(f"{prefix}.attention.head_count", int, 1))
    return share if file.get(f"{prefix}.block_count", int) == largest else _head_dim(file, prefix)


def _windows(file: GgufFile, prefix: str) -> dict[str, Any]:
    """Which layers have windows, where a file says it: a flag for each, or that all but each nth layer has one."""
    pattern = file.get(WINDOWED.format(prefix), (int, list, LargeArray))
    if pattern is None:
        return {}
    if isinstance(pattern, int):
        layers = file.get(f"{prefix}.block_count", int, 0)
        flags = [pattern == 0 or layer % pattern < pattern - 1 for layer in range(min(layers, MOST_LAYERS))]
    else:
        flags = file.values(WINDOWED.format(prefix)) or []
    return {"layer_types": ["sliding_attention" if windowed else "full_attention" for windowed in flags]}


def _gemma2(file: GgufFile, prefix: str) -> dict[str, Any]:
    return {"query_pre_attn_scalar": _score_dimensions(file, prefix, largest=46), **_windows(file, prefix)}


def _phi3(file: GgufFile, prefix: str) -> dict[str, Any]:
    original = file.get(f"{prefix}.rope.scaling.original_context_length", int)
    window = file.get(f"{prefix}.attention.sliding_window", int) or None  # 0 is none
    return {"sliding_window": window, **({} if original is None else {"original_max_position_embeddings": original})}


def _olmo2(file: GgufFile, prefix: str) -> dict[str, Any]:
    """With windows it is an OLMo 3, which scales the rotary frequencies of layers without windows alone."""
    window = file.get(f"{prefix}.attention.sliding_window", int)
    if not window:
        return {}
    theta = file.get(f"{prefix}.rope.freq_base_swa", NUMBER) or file.get(f"{prefix}.rope.freq_base", NUMBER, THETA)
    return {
        "architectures": ["Olmo3ForCausalLM"],
        "sliding_window": window,
        **_windows(file, prefix),
        "rope_parameters": {
            "full_attention": _rope(file, prefix),
            "sliding_attention": {"rope_type": "default", "rope_theta": theta},
        },
    }


def _gemma3(file: GgufFile, prefix: str) -> dict[str, Any]:
    """As Gemma 2; five layers of six have windows, and rotary frequencies of their own."""
    theta = file.get(f"{prefix}.rope.freq_base_swa", NUMBER, THETA)
    everywhere = _rope(file, prefix)
    if file.get(f"{prefix}.rope.freq_base", NUMBER) is None:
        everywhere["rope_theta"] = 1e6
    return {
        "query_pre_attn_scalar": _score_dimensions(file, prefix, largest=62),
        **_windows(file, prefix),
        "rope_parameters": {
            "full_attention": everywhere,
            "sliding_attention": {"rope_type": "default", "rope_theta": theta},
        },
    }


MANY_EXPERTS = {"expert_count": "num_experts", "expert_used_count": "num_experts_per_tok"}
LOCAL_EXPERTS = {"expert_count": "num_local_experts", "expert_used_count": "num_experts_per_tok"}
QWEN_EXPERTS = {**MANY_EXPERTS, "expert_feed_forward_length": "moe_intermediate_size"}
SHARED_SIZE = "expert_shared_feed_forward_length"
EXPERTS: dict[str, Part] = {
    "ffn_gate_inp": ("mlp.router", None),
    "ffn_gate_exps": ("mlp.experts.*.up", 0),
    "ffn_up_exps": ("mlp.experts.*.up", 1),
    "ffn_gate_up_exps": ("mlp.experts.*.up", None),
    "ffn_down_exps": ("mlp.experts.*.down", None),
}
SHARED_EXPERT: dict[str, Part] = {
    "ffn_gate_shexp": ("mlp.shared.up", 0),
    "ffn_up_shexp": ("mlp.shared.up", 1),
    "ffn_down_shexp": ("mlp.shared.down", None),
}
FUSED_QKV: dict[str, Part] = {"attn_qkv": ("attention.qkv", None)}
GRANITE = {
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}
COHERE = {LAYER_NORM: "layer_norm_eps", "logit_scale": "logit_scale"}
FALCON = {
    "feed_forward_length": "ffn_hidden_size",
    "attention.head_count_kv": "num_kv_heads",
    LAYER_NORM: "layer_norm_epsilon",
}

ARCHITECTURES = (
    GgufArchitecture(
        "llama", "MixtralForCausalLM", LOCAL_EXPERTS, paired=True, tensors=EXPERTS, marker="blk.0.ffn_gate_inp.weight"
    ),
    GgufArchitecture("llama", "LlamaForCausalLM", paired=True),
    GgufArchitecture("qwen2", "Qwen2ForCausalLM"),
    GgufArchitecture("qwen3", "Qwen3ForCausalLM"),
    GgufArchitecture("smollm3", "SmolLM3ForCausalLM", paired=True),
    GgufArchitecture("gemma", "GemmaForCausalLM"),
    GgufArchitecture(
        "gemma2",
        "Gemma2ForCausalLM",
        {
            **WINDOW,
            "attn_logit_softcapping": "attn_logit_softcapping",
            "final_logit_softcapping": "final_logit_softcapping",
        },
        more=_gemma2,
    ),
    GgufArchitecture("phi2", "PhiForCausalLM", {LAYER_NORM: "layer_norm_eps"}, tensors=FUSED_QKV),
    GgufArchitecture(
        "gemma3", "Gemma3ForCausalLM", {**WINDOW, "final_logit_softcapping": "final_logit_softcapping"}, more=_gemma3
    ),
    GgufArchitecture("phi3", "Phi3ForCausalLM", more=_phi3, reads=("attention.sliding_window",)),
    GgufArchitecture(
        "gptneox",
        "GPTNeoXForCausalLM",
        {LAYER_NORM: "layer_norm_eps", "use_parallel_residual": "use_parallel_residual"},
        {"attention_bias": "attn_qkv.bias"},
    ),
    GgufArchitecture("olmo", "OlmoForCausalLM", {"attention.clamp_kqv": "clip_qkv"}, paired=True),
    GgufArchitecture("olmo2", "Olmo2ForCausalLM", more=_olmo2, reads=("attention.sliding_window",)),
    GgufArchitecture("granite", "GraniteForCausalLM", GRANITE, paired=True),
    GgufArchitecture(
        "granitemoe",
        "GraniteMoeSharedForCausalLM",
        {**GRANITE, **LOCAL_EXPERTS, SHARED_SIZE: "shared_intermediate_size"},
        paired=True,
        tensors={**EXPERTS, **SHARED_EXPERT},
        marker="blk.0.ffn_up_shexp.weight",
    ),
    GgufArchitecture("granitemoe", "GraniteMoeForCausalLM", {**GRANITE, **LOCAL_EXPERTS}, paired=True, tensors=EXPERTS),
    GgufArchitecture(
        "qwen2moe",
        "Qwen2MoeForCausalLM",
        {**QWEN_EXPERTS, SHARED_SIZE: "shared_expert_intermediate_size"},
        {"qkv_bias": "attn_q.bias"},
        more=lambda file, prefix: {"norm_topk_prob": False},
        tensors={**EXPERTS, **SHARED_EXPERT, "ffn_gate_inp_shexp": ("mlp.shared_gate", None)},
    ),
    GgufArchitecture(
        "qwen3moe",
        "Qwen3MoeForCausalLM",
        QWEN_EXPERTS,
        more=lambda file, prefix: {"norm_topk_prob": True},
        tensors=EXPERTS,
    ),
    GgufArchitecture(
        "olmoe",
        "OlmoeForCausalLM",
        {**MANY_EXPERTS, "attention.clamp_kqv": "clip_qkv"},
        more=lambda file, prefix: {"norm_topk_prob": False},
        tensors=EXPERTS,
    ),
    GgufArchitecture("command-r", "CohereForCausalLM", COHERE, paired=True),
    GgufArchitecture("cohere2", "Cohere2ForCausalLM", {**COHERE, **WINDOW}, more=_windows, paired=True),
    GgufArchitecture(
        "falcon",
        "FalconForCausalLM",
        FALCON,
        {"bias": "attn_qkv.bias"},
        more=lambda file, prefix: {"new_decoder_architecture": True, "num_ln_in_parallel_attn": 2},
        tensors={"attn_norm": ("mlp_norm", None)},
        marker="blk.0.attn_norm_2.weight",
    ),
    GgufArchitecture(
        "falcon",
        "FalconForCausalLM",
        FALCON,
        {"bias": "attn_qkv.bias"},
        more=lambda file, prefix: {"new_decoder_architecture": True, "num_ln_in_parallel_attn": 1},
        tensors={"attn_norm": ("attention_norm", None)},
    ),
    GgufArchitecture(
        "stablelm",
        "StableLmForCausalLM",
        {LAYER_NORM: "layer_norm_eps", "use_parallel_residual": "use_parallel_residual"},
        {"use_qkv_bias": "attn_q.bias"},
    ),
    GgufArchitecture("starcoder2", "Starcoder2ForCausalLM", {LAYER_NORM: "norm_epsilon"}, {"use_bias": "attn_q.bias"}),
    GgufArchitecture("chatglm", "GlmForCausalLM", paired=True, tensors=FUSED_QKV),
    GgufArchitecture("glm4", "Glm4ForCausalLM", paired=True),
    GgufArchitecture("nemotron", "NemotronForCausalLM", {LAYER_NORM: "norm_eps"}),
    GgufArchitecture("arcee", "ArceeForCausalLM", paired=True),
    GgufArchitecture("seed_oss", "SeedOssForCausalLM", flags={**BIASES, "attention_out_bias": "attn_output.bias"}),
    GgufArchitecture(
        "gpt2",
        "GPT2LMHeadModel",
        {
            "context_length": "n_positions",
            "embedding_length": "n_embd",
            "block_count": "n_layer",
            "feed_forward_length": "n_inner",
            "attention.head_count": "n_head",
            LAYER_NORM: "layer_norm_epsilon",
        },
        flags={},
        rope=False,
    ),
)
# Keys that change what a model computes: a file that has one which its row does not read is refused.
OPTIONAL = (
    *(
        "attention.sliding_window",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "attention.scale",
        "attention.clamp_kqv",
    ),
    *("attention.max_alibi_bias", "embedding_scale", "residual_scale", "logit_scale", "expert_count"),
)
NEEDED = ("context_length", "embedding_length", "block_count", "attention.head_count")


def gguf_architecture(file: GgufFile) -> GgufArchitecture:
    """The row of a file's architecture. Raises `ModelError` if there is none."""
    for row in ARCHITECTURES:
        if row.llama_cpp == file.architecture and (row.marker == EMBEDDING or row.marker in file.tensors):
            return row
    known = ", ".join(sorted({row.llama_cpp for row in ARCHITECTURES}))
    raise ModelError(f"{file.path} holds a model of architecture {shown(file.architecture)}: known in GGUF files are {known}")


def gguf_config(file: GgufFile) -> dict[str, Any]:
    """The config of a file's model. Raises `ModelError` for metadata that cannot be meant."""
    row, prefix = gguf_architecture(file), file.architecture
    unread = [key for key in OPTIONAL if key not in {**row.fields} and key not in row.reads]
    if found := [f"{prefix}.{key}" for key in unread if file.fields.get(f"{prefix}.{key}")]:
        raise ModelError(f"{file.path} cannot be served: {', '.join(found)} of this architecture is not supported")
    if EMBEDDING not in file.tensors or len(file.tensors[EMBEDDING].shape) != 2:
        raise ModelError(f"weights are missing in {file.path}: {EMBEDDING}")
    names = {**FIELDS, **row.fields}
    values = {key: file.get(f"{prefix}.{key}", bool if key == "use_parallel_residual" else NUMBER) for key in names}
    needed = (*NEEDED, *(key for key in row.fields if key.startswith("expert_")))
    if missing := [f"{prefix}.{key}" for key in needed if values[key] is None]:
        raise ModelError(f"{file.path} cannot be understood: it has no {', '.join(missing)}")
    return {
        "architectures": [row.name],
        "vocab_size": file.tensors[EMBEDDING].shape[0],
        "tie_word_embeddings": HEAD not in file.tensors,
        **{names[key]: value for key, value in values.items() if value is not None},
        **{name: _has(file, tensor) for name, tensor in row.flags.items()},
        **({"rope_parameters": _rope(file, prefix)} if row.rope else {}),
        **row.more(file, prefix),
    }


def _has(file: GgufFile, tensor: str) -> bool:
    """Whether the first layer has a tensor; queries may be fused with keys and values."""
    return any(f"blk.0.{name}" in file.tensors for name in (tensor, tensor.replace("attn_q.", "attn_qkv.")))


def _rope(file: GgufFile, prefix: str) -> dict[str, Any]:
    """The rotary embedding's settings, as transformers names them."""
    settings: dict[str, Any] = {"rope_type": "default", "rope_theta": file.get(f"{prefix}.rope.freq_base", NUMBER, THETA)}
    rotated, head_dim = file.get(f"{prefix}.rope.dimension_count", int), _head_dim(file, prefix)
    settings["partial_rotary_factor"] = rotated / head_dim if rotated and head_dim else 1.0
    longrope = {name: file.floats(tensor) for name, tensor in LONGROPE.items() if tensor in file.tensors}
    kind = "longrope" if longrope else file.get(f"{prefix}.rope.scaling.type", str, "none")
    if kind == "none":
        return settings
    if kind not in SCALINGS or (kind == "longrope") != (len(longrope) == len(LONGROPE)):
        raise ModelError(f"{file.path} cannot be served: rope scaling {shown(kind)} is not supported in GGUF files")
    factor, original = (file.get(f"{prefix}.rope.scaling.{name}", NUMBER) for name in ("factor", "original_context_length"))
    settings |= {"rope_type": kind, **longrope}
    if factor is not None:
        settings["factor"] = factor
    if original is not None and kind != "linear":
        settings["original_max_position_embeddings"] = original
    if kind == "yarn":
        found = {ours: file.get(f"{prefix}.rope.scaling.{name}", NUMBER) for name, ours in YARN.items()}
        settings |= {name: value for name, value in found.items() if value is not None}
    return settings


def _head_dim(file: GgufFile, prefix: str) -> int:
    """Dimensions of a head: stated, or a head's share of the hidden size."""
    stated: int | None = file.get(f"{prefix}.attention.key_length", int)
    hidden, heads = (file.get(f"{prefix}.{name}", int, 0) for name in ("embedding_length", "attention.head_count"))
    return stated or (hidden // heads if heads > 0 else 0)
