"""LoRA adapters: one batch holds requests of several and of none, and each gets what its merged model would say."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from orcinus import LLM, EngineConfig, SamplingParams
from orcinus.core.batch import Batch, Chunk, NewRequest
from orcinus.core.request import RequestContext
from orcinus.errors import ConfigError, RequestError
from orcinus.plan import make_plan
from orcinus.runtime import kv_cache
from orcinus.runtime.attention import ReferenceAttention
from orcinus.runtime.checkpoint import load_model, open_checkpoint
from orcinus.runtime.cpu_kernels.low_rank import _add_low_rank
from orcinus.runtime.device import Device
from orcinus.runtime.executor import TorchExecutor
from orcinus.runtime.lora.adapt import adapt
from orcinus.runtime.lora.adapter import open_adapters
from orcinus.runtime.lora.kernel_updates import KernelUpdates, Tasks, compile_kernel
from orcinus.runtime.lora.product import LowRank, PlainUpdates, Segment, segments
from orcinus.runtime.parallel.collectives import Collectives
from orcinus.runtime.parallel.mesh import Mesh, MeshPlace
from orcinus.runtime.transfers import Link
from tests.adapters import merged, save_adapter, stabilized, updates
from tests.checkpoints import MECHANISMS, MOST_DIFFERENT, OTHERS, REST, save
from tests.product import part
from tests.threads_mesh import run_ranks

Made = Callable[[str], tuple[Any, Path]]
CPU = torch.device("cpu")
PROMPTS = [[(7 * i + start) % 97 for i in range(count)] for start, count in ((1, 20), (2, 9), (3, 14), (4, 20))]
SCORED = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0)
PLAIN = {"dtype": "float32", "attention": "reference", "max_model_len": 64}


def ours(llm: LLM, adapters: Sequence[str]) -> list[list[float]]:
    """Log-probabilities of the prompts' tokens but the first, all in the same batches."""
    outputs = llm.generate(PROMPTS, SCORED, lora=list(adapters))
    return [[one.logprob for one in (output.prompt_logprobs or ())[1:] if one] for output in outputs]


def theirs(model: Any, prompt: list[int]) -> Any:
    with torch.no_grad():
        found = torch.log_softmax(model(torch.tensor([prompt])).logits[0], -1)
    return pytest.approx([found[place, token].item() for place, token in enumerate(prompt[1:])], abs=1e-4)


@pytest.mark.parametrize("name", part("gpt2", "gpt-neox", full=["qwen3-moe", *MOST_DIFFERENT[:2], *OTHERS, *MECHANISMS, *REST]))
def test_adapters_say_what_merged_models_say(checkpoint: Made, name: str, tmp_path: Path) -> None:
    """Every family: parts of fused layers, fused modules, other orders of rows, transposed weights."""
    model, folder = checkpoint(name)
    first, second = updates(model, 1), updates(model, 2, rank=5)
    lora = {"first": save_adapter(tmp_path / "1", first), "second": save_adapter(tmp_path / "2", second)}
    with LLM(folder, lora=lora, max_batch_size=4, **PLAIN) as llm:
        found = ours(llm, ["second", "", "first", "second"])
    models = [merged(model, second), model, merged(model, first), merged(model, second)]
    assert found == [theirs(one, prompt) for one, prompt in zip(models, PROMPTS, strict=True)]


def test_ranks_and_scales_may_differ_by_module(checkpoint: Made, tmp_path: Path) -> None:
    """As peft writes it: patterns match the end of a module's name, and rsLoRA divides by a root."""
    model, folder = checkpoint("qwen3")
    values, rest = updates(model, 1, rank=6, ends=["v_proj"]), updates(model, 2, ends=["q_proj", "mlp.down_proj"])
    config = {"r": 3, "lora_alpha": 4, "rank_pattern": {"v_proj": 6}, "alpha_pattern": {"0.self_attn.v_proj": 5}}
    targets = ["q_proj", "v_proj", "down_proj"]
    path = save_adapter(tmp_path, rest | values, **config, use_rslora=True, target_modules=targets)
    first = {name: pair for name, pair in values.items() if ".0." in name}
    others = {name: pair for name, pair in values.items() if name not in first}
    expected = merged(model, rest, stabilized(4, 3))
    expected = merged(merged(expected, first, stabilized(5, 6)), others, stabilized(4, 6))
    with LLM(folder, lora=[f"mine={path}"], **PLAIN) as llm:
        assert ours(llm, ["mine"] * 4) == [theirs(expected, prompt) for prompt in PROMPTS]


@pytest.mark.parametrize("mesh", part(Mesh(tp=2), full=[Mesh(pp=2), Mesh(tp=2, pp=2)]), ids=str)
@pytest.mark.parametrize("name", part("qwen3", full=["gpt2", "phi3", "gpt-neox", "falcon-7b"]))
def test_ranks_hold_their_part_of_an_adapter(checkpoint: Made, name: str, mesh: Mesh, tmp_path: Path) -> None:
    """Of B its rows where a layer is split by outputs, of A its columns where it is split by inputs."""
    model, folder = checkpoint(name)
    found = updates(model, 1)
    known = open_checkpoint(folder)
    adapters = open_adapters([("mine", str(save_adapter(tmp_path, found)))], known)
    new = [NewRequest(str(row), tuple(prompt), (), SCORED, RequestContext(lora="mine" * (row % 2)), ((row,),))
           for row, prompt in enumerate(PROMPTS)]  # fmt: skip
    batch = Batch(0, tuple(Chunk(one.request_id, one.prompt, 0, prefill=True) for one in new), tuple(new))

    def work(place: MeshPlace, collectives: Collectives) -> list[list[float]]:
        device, complete = (
            Device(CPU, torch.float32, "exact"),
            adapt(adapters, known.spec, torch.float32, "reference", merged=False),
        )
        part = load_model(known, device, ReferenceAttention(), place=place, collectives=collectives, complete=complete)
        kv = kv_cache.allocate(len(part.layers), 4, part.num_kv_heads, 32, known.spec.head_dim, torch.float32, CPU)
        executor = TorchExecutor(part, kv, Link(CPU))
        executor.submit(batch)
        scores = executor.collect().prompt_logprobs
        return [[one.logprob for one in scores[row]] for row in range(len(PROMPTS))] if place.last else []

    models = [model, merged(model, found)] * 2
    assert run_ranks(mesh, work)[-1] == [theirs(one, prompt) for one, prompt in zip(models, PROMPTS, strict=True)]


@pytest.mark.full
@pytest.mark.parametrize("mesh", [{"tp": 2}, {"pp": 2}], ids=str)
def test_processes_of_ranks_load_adapters(checkpoint: Made, mesh: dict[str, int], tmp_path: Path) -> None:
    model, folder = checkpoint("qwen3")
    found = updates(model, 1)
    with LLM(folder, lora={"mine": save_adapter(tmp_path, found)}, **mesh, **PLAIN) as llm:
        scores = ours(llm, ["mine", "", "mine", ""])
    models = [merged(model, found), model] * 2
    assert scores == [theirs(one, prompt) for one, prompt in zip(models, PROMPTS, strict=True)]


def test_rows_of_an_adapter_are_neighbours() -> None:
    rows = [("b", range(5, 9)), ("", range(1)), ("b", range(3, 5)), ("a", range(1, 3)), ("b", range(12, 14))]
    assert segments(rows) == (Segment("a", 1, 3), Segment("b", 3, 9), Segment("b", 12, 14))


@pytest.mark.parametrize("dtype", part(torch.float32, full=[torch.bfloat16]), ids=str)
def test_the_kernel_adds_what_torch_adds(dtype: torch.dtype) -> None:
    """Any sizes, parts of a layer, adapters without an update, odd numbers of rows; and a row's bits are its own."""
    draws = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draws).to(dtype)

    inputs, outputs = 83, 201
    found = {
        "a": [
            LowRank(random(3, inputs), random(70, 3), slice(5, 75)),
            LowRank(random(9, inputs), random(126, 9), slice(75, 201)),
        ],
        "c": [LowRank(random(6, inputs), random(outputs, 6), slice(None))],
    }
    x, before = random(12, inputs), random(12, outputs)
    batch = (Segment("a", 1, 6), Segment("b", 6, 8), Segment("c", 8, 11))
    kernel = KernelUpdates(found, Tasks("abc"), "abc")
    ours, theirs = before.clone(), before.float().clone()
    kernel.add_to(ours, x, batch)
    exact = {name: [LowRank(a.float(), b.float(), outputs) for a, b, outputs in each] for name, each in found.items()}
    PlainUpdates(exact).add_to(theirs, x.float(), batch)
    assert torch.allclose(ours.float(), theirs, rtol=1e-5 if dtype is torch.float32 else 8e-3, atol=1e-4)
    assert torch.equal(ours[[0, 6, 7, 11]], before[[0, 6, 7, 11]])
    alone = before.clone()
    for adapter, first, end in batch:
        for row in range(first, end):
            kernel.add_to(alone, x, (Segment(adapter, row, row + 1),))
    assert torch.equal(alone, ours)


def test_a_loaded_engine_has_the_kernel(checkpoint: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request of an adapter does not wait until it is compiled."""
    model, folder = checkpoint("qwen3")
    lora, compiled = {"mine": save_adapter(tmp_path, updates(model, 1))}, list[Any]()

    def compile_and_note(dtype: torch.dtype) -> None:
        compile_kernel(dtype)
        compiled.append((dtype, set(_add_low_rank.signatures)))

    monkeypatch.setattr("orcinus.runtime.lora.adapt.compile_kernel", compile_and_note)
    with LLM(folder, lora=lora, dtype="float32", max_model_len=64) as llm:
        llm.generate(PROMPTS[0], SCORED, lora="mine")
    assert compiled == [(torch.float32, set(_add_low_rank.signatures))]


@pytest.fixture
def adapter(checkpoint: Made, tmp_path: Path) -> Path:
    """Of the random Qwen3."""
    return save_adapter(tmp_path / "adapter", updates(checkpoint("qwen3")[0], 1))


def test_prefixes_are_shared_within_an_adapter_alone(checkpoint: Made, adapter: Path) -> None:
    prompt, greedy = PROMPTS[0], SamplingParams(max_tokens=4, temperature=0)
    with LLM(checkpoint("qwen3")[1], lora={"one": adapter, "two": adapter}, block_size=4, **PLAIN) as llm:
        hits, texts = [], []
        for name in ("", "one", "two", "one", ""):
            before = llm.engine.scheduler.kv.stats.hits  # type: ignore[attr-defined]
            texts.append(llm.generate(prompt, greedy, lora=name)[0].token_ids)
            hits.append(llm.engine.scheduler.kv.stats.hits - before)  # type: ignore[attr-defined]
    assert hits == [0, 0, 0, 16, 16]
    assert texts[1] == texts[2] == texts[3] != texts[0] == texts[4]


def test_no_adapter_and_salt_are_mistaken_for_others() -> None:
    pairs = [("", "ab"), ("a", "b"), ("ab", ""), ("1:a", ""), ("", "1:a"), ("", ""), ("1", ":a")]
    assert len({RequestContext(lora=lora, cache_salt=salt).prefix_key for lora, salt in pairs}) == len(pairs)


def test_a_row_does_not_depend_on_its_neighbours_adapters(checkpoint: Made, tmp_path: Path) -> None:
    """With `deterministic`, to the bit."""
    model, folder = checkpoint("qwen3")
    lora = {name: save_adapter(tmp_path / name, updates(model, seed)) for seed, name in enumerate("abc")}
    params = SamplingParams(max_tokens=6, temperature=0, logprobs=1, ignore_eos=True)
    with LLM(folder, lora=lora, deterministic=True, dtype="float32", max_model_len=64, max_batch_size=4) as llm:
        alone = [llm.generate(prompt, params, lora=name)[0] for prompt, name in zip(PROMPTS, "abca", strict=True)]
        together = llm.generate(PROMPTS, params, lora=list("abca"), cache_salt="again")
        beside = llm.generate(PROMPTS, params, lora=["a", "", "c", ""], cache_salt="once more")
    assert [one.logprobs for one in together] == [one.logprobs for one in alone]
    assert [beside[row].logprobs for row in (0, 2)] == [alone[row].logprobs for row in (0, 2)]


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_a_merged_adapter_is_the_model(checkpoint: Made, adapter: Path, tmp_path: Path, quantization: str | None) -> None:
    """It is merged before weights are quantised, so both give the same integers."""
    model, folder = checkpoint("qwen3")
    options = {"quantization": quantization, **PLAIN}
    with LLM(folder, lora={"mine": adapter}, merge_lora=True, **options) as llm:
        found = ours(llm, [""] * 4)
        with pytest.raises(RequestError, match="there is no adapter 'mine'; known are none"):
            llm.generate(PROMPTS, SCORED, lora="mine")
    with LLM(save(merged(model, updates(model, 1)), tmp_path / "merged"), **options) as llm:
        expected = ours(llm, [""] * 4)
    assert [pytest.approx(row, abs=1e-4 if quantization is None else 0.02) for row in expected] == found


def test_a_plan_counts_adapters(checkpoint: Made, adapter: Path) -> None:
    folder = checkpoint("qwen3")[1]
    alone, plan, once = (
        make_plan(EngineConfig(model=folder, dtype="float32", num_blocks=9, **more)).memory
        for more in ({}, {"lora": {"mine": adapter}}, {"lora": {"mine": adapter}, "merge_lora": True})
    )
    assert plan.weights - alone.weights == sum(
        tensor.nbytes for tensor in load_file(adapter / "adapter_model.safetensors").values()
    )
    assert (once.weights, once.working) == (alone.weights, alone.working)


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "another kind": ({"peft_type": "IA3"}, "the adapter in .* is of type 'IA3': only LORA is supported"),
    "DoRA": ({"use_dora": True}, "use_dora of the adapter in .* is not supported: DoRA"),
    "biases": ({"bias": "lora_only"}, "bias 'lora_only' of the adapter in .* is not supported"),
    "whole modules": ({"modules_to_save": ["lm_head"]}, "modules_to_save of the adapter in .* is not supported"),
    "another base": (
        {"init_lora_weights": "pissa"},
        "init_lora_weights 'pissa' of the adapter in .* its base model was changed",
    ),
    "rank 0": ({"r": 0}, "r of the adapter in .* must be a whole number of at least 1, not 0"),
    "another rank": ({"r": 4}, r".*down_proj.lora_A.weight has shape \[3, 80\], but .* want \[4, 80\]"),
    "infinite": ({"lora_alpha": float("inf")}, "lora_alpha of the adapter in .* must be a finite number, not inf"),
    "an alpha of text": ({"alpha_pattern": {"q_proj": "x"}}, "alpha_pattern of 'q_proj' of the adapter in .* not 'x'"),
    "an endless pattern": ({"rank_pattern": {"(a+)+": 3}}, r"rank_pattern of the adapter in .* has '\(a\+\)\+'"),
    "a target without weights": ({"target_modules": ["q_proj", "w1"]}, ".*target_modules names w1, and no tensor is of it"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_that_cannot_be_served_are_refused(checkpoint: Made, adapter: Path, name: str) -> None:
    change, message = CONFIGS[name]
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ConfigError, match=f"^adapter mine: {message}"):
        open_adapters([("mine", str(adapter))], open_checkpoint(checkpoint("qwen3")[1]))


A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
HEAD = "base_model.model.lm_head"
TENSORS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "half a pair": (lambda found: found.pop(A), "q_proj.lora_B.weight without the other half"),
    "a layer less": (
        lambda found: [found.pop(A.replace("_A", half)) for half in ("_A", "_B")],
        "q_proj has no tensors for layers.0.attention.qkv",
    ),
    "a wrong shape": (lambda found: found.update({A: torch.zeros(3, 47)}), r"q_proj.lora_A.weight has shape \[3, 47\]"),
    "integers": (lambda found: found.update({A: torch.zeros(3, 48, dtype=torch.int8)}), "lora_A.weight is I8"),
    "an unknown module": (
        lambda found: found.update({A.replace("q_proj.lora_A", f"w.lora_{half}"): torch.zeros(3, 3) for half in "AB"}),
        "the model has no module model.layers.0.self_attn.w: the adapter is of another architecture",
    ),
    "a tensor of another kind": (
        lambda found: found.update({A.replace("lora_A", "ia3_l"): torch.zeros(3)}),
        "holds .*ia3_l.weight, a tensor that is not supported",
    ),
    "the head": (
        lambda found: found.update({f"{HEAD}.lora_A.weight": torch.zeros(3, 48), f"{HEAD}.lora_B.weight": torch.zeros(97, 3)}),
        "an update of lm_head is not supported: embedding, head, norms and experts cannot be adapted",
    ),
    "DoRA's vector": (
        lambda found: found.update({A.replace("lora_A", "lora_magnitude_vector"): torch.zeros(3)}),
        "a tensor of DoRA that is not supported",
    ),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_do_not_fit_are_refused(checkpoint: Made, adapter: Path, name: str) -> None:
    change, message = TENSORS[name]
    found = load_file(adapter / "adapter_model.safetensors")
    change(found)
    save_file(found, adapter / "adapter_model.safetensors")
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"target_modules": ["q_proj"]}))
    with pytest.raises(ConfigError, match=f"^adapter mine: .*{message}"):
        open_adapters([("mine", str(adapter))], open_checkpoint(checkpoint("qwen3")[1]))


def test_files_that_are_missing_or_cut_are_refused(checkpoint: Made, adapter: Path, tmp_path: Path) -> None:
    known, weights = open_checkpoint(checkpoint("qwen3")[1]), adapter / "adapter_model.safetensors"

    def refused(path: Path, message: str) -> None:
        with pytest.raises(ConfigError, match=f"^adapter mine: {message}"):
            open_adapters([("mine", str(path))], known)

    refused(tmp_path / "nowhere" / "x" / "y", "no adapter at .*: give a folder in which peft saved one, or a hub repository")
    refused(tmp_path, "no adapter_config.json in .*")
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(adapter, ".*adapter_model.safetensors cannot be read: .*download it again")
    weights.unlink()
    (adapter / "adapter_model.bin").touch()
    refused(adapter, "adapter_model.safetensors is missing in .*; adapter_model.bin is not read")


def test_targets_may_be_names_of_single_modules(checkpoint: Made, tmp_path: Path) -> None:
    """As peft writes them for GPT-2."""
    model, folder = checkpoint("gpt2")
    some = ["h.0.attn.c_attn", "h.2.mlp.c_proj"]
    path = save_adapter(tmp_path, updates(model, 1, ends=some), target_modules=[f"transformer.{name}" for name in some])
    (adapter,) = open_adapters([("mine", str(path))], open_checkpoint(folder))
    assert set(adapter.pairs) == {"layers.0.attention.qkv", "layers.2.mlp.down"}


def test_weights_that_are_not_finite_are_refused(checkpoint: Made, adapter: Path) -> None:
    found = load_file(adapter / "adapter_model.safetensors")
    found[A][0, 0] = torch.nan
    save_file(found, adapter / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match="adapter mine: .*q_proj.lora_A.weight has numbers that are not finite"):
        LLM(checkpoint("qwen3")[1], lora={"mine": adapter}, **PLAIN)


def test_a_base_of_another_name_is_noted(checkpoint: Made, adapter: Path) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": "owner/Other-7B"}))
    notes = make_plan(EngineConfig(model=checkpoint("qwen3")[1], lora={"mine": adapter})).resolved.notes
    assert [note for note in notes if "adapter mine was trained on owner/Other-7B, and the model is" in note]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora": ["mine"]}, "lora must be name=path, not 'mine'"),
        ({"lora": "=here"}, "lora must be name=path, not '=here'"),
        ({"lora": [("a", "x"), ("a", "y")]}, "two adapters have the name 'a'"),
        ({"lora": {"a b": "x"}}, "an adapter cannot have the name 'a b'"),
        ({"lora": "a\nb=x"}, r"an adapter cannot have the name 'a\\nb'"),
        ({"merge_lora": True}, "merge_lora is for one adapter, and there are 0"),
        ({"lora": {"a": "x", "b": "y"}, "merge_lora": True}, "merge_lora is for one adapter, and there are 2"),
        ({"lora": {"a": "x"}, "merge_lora": True, "load_format": "dummy"}, "merge_lora is for a checkpoint's weights"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EngineConfig(**options)
