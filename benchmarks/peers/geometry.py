"""Checkpoints with random weights of a named geometry: how fast an engine is does not depend on what its model has learned.

    python benchmarks/peers/geometry.py small FOLDER

Matrices have the standard deviation 1 / sqrt(fan-in), so that every layer adds about as much to the residual stream as the
others, and the embedding, which is tied to the head, transformers' usual 0.02. Then the layers drown the last token's own
embedding, and greedy decoding does not repeat it for ever; the best logit leads by far more than float32's noise.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

SEED = 0
EMBEDDING_STD = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """The sizes of a Qwen3 model (RMS norms of queries and keys, grouped-query attention, head tied to the embedding)."""

    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int = 4096
    rope_theta: float = 1e6


GEOMETRIES: Mapping[str, Geometry] = {
    "tiny": Geometry(  # for tests
        num_hidden_layers=2,
        hidden_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=128,
        vocab_size=512,
    ),
    "small": Geometry(
        num_hidden_layers=8,
        hidden_size=512,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        intermediate_size=1536,
        vocab_size=32_000,
    ),
    "qwen3-0.6b": Geometry(  # Qwen/Qwen3-0.6B, config.json
        num_hidden_layers=28,
        hidden_size=1024,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        intermediate_size=3072,
        vocab_size=151_936,
    ),
}


def write_checkpoint(geometry: Geometry, dtype: str, folder: Path) -> Path:
    """Weights drawn with a fixed seed, in float32 or bfloat16 (the same numbers, rounded), as safetensors; returns the folder.

    There is no end of text and no tokenizer. What is there already is kept if it was made for the same geometry.
    """
    import torch
    import transformers

    stamp = folder / "made_for.json"  # written last, so that half a checkpoint is never taken for a whole one
    wanted = json.dumps({"geometry": asdict(geometry), "dtype": dtype, "seed": SEED, "embedding_std": EMBEDDING_STD})
    if stamp.exists() and stamp.read_text() == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)  # with what others made of it, as a GGUF file
    transformers.utils.logging.disable_progress_bar()
    sizes = asdict(geometry)
    theta = sizes.pop("rope_theta")
    config = transformers.Qwen3Config(
        **sizes,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    draw_weights(model)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    stamp.write_text(wanted)
    return folder


def draw_weights(model: object) -> None:
    """Replace every matrix by random numbers from SEED; norms stay 1."""
    import torch

    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # type: ignore[attr-defined]
            if parameter.ndim == 2:
                std = EMBEDDING_STD if "embed" in name else parameter.shape[1] ** -0.5
                parameter.normal_(0.0, std, generator=generator)


if __name__ == "__main__":
    print(write_checkpoint(GEOMETRIES[sys.argv[1]], "float32", Path(sys.argv[2])))
