"""Shapes of models: presets against published sizes, and whatever a Hugging Face config says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orcinus.cost.architecture import ARCHITECTURES, Parallel, find_architecture
from orcinus.errors import ConfigError, ModelError


@pytest.mark.parametrize(
    ("name", "billions", "kv_kib"),
    [  # parameters, and keys and values of one token: PAPERS of Orca, SARATHI, Sarathi-Serve and vLLM
        ("gpt3-13b", 12.58, 800),
        ("gpt3-101b", 100.7, 3200),
        ("gpt3-175b", 173.9, 4608),
        ("gpt3-341b", 339.7, 7200),
        ("llama-13b", 12.7, 800),
        ("llama-33b", 32.0, 1560),
        ("mistral-7b", 7.2, 128),
        ("yi-34b", 34.4, 240),
        ("llama-2-70b", 69.0, 320),
        ("falcon-180b", 179.5, 160),
    ],
)
def test_presets_have_the_published_sizes(name: str, billions: float, kv_kib: int) -> None:
    model = ARCHITECTURES[name]
    assert model.num_parameters / 1e9 == pytest.approx(billions, rel=0.025)
    assert model.kv_bytes == kv_kib * 1024


def config(folder: Path, **fields: object) -> Path:
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


LLAMA = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "intermediate_size": 96,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "hidden_act": "silu",
}


def test_a_folder_and_a_file_are_read(tmp_path: Path) -> None:
    folder = config(tmp_path, **LLAMA)
    for path in (folder, folder / "config.json"):
        model = find_architecture(path)
        assert (model.layers, model.heads, model.kv_heads, model.head_dim, model.gated) == (3, 4, 2, 16, True)


def test_other_families_name_their_sizes_otherwise(tmp_path: Path) -> None:
    gpt2 = find_architecture(config(tmp_path, n_embd=64, n_head=4, n_layer=2, vocab_size=10, n_positions=128))
    assert (gpt2.ffn, gpt2.kv_heads, gpt2.gated, gpt2.max_model_len) == (256, 4, False, 128)
    falcon = find_architecture(
        config(
            tmp_path,
            hidden_size=64,
            num_attention_heads=4,
            num_hidden_layers=2,
            vocab_size=10,
            multi_query=True,
            parallel_attn=True,
        )
    )
    assert (falcon.kv_heads, falcon.parallel) == (1, True)


def test_the_bundled_model_is_known() -> None:
    folder = Path(__file__).parents[2] / "src/orcinus/tiny/model"
    assert find_architecture(folder).num_parameters == pytest.approx(3_968_384, rel=0.02)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a JSON object"),
        ("[]", "not a JSON object"),
        ('{"hidden_size": 64}', "num_attention_heads"),
        ("{}", "hidden_size"),
    ],
)
def test_what_is_no_config_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=said):
        find_architecture(tmp_path)


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ModelError, match="gpt3-175b"):
        find_architecture("gpt5")


def test_layers_are_spread_as_equally_as_can_be() -> None:
    assert Parallel(1, 8).layers(ARCHITECTURES["gpt3-175b"]) == (12,) * 8
    assert Parallel(1, 3).layers(ARCHITECTURES["llama-7b"]) == (11, 11, 10)


@pytest.mark.parametrize(
    ("tp", "pp", "said"), [(3, 1, "does not divide the 32 heads"), (1, 33, "more than the 32 layers"), (0, 1, "at least 1")]
)
def test_what_cannot_be_cut_so_is_refused(tp: int, pp: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Parallel(tp, pp).check(ARCHITECTURES["mistral-7b"])


def test_heads_fewer_than_devices_are_held_by_several() -> None:
    model = ARCHITECTURES["llama-2-70b"]
    assert model.layer_kv_bytes(16) == model.layer_kv_bytes(8) == model.layer_kv_bytes(1) // 8


def test_families_with_a_gate_have_it_unless_their_config_says_otherwise(tmp_path: Path) -> None:
    without = {key: value for key, value in LLAMA.items() if key != "hidden_act"}
    assert find_architecture(config(tmp_path, model_type="llama", **without)).gated
    assert not find_architecture(config(tmp_path, model_type="opt", **without)).gated


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"num_local_experts": 8}, "mixture of experts"),
        ({"n_routed_experts": 64}, "mixture of experts"),
        ({"kv_lora_rank": 512}, "latent attention"),
        ({"quantization_config": {"bits": 4}}, "quantized weights"),
        ({"architectures": ["BertForMaskedLM"]}, "generates no text"),
        ({"model_type": "t5"}, "no decoder-only model"),
    ],
)
def test_what_would_be_another_model_is_refused(tmp_path: Path, field: dict[str, object], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        find_architecture(config(tmp_path, **LLAMA | field))
