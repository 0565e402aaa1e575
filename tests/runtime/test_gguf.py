"""Models in GGUF files: the same numbers as in the folders that they were made from, of every number format."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from orcinus import LLM, EngineConfig, SamplingParams
from orcinus.cost.architecture import find_architecture
from orcinus.errors import ConfigError, ModelError
from orcinus.gguf_config import ARCHITECTURES as ROWS
from orcinus.gguf_file import TYPES, GgufTensor
from orcinus.plan import make_plan
from orcinus.runtime.attention import ATTENTION
from orcinus.runtime.checkpoint import load_model, open_checkpoint
from orcinus.runtime.device import Device
from orcinus.runtime.gguf_weights import DequantizedTensor, dequantized, gguf_family
from orcinus.runtime.models import ARCHITECTURES, Decoder
from orcinus.runtime.parallel.mesh import WHOLE, Mesh, MeshPlace
from orcinus.runtime.weight_files import read_headers
from orcinus.tiny import MODEL_DIR
from tests.gguf_files import write_gguf
from tests.product import part

Made = Callable[[str], tuple[Any, Path]]
CPU = Device(torch.device("cpu"), torch.float32, "a test")
QUANTIZED = [kind for kind in TYPES.values() if kind.numbers > 1]
FAMILIES = ("phi3", "olmo2", "stablelm", "starcoder2", "granite", "cohere", "nemotron", "gpt-neox", "glm", "glm4", "arcee")
FAMILIES += ("gemma", "phi2", "olmo", "seed-oss", "falcon-7b", "falcon-11b", "mixtral", "granite-moe", "olmoe", "qwen3-moe")
FAMILIES += ("falcon-40b", "cohere2", "gemma3", "olmo3")
OTHERS = ("llama2", "llama-biases-yarn", "llama-linear-rope-one-kv-head", "qwen2", "smollm3-some-layers-without-rope", "gpt2")


def load(path: Path, place: MeshPlace = WHOLE, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """The tensors of a model, before they are packed."""
    found = dict[str, torch.Tensor]()

    class Kept(Decoder):
        def process_when_filled(self, *given: Any) -> Callable[[str], None]:
            return lambda name: None

        def process_after_loading(self) -> None:
            found.update(self.tensors())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orcinus.runtime.checkpoint.Decoder", Kept)
        load_model(open_checkpoint(path), replace(CPU, dtype=dtype), ATTENTION["reference"](), place=place)
    return found


def assert_close(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    """Equal, but for the rounding of an offset that was added to norms and is taken off."""
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.allclose(tensor, right[name], rtol=0, atol=2e-7 if "norm" in name else 0), name


def assert_equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


@pytest.mark.parametrize(
    "name", part("llama3-rope-tied-odd-heads", "gpt2", "gemma2", "granite-moe-shared", full=(*OTHERS, *FAMILIES))
)
def test_a_file_is_read_as_the_folder_that_it_was_made_from(checkpoint: Made, tmp_path: Path, name: str) -> None:
    _, folder = checkpoint(name)
    file = write_gguf(folder, tmp_path / "model.gguf")
    whole, same = open_checkpoint(folder), open_checkpoint(file)
    assert same.architecture == whole.architecture
    for mine, theirs in zip(same.spec.ropes, whole.spec.ropes, strict=True):
        assert torch.allclose(torch.tensor(mine.inverse_frequencies), torch.tensor(theirs.inverse_frequencies), rtol=1e-6)
    rounded = ("norm_eps", "embedding_multiplier", "residual_multiplier", "logit_multiplier")  # to float32
    ours: dict[str, Any] = {name: getattr(whole.spec, name) for name in rounded} | {"ropes": whole.spec.ropes}
    for name_ in rounded:
        assert getattr(same.spec, name_) == pytest.approx(ours[name_])
    assert same.spec.norm_offset == 0, "norms in files are what they multiply by"
    ours["norm_offset"] = whole.spec.norm_offset
    if name in ("gemma2", "gemma3", "granite", "granite-moe", "granite-moe-shared"):  # a file says it in float32, or not at all
        ours["scales"] = whole.spec.scales
    if whole.spec.clip_qkv is not None:
        assert same.spec.clip_qkv == pytest.approx(whole.spec.clip_qkv)
        ours["clip_qkv"] = whole.spec.clip_qkv
    if name in ("starcoder2", "mixtral"):  # nor does it have windows
        ours["windows"] = whole.spec.windows
    if "smollm3" in name:  # llama.cpp rotates three layers of four, whatever the config says
        ours["rotary"] = whole.spec.rotary
    assert replace(same.spec, **ours) == whole.spec
    assert_close(load(file), load(folder))


def test_chatglm_fuses_queries_keys_and_values(checkpoint: Made, tmp_path: Path) -> None:
    """Rows of queries and keys are in pairs inside the fused matrix."""
    _, folder = checkpoint("glm")
    apart = write_gguf(folder, tmp_path / "apart.gguf")
    file = write_gguf(folder, tmp_path / "fused.gguf", fused_qkv=True)
    assert "blk.0.attn_qkv.weight" in read_headers(file)
    assert_equal(load(file), load(apart))


@pytest.mark.parametrize("tensor", [0, 1])
def test_a_rank_reads_its_part(checkpoint: Made, tmp_path: Path, tensor: int) -> None:
    _, folder = checkpoint("llama3-rope-tied-odd-heads")
    file = write_gguf(folder, tmp_path / "model.gguf")
    place = MeshPlace(Mesh(2, 1), 0, tensor)
    assert_equal(load(file, place), load(folder, place))


def test_an_architecture_has_one_place_for_each_tensor() -> None:
    for row in ROWS:
        mine, originals = gguf_family(row).names, ARCHITECTURES[row.name].names
        for ours, theirs in ((mine.outer, originals.outer), (mine.inner, originals.inner)):
            assert len({(place.parameter, place.part) for place in ours.values()}) == len(ours)
            assert {place.parameter for place in ours.values()} <= {place.parameter for place in theirs.values()}


def blocks(kind: str, rows: int, columns: int) -> tuple[Any, GgufTensor]:
    """Random bytes that are finite numbers: their scales are small halves."""
    type_ = next(each for each in TYPES.values() if each.name == kind)
    made = np.random.default_rng(0).integers(0, 256, (rows, columns // type_.numbers, type_.bytes), dtype=np.uint8)
    scales = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "Q2_K": (80, 82), "Q3_K": (108,), "Q4_1": (0, 2), "Q5_1": (0, 2)}
    for start in scales.get(kind, (0,)):
        made[:, :, start : start + 2] = np.frombuffer(np.float16(0.0123).tobytes(), np.uint8)
    return made.reshape(rows, -1), GgufTensor(Path(), type_, (rows, columns), 0)


def test_the_formats_are_those_of_ggml() -> None:
    for number, kind in TYPES.items():
        type_ = gguf.GGMLQuantizationType(number)
        assert (type_.name, *gguf.GGML_QUANT_SIZES[type_]) == kind


@pytest.mark.parametrize("kind", [each.name for each in QUANTIZED])
def test_numbers_are_those_of_ggml(tmp_path: Path, kind: str) -> None:
    data, tensor = blocks(kind, 12, 512)
    (tmp_path / "data").write_bytes(b"...." + data.tobytes())
    tensor = tensor._replace(file=tmp_path / "data", offset=4)
    expected = torch.from_numpy(gguf.dequantize(data, gguf.GGMLQuantizationType[kind]))
    assert expected.isfinite().all()
    assert len(expected.unique()) > 10
    for region in [(), (slice(3, 9),), (slice(None), slice(100, 300)), (slice(None), slice(31, 33))]:
        target = torch.zeros_like(expected[region])
        DequantizedTensor(tensor).copy_to(target, region, transposed=False)
        assert torch.equal(target, expected[region])
    rounded = torch.zeros(12, 512, dtype=torch.bfloat16)
    DequantizedTensor(tensor).copy_to(rounded, (), transposed=False)
    assert torch.equal(rounded, expected.bfloat16())


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_floats_stay_what_they_are(kind: str) -> None:
    numbers = torch.tensor([[1.5, -2.0, 0.0, 65504.0]])
    stored = gguf.quantize(numbers.numpy(), gguf.GGMLQuantizationType[kind]).view(np.uint8)
    found = dequantized(stored, kind)
    assert found.dtype.itemsize == 2
    assert torch.equal(found.float(), torch.from_numpy(gguf.dequantize(stored, gguf.GGMLQuantizationType[kind])))


def test_large_tensors_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, tensor = blocks("Q8_0", 12, 64)
    (tmp_path / "data").write_bytes(data.tobytes())
    tensor = tensor._replace(file=tmp_path / "data")
    whole, pieces = torch.zeros(12, 64), torch.zeros(12, 64)
    order = np.array([0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11])
    DequantizedTensor(tensor, order).copy_to(whole, (), transposed=False)
    monkeypatch.setattr("orcinus.runtime.gguf_weights.AT_ONCE", 5 * 64)
    DequantizedTensor(tensor, order).copy_to(pieces, (), transposed=False)
    assert torch.equal(whole, pieces)
    assert torch.equal(whole[:4], torch.from_numpy(gguf.dequantize(data, gguf.GGMLQuantizationType.Q8_0))[order][:4])


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model in one file, its matrices rounded to 8 bits in blocks."""
    return write_gguf(MODEL_DIR, tmp_path_factory.mktemp("gguf") / "bundled.gguf", "Q8_0")


def test_a_file_answers_like_its_folder(bundled: Path) -> None:
    """Eight bits are enough for the same words."""
    messages = [{"role": "user", "content": "What is your name?"}]
    params = SamplingParams(temperature=0, max_tokens=12)
    answers = []
    for model in (bundled, MODEL_DIR):
        with LLM(model, max_model_len=128, dtype="float32") as llm:
            answers.append(llm.chat(messages, params)[0].text)
    assert answers[0] == answers[1] != ""


def test_the_plan_knows_the_size_of_blocks(bundled: Path) -> None:
    plan = make_plan(EngineConfig(model=bundled, max_model_len=128))
    assert plan.model.saved_bytes < bundled.stat().st_size < plan.model.saved_bytes + 200_000
    assert plan.resolved.architecture == "Qwen3ForCausalLM"
    assert plan.resolved.dtype == "float32"


@pytest.mark.parametrize(("name", "gated"), [("qwen3", True), ("gpt2", False)])
def test_a_file_can_be_simulated(checkpoint: Made, tmp_path: Path, name: str, gated: bool) -> None:
    _, folder = checkpoint(name)
    file = write_gguf(folder, tmp_path / "model.gguf")
    shape = find_architecture(file)
    assert replace(shape, name="") == replace(find_architecture(folder), name="")
    assert shape.gated is gated


def test_a_folder_with_one_file_is_that_file(bundled: Path) -> None:
    assert make_plan(EngineConfig(model=bundled.parent, max_model_len=128)).resolved.folder == bundled


def test_a_folder_with_several_models_asks_which(bundled: Path, tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).symlink_to(bundled)
    with pytest.raises(ModelError, match="holds 2 models: give one of its files, such as a.gguf, b.gguf"):
        make_plan(EngineConfig(model=tmp_path))
    with pytest.raises(ModelError, match="is a file, which has no revision main"):
        make_plan(EngineConfig(model=tmp_path / "a.gguf", revision="main"))


def test_a_split_model_is_all_of_its_parts(checkpoint: Made, tmp_path: Path) -> None:
    _, folder = checkpoint("qwen3")
    write_gguf(folder, tmp_path / "model.gguf", split=20)
    first, *others = sorted(tmp_path.glob("*.gguf"))
    assert others
    assert make_plan(EngineConfig(model=tmp_path)).resolved.folder == first
    assert_equal(load(first), load(folder))
    with pytest.raises(ModelError, match=f"is part of a split model: give the first part, {first.name}"):
        open_checkpoint(others[-1])
    others[-1].unlink()
    with pytest.raises(ModelError, match=rf"has {len(others) + 1} parts, and {others[-1].name} is missing"):
        open_checkpoint(first)


def test_messages_name_the_metadata_of_a_file(checkpoint: Made, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint("qwen3")[1], tmp_path / "folder")
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
    (folder / "config.json").write_text(json.dumps(config))
    longest = 2 * config["max_position_embeddings"]
    plan = make_plan(EngineConfig(model=write_gguf(folder, tmp_path / "stretched.gguf"), max_model_len=longest))
    assert f"{longest} is beyond the {longest // 2} positions of the file's metadata: its linear" in plan.resolved.notes[0]

    def widen(writer: gguf.GGUFWriter) -> None:
        writer.kv_data[0]["qwen3.feed_forward_length"].value += 1

    with pytest.raises(ModelError, match=r"ffn_.* has shape \[.*\], but the file's metadata wants \["):
        make_plan(EngineConfig(model=write_gguf(folder, tmp_path / "wide.gguf", change=widen)))


def test_what_no_gguf_file_can_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    with pytest.raises(ModelError, match="is a file: give a GGUF file, or the folder that holds config.json"):
        make_plan(EngineConfig(model=tmp_path / "model.bin"))
    with pytest.raises(ConfigError, match="no model folder at .*gone.gguf"):
        make_plan(EngineConfig(model=tmp_path / "gone.gguf"))
