"""GGUF files made from checkpoint folders, as llama.cpp's converter makes them, with ggml's own library."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from orcinus.gguf_config import ARCHITECTURES as ROWS

Numbers = npt.NDArray[np.float32]
NAMES = {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3", "GPT2LMHeadModel": "gpt2"}
NAMES |= {
    "SmolLM3ForCausalLM": "smollm3",
    "Gemma2ForCausalLM": "gemma2",
    "Phi3ForCausalLM": "phi3",
    "Olmo2ForCausalLM": "olmo2",
}
NAMES |= {"StableLmForCausalLM": "stablelm", "Starcoder2ForCausalLM": "starcoder2", "GraniteForCausalLM": "granite"}
NAMES |= {"CohereForCausalLM": "command-r", "NemotronForCausalLM": "nemotron"}
OFFSET = ("gemma2", "nemotron")  # whose norms are written as what they multiply by
PAIRED = ("llama", "smollm3", "granite")
FLOATS = {"F32": gguf.GGMLQuantizationType.F32, "F16": gguf.GGMLQuantizationType.F16, "BF16": gguf.GGMLQuantizationType.BF16}
KIND_OF_TOKEN = {True: gguf.TokenType.CONTROL, False: gguf.TokenType.USER_DEFINED}


def write_gguf(
    folder: Path,
    file: Path,
    kind: str = "F32",
    change: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
    split: int = 0,
) -> Path:
    """A checkpoint folder as a GGUF file whose matrices are of a kind; `split` is the number of tensors in a part."""
    config = json.loads((folder / "config.json").read_text())
    name = NAMES[config["architectures"][0]]
    writer = gguf.GGUFWriter(file, name, split_max_tensors=split)
    _write_config(writer, config)
    if (folder / "tokenizer.json").exists():
        _write_tokenizer(writer, folder)
    change(writer)
    tensors = {each.removeprefix("transformer."): data for each, data in load_file(folder / "model.safetensors").items()}
    names = gguf.get_tensor_name_map(NUMBER[name], writer_layers(config))
    for original, tensor in tensors.items():
        stem, _, ending = original.rpartition(".")
        data = _as_llama_cpp(tensor.float().numpy(), original, config)
        quantized = kind if data.ndim == 2 else "F32"
        type_ = gguf.GGMLQuantizationType[quantized]
        writer.add_tensor(f"{names.get_name(stem)}.{ending}", gguf.quantize(data, type_), raw_dtype=type_)
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


def _write_config(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    def either(*names: str) -> Any:
        return next((config[name] for name in names if config.get(name) is not None), None)

    writer.add_context_length(either("max_position_embeddings", "n_positions"))
    writer.add_embedding_length(hidden := either("hidden_size", "n_embd"))
    writer.add_block_count(writer_layers(config))
    writer.add_feed_forward_length(either("intermediate_size", "n_inner") or 4 * hidden)
    writer.add_head_count(heads := either("num_attention_heads", "n_head"))
    name = NAMES[config["architectures"][0]]
    for key, ours in ROWS[name].fields.items():
        if f"{name}.{key}" not in writer.kv_data[0] and isinstance(value := config.get(ours), bool | int | float):
            add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}[type(value)]
            add(f"{name}.{key}", value)
    if name == "gpt2":
        return
    writer.add_head_count_kv(config["num_key_value_heads"])
    if "rms_norm_eps" in config:
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    head_dim = config.get("head_dim") or hidden // heads
    writer.add_key_length(head_dim)
    writer.add_rope_dimension_count(int(head_dim * config["rope_parameters"].get("partial_rotary_factor", 1.0)))
    rope = config["rope_parameters"]
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def _as_llama_cpp(data: Numbers, name: str, config: Mapping[str, Any]) -> Numbers:
    """A tensor as the converter writes it: GPT-2's matrices turned, Llama's queries and keys in pairs."""
    architecture = NAMES[config["architectures"][0]]
    if architecture == "gpt2":
        turned = data.ndim == 2 and any(part in name for part in ("c_attn", "c_proj", "c_fc"))
        return np.ascontiguousarray(data.T) if turned else data
    if architecture in OFFSET and name.endswith("norm.weight"):
        return data + 1
    if architecture in PAIRED and ("q_proj" in name or "k_proj" in name):
        head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
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
