"""The checkpoint of the bundled model: its files, its size and what its card says about it."""

import hashlib
import json

from safetensors import safe_open

from orcinus.tiny import MODEL_DIR

WEIGHTS = MODEL_DIR / "model.safetensors"


def test_all_files_are_there() -> None:
    names = {path.name for path in MODEL_DIR.iterdir()}
    assert {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "README.md"} <= names


def test_it_is_small() -> None:
    assert WEIGHTS.stat().st_size < 8_000_000


def test_the_card_tells_the_checksum() -> None:
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() in (MODEL_DIR / "README.md").read_text()


def test_config() -> None:
    config = json.loads((MODEL_DIR / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert config["max_position_embeddings"] == 2048
    assert config["vocab_size"] == 2048
    assert config["tie_word_embeddings"] is True
    assert json.loads((MODEL_DIR / "generation_config.json").read_text())["eos_token_id"] == [2, 0]


def test_weights_are_bfloat16_and_finite() -> None:
    with safe_open(WEIGHTS, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118
            tensor = tensors.get_tensor(name)
            assert str(tensor.dtype) == "torch.bfloat16"
            assert bool(tensor.isfinite().all())
