"""Names of tensors in checkpoints, shared by the rows of `families.py`."""

from __future__ import annotations

import re
from dataclasses import replace

from orcinus.runtime.models.family import Place, TensorNames
from orcinus.runtime.models.row_order import after_padding, grouped_qkv, paired_keys, paired_queries

LLAMA = TensorNames(
    outer={"embed_tokens": Place("embed"), "norm": Place("norm"), "lm_head": Place("head")},
    layer=re.compile(r"layers\.(\d+)\.(.+)\.(\w+)"),
    inner={
        "input_layernorm": Place("attention_norm"),
        "self_attn.q_proj": Place("attention.qkv", 0),
        "self_attn.k_proj": Place("attention.qkv", 1),
        "self_attn.v_proj": Place("attention.qkv", 2),
        "self_attn.q_norm": Place("attention.q_norm"),
        "self_attn.k_norm": Place("attention.k_norm"),
        "self_attn.o_proj": Place("attention.out"),
        "post_attention_layernorm": Place("mlp_norm"),
        "mlp.gate_proj": Place("mlp.up", 0),
        "mlp.up_proj": Place("mlp.up", 1),
        "mlp.down_proj": Place("mlp.down"),
    },
    ignored=re.compile(r".*\.rotary_emb\.inv_freq"),
)
UNGATED = {"mlp.up_proj": Place("mlp.up")}
FUSED_GATE = {"mlp.gate_up_proj": Place("mlp.up")}
PAIRED = {
    "self_attn.q_proj": Place("attention.qkv", 0, order=paired_queries),
    "self_attn.k_proj": Place("attention.qkv", 1, order=paired_keys),
}
PHI3 = LLAMA.but({"self_attn.qkv_proj": Place("attention.qkv"), **FUSED_GATE})
SANDWICH = LLAMA.but(  # Gemma 2
    {
        "post_attention_layernorm": Place("attention_post_norm"),
        "pre_feedforward_layernorm": Place("mlp_norm"),
        "post_feedforward_layernorm": Place("mlp_post_norm"),
    }
)
GLM = LLAMA.but({**PAIRED, **FUSED_GATE})
GLM4 = GLM.but(
    {"post_self_attn_layernorm": Place("attention_post_norm"), "post_mlp_layernorm": Place("mlp_post_norm")},
)
PHI = LLAMA.but(
    {"self_attn.dense": Place("attention.out"), "mlp.fc1": Place("mlp.up"), "mlp.fc2": Place("mlp.down")},
    {"final_layernorm": Place("norm")},
)
STARCODER2 = LLAMA.but({"mlp.c_fc": Place("mlp.up"), "mlp.c_proj": Place("mlp.down")})
GPT_NEOX = TensorNames(
    outer={"embed_in": Place("embed"), "final_layer_norm": Place("norm"), "embed_out": Place("head")},
    layer=LLAMA.layer,
    inner={
        "input_layernorm": Place("attention_norm"),
        "attention.query_key_value": Place("attention.qkv", order=grouped_qkv),
        "attention.dense": Place("attention.out"),
        "post_attention_layernorm": Place("mlp_norm"),
        "mlp.dense_h_to_4h": Place("mlp.up"),
        "mlp.dense_4h_to_h": Place("mlp.down"),
    },
    ignored=re.compile(r"layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)"),
)
OPT = TensorNames(
    outer={
        "embed_tokens": Place("embed"),
        "embed_positions": Place("positions", order=after_padding),
        "final_layer_norm": Place("norm"),
        "lm_head": Place("head"),
    },
    layer=LLAMA.layer,
    inner={
        "self_attn_layer_norm": Place("attention_norm"),
        "self_attn.q_proj": Place("attention.qkv", 0),
        "self_attn.k_proj": Place("attention.qkv", 1),
        "self_attn.v_proj": Place("attention.qkv", 2),
        "self_attn.out_proj": Place("attention.out"),
        "final_layer_norm": Place("mlp_norm"),
        "fc1": Place("mlp.up"),
        "fc2": Place("mlp.down"),
    },
    ignored=re.compile(r"(?!)"),
)
FALCON = TensorNames(
    outer={"word_embeddings": Place("embed"), "ln_f": Place("norm"), "lm_head": Place("head")},
    layer=re.compile(r"h\.(\d+)\.(.+)\.(\w+)"),
    inner={
        "input_layernorm": Place("attention_norm"),
        "ln_attn": Place("attention_norm"),
        "self_attention.query_key_value": Place("attention.qkv", order=grouped_qkv),
        "self_attention.dense": Place("attention.out"),
        "post_attention_layernorm": Place("mlp_norm"),
        "ln_mlp": Place("mlp_norm"),
        "mlp.dense_h_to_4h": Place("mlp.up"),
        "mlp.dense_4h_to_h": Place("mlp.down"),
    },
    ignored=re.compile(r"h\.\d+\.self_attention\.rotary_emb\.inv_freq"),
    layers="h",
)
GPT2 = TensorNames(
    outer={"wte": Place("embed"), "wpe": Place("positions"), "ln_f": Place("norm"), "lm_head": Place("head")},
    layer=re.compile(r"h\.(\d+)\.(ln_1|ln_2|attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.(\w+)"),
    inner={
        "ln_1": Place("attention_norm"),
        "attn.c_attn": Place("attention.qkv", transposed=True),
        "attn.c_proj": Place("attention.out", transposed=True),
        "ln_2": Place("mlp_norm"),
        "mlp.c_fc": Place("mlp.up", transposed=True),
        "mlp.c_proj": Place("mlp.down", transposed=True),
    },
    ignored=re.compile(r"h\.\d+\.attn\.(bias|masked_bias)"),
    layers="h",
)
# Experts lie one by one in most checkpoints. Those that transformers 5 writes in its own form hold all experts in one tensor.
STACKED = {
    "mlp.gate": Place("mlp.router"),
    "mlp.experts.gate_up_proj": Place("mlp.experts.*.up"),
    "mlp.experts.down_proj": Place("mlp.experts.*.down"),
}
QWEN_MOE = LLAMA.but(
    {
        "mlp.experts.*.gate_proj": Place("mlp.experts.*.up", 0),
        "mlp.experts.*.up_proj": Place("mlp.experts.*.up", 1),
        "mlp.experts.*.down_proj": Place("mlp.experts.*.down"),
        "mlp.shared_expert.gate_proj": Place("mlp.shared.up", 0),
        "mlp.shared_expert.up_proj": Place("mlp.shared.up", 1),
        "mlp.shared_expert.down_proj": Place("mlp.shared.down"),
        "mlp.shared_expert_gate": Place("mlp.shared_gate"),
        **STACKED,
    }
)
MIXTRAL = LLAMA.but(
    {
        "block_sparse_moe.gate": Place("mlp.router"),
        "block_sparse_moe.experts.*.w1": Place("mlp.experts.*.up", 0),
        "block_sparse_moe.experts.*.w3": Place("mlp.experts.*.up", 1),
        "block_sparse_moe.experts.*.w2": Place("mlp.experts.*.down"),
        **STACKED,
    }
)
GRANITE_MOE = LLAMA.but(
    {
        "block_sparse_moe.router.layer": Place("mlp.router"),
        "block_sparse_moe.input_linear": Place("mlp.experts.*.up"),
        "block_sparse_moe.output_linear": Place("mlp.experts.*.down"),
        "block_sparse_moe.router": Place("mlp.router"),
        "block_sparse_moe.experts.gate_up_proj": Place("mlp.experts.*.up"),
        "block_sparse_moe.experts.down_proj": Place("mlp.experts.*.down"),
        "shared_mlp.input_linear": Place("mlp.shared.up"),
        "shared_mlp.output_linear": Place("mlp.shared.down"),
    }
)
IMAGES = r"(?:vision_tower|multi_modal_projector)\..*"


def text_of(names: TensorNames) -> TensorNames:
    """Names in a model that also sees images, whose other parts are ignored."""
    return replace(names, ignored=re.compile(f"{names.ignored.pattern}|{IMAGES}"))
