"""The same weights as a GGUF file, for llama.cpp.

    python benchmarks/peers/gguf_file.py FOLDER FILE [int8 | int4]

Runs with the `gguf` package's own environment. Tensors keep the checkpoint's number format, or matrices are rounded to Q8_0
(`int8`) or Q4_0 (`int4`), the embedding, too, because it is the head. Norms are float32, as llama.cpp wants them. The
vocabulary is a dummy of the kind "rwkv", the one kind that has no end of text unless told: prompts come as token ids, and
the text is not read.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np

FORMATS = {"F32": gguf.GGMLQuantizationType.F32, "BF16": gguf.GGMLQuantizationType.BF16}
QUANTIZED = {"int8": gguf.GGMLQuantizationType.Q8_0, "int4": gguf.GGMLQuantizationType.Q4_0}


def write_gguf(folder: Path, file: Path, quantization: str | None = None) -> None:
    """Write FILE from the safetensors in FOLDER (architecture Qwen3, one shard or several)."""
    config = json.loads((folder / "config.json").read_text())
    partial = file.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "qwen3")
    _write_sizes(writer, config)
    _write_vocabulary(writer, config["vocab_size"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, config["num_hidden_layers"])
    for shard in sorted(folder.glob("*.safetensors")):
        for name, kind, values in read_safetensors(shard):
            place = names.get_name(name, try_suffixes=(".weight",))
            given = FORMATS[kind]
            if values.ndim == 1:
                given, values = FORMATS["F32"], _as_float32(kind, values)
            elif quantization:
                given = QUANTIZED[quantization]
                values = gguf.quants.quantize(_as_float32(kind, values), given)
            writer.add_tensor(place, values, raw_dtype=given)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(file)


def read_safetensors(shard: Path) -> list[tuple[str, str, Any]]:
    """(name, F32 or BF16, values) of each tensor. NumPy has no bfloat16: such values are pairs of bytes in the last axis."""
    with shard.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        start = stream.tell()
    content, found = np.memmap(shard, np.uint8, "r", start), []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        low, high = entry["data_offsets"]
        raw, shape = content[low:high], entry["shape"]
        width = 4 if entry["dtype"] == "F32" else 2
        values = raw.reshape(*shape[:-1], shape[-1] * width)
        found.append((name, entry["dtype"], values.view(np.float32) if width == 4 else values))
    return found


def _as_float32(kind: str, values: Any) -> Any:
    if kind == "F32":
        return values
    return (np.ascontiguousarray(values).view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _write_sizes(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_name("random weights")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])


def _write_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    writer.add_tokenizer_model("rwkv")
    writer.add_token_list([f" {number:x}" for number in range(size)])
    writer.add_token_types([gguf.TokenType.NORMAL] * size)


if __name__ == "__main__":
    write_gguf(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
