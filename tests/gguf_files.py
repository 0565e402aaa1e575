"""GGUF files made from checkpoint folders, as llama.cpp's converter makes them, with ggml's own library."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from orcinus.gguf_config import ARCHITECTURES as ROWS
from orcinus.gguf_config import GgufArchitecture

Numbers = npt.NDArray[np.float32]
Tensors = Iterator[tuple[str, Numbers]]
OFFSET = ("gemma", "gemma2", "gemma3", "nemotron")  # whose norms are written as what they multiply by
GROUPED = re.compile(r".*\.(?:attention|self_attention)\.query_key_value\.(?:weight|bias)")  # GPT-NeoX's, Falcon's
EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(\w+)\.weight")
SAME = {"num_experts": "num_local_experts"}  # names of a field, which depend on the version of transformers
GATED = {  # Granite's fused gates and ups, in halves here
    "block_sparse_moe.input_linear": ("ffn_gate_exps", "ffn_up_exps"),
    "shared_mlp.input_linear": ("ffn_gate_shexp", "ffn_up_shexp"),
}
FLOATS = {"F32": gguf.GGMLQuantizationType.F32, "F16": gguf.GGMLQuantizationType.F16, "BF16": gguf.GGMLQuantizationType.BF16}
KIND_OF_TOKEN = {True: gguf.TokenType.CONTROL, False: gguf.TokenType.USER_DEFINED}


def write_gguf(
    folder: Path,
    file: Path,
    kind: str = "F32",
    change: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
    split: int = 0,
    *,
    fused_qkv: bool = False,
) -> Path:
    """A checkpoint folder as a GGUF file whose matrices are of a kind; `split` is the number of tensors in a part."""
    config = json.loads((folder / "config.json").read_text())
    row = row_of(config)
    writer = gguf.GGUFWriter(file, row.llama_cpp, split_max_tensors=split)
    _write_config(writer, config, row)
    if (folder / "tokenizer.json").exists():
        _write_tokenizer(writer, folder)
    change(writer)
    tensors = {name: tensor.float().numpy() for name, tensor in load_file(folder / "model.safetensors").items()}
    names = gguf.get_tensor_name_map(NUMBER[row.llama_cpp], writer_layers(config))
    written = dict(_as_llama_cpp(tensors, config, row))
    for original, data in (_with_fused_qkv(written) if fused_qkv else written).items():
        stem, _, ending = original.rpartition(".")
        name = stem if stem.startswith("blk.") else names.get_name(stem)
        assert name is not None, original
        quantized = kind if data.ndim > 1 and "ffn_gate_inp" not in name else "F32"
        type_ = gguf.GGMLQuantizationType[quantized]
        writer.add_tensor(f"{name}.{ending}", gguf.quantize(data, type_), raw_dtype=type_)
    if (factors := _rope_factors(config)) is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


NUMBER = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}


def writer_layers(config: Mapping[str, Any]) -> int:
    found: int = config.get("num_hidden_layers") or config["n_layer"]
    return found


def row_of(config: Mapping[str, Any]) -> GgufArchitecture:
    """The first row of the registry for a config's architecture."""
    return next(row for row in ROWS if row.name == config["architectures"][0].replace("Olmo3", "Olmo2"))


def _write_config(writer: gguf.GGUFWriter, config: Mapping[str, Any], row: GgufArchitecture) -> None:
    def either(*names: str) -> Any:
        return next((config[name] for name in names if config.get(name) is not None), None)

    name = row.llama_cpp
    writer.add_context_length(either("max_position_embeddings", "n_positions"))
    writer.add_embedding_length(hidden := either("hidden_size", "n_embd"))
    writer.add_block_count(writer_layers(config))
    writer.add_feed_forward_length(either("ffn_hidden_size", "intermediate_size", "n_inner") or 4 * hidden)
    writer.add_head_count(heads := either("num_attention_heads", "n_head"))
    writer.add_vocab_size(config["vocab_size"])
    one = config.get("multi_query") and not config["new_decoder_architecture"]
    writer.add_head_count_kv(1 if one else either("num_key_value_heads", "num_kv_heads") or heads)
    for key, ours in row.fields.items():
        value = either(ours, SAME.get(ours, ours))
        if f"{name}.{key}" not in writer.kv_data[0] and isinstance(value, bool | int | float):
            add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}[type(value)]
            add(f"{name}.{key}", value)
    if name == "gpt2":
        return
    if name == "olmo":
        writer.add_layer_norm_eps(1e-5)
    if "rms_norm_eps" in config:
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if name in ("olmo2", "cohere2", "gemma3") and config.get("sliding_window"):
        if name == "olmo2":
            writer.add_sliding_window(config["sliding_window"])
        writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config["layer_types"]])
    head_dim = config.get("head_dim") or hidden // heads
    if "head_dim" in config:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    ropes = config["rope_parameters"]
    rope = ropes.get("full_attention", ropes)
    writer.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1.0)))
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def _as_llama_cpp(tensors: Mapping[str, Numbers], config: Mapping[str, Any], row: GgufArchitecture) -> Tensors:
    """Tensors as the converter writes them, under names of ggml's table or llama.cpp's own.

    Experts are stacked, GPT-2's matrices turned, grouped queries, keys and values sorted, Llama's queries and keys in pairs.
    """
    experts: dict[str, dict[int, Numbers]] = {}
    for name, data in tensors.items():
        name = name.removeprefix("transformer.") if row.llama_cpp == "gpt2" else name
        if expert := EXPERT.fullmatch(name):
            experts.setdefault(f"{expert[1]}.{expert[3]}.weight", {})[int(expert[2])] = data
            continue
        gated = next((halves for fused, halves in GATED.items() if fused in name), None)
        if gated is not None:
            layer = name.split(".")[2]
            for half, part in zip(gated, np.split(data, 2, axis=-2), strict=True):
                yield f"blk.{layer}.{half}.weight", np.ascontiguousarray(part)
            continue
        yield name, _rows_of_llama_cpp(data, name, config, row)
    yield from ((name, np.stack([each[at] for at in sorted(each)])) for name, each in experts.items())


def _with_fused_qkv(tensors: Mapping[str, Numbers]) -> dict[str, Numbers]:
    """Queries, keys and values one after the other in one matrix."""
    found: dict[str, Numbers] = {}
    for name, data in tensors.items():
        if part := re.fullmatch(r"model\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(\w+)", name):
            if part[2] == "q":
                rows = [tensors[name.replace("q_proj", f"{each}_proj")] for each in "qkv"]
                found[f"blk.{part[1]}.attn_qkv.{part[3]}"] = np.concatenate(rows)
        else:
            found[name] = data
    return found


def _rows_of_llama_cpp(data: Numbers, name: str, config: Mapping[str, Any], row: GgufArchitecture) -> Numbers:
    if row.llama_cpp == "gpt2":
        turned = data.ndim == 2 and any(part in name for part in ("c_attn", "c_proj", "c_fc"))
        return np.ascontiguousarray(data.T) if turned else data
    if row.llama_cpp in OFFSET and name.endswith("norm.weight"):
        return data + 1
    if "shared_expert_gate" in name:
        return data[0]
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    if GROUPED.fullmatch(name):
        groups = (len(data) // head_dim - heads) // 2
        grouped = data.reshape(groups, -1, head_dim, *data.shape[1:])
        parts = (grouped[:, :-2], grouped[:, -2], grouped[:, -1])
        return np.concatenate([part.reshape(-1, *data.shape[1:]) for part in parts])
    as_they_are = ("CohereForCausalLM", "Cohere2ForCausalLM", "GlmForCausalLM", "Glm4ForCausalLM")  # in pairs already
    if row.paired and row.name not in as_they_are and ("q_proj" in name or "k_proj" in name):
        halves = data.reshape(-1, 2, head_dim // 2, *data.shape[1:])
        return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(data.shape))
    return data


def _rope_factors(config: Mapping[str, Any]) -> Numbers | None:
    """What llama.cpp divides the frequencies by, from transformers' own numbers."""
    if (config.get("rope_parameters") or {}).get("rope_type") != "llama3":
        return None
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    made = LlamaConfig(**{name: config[name] for name in ("hidden_size", "num_attention_heads", "head_dim", "rope_parameters")})
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](made, "cpu")
    dimensions = torch.arange(0, 2 * len(scaled), 2).float() / (2 * len(scaled))
    found: Numbers = (config["rope_parameters"]["rope_theta"] ** -dimensions / scaled).numpy()
    return found


def _write_tokenizer(writer: gguf.GGUFWriter, folder: Path) -> None:
    """The tokenizer of the bundled model, which splits texts as SmolLM does."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    ids: dict[str, int] = dict(tokenizer["model"]["vocab"])
    added = {token["content"]: token for token in tokenizer["added_tokens"]}
    ids |= {name: token["id"] for name, token in added.items()}
    tokens = sorted(ids, key=ids.__getitem__)
    kinds = [KIND_OF_TOKEN[added[name]["special"]] if name in added else gguf.TokenType.NORMAL for name in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(ids[settings["eos_token"]])
    writer.add_pad_token_id(ids[settings["pad_token"]])
    writer.add_add_bos_token(False)
    writer.add_chat_template((folder / "chat_template.jinja").read_text())
