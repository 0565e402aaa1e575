"""Profiles of the bundled model: calls, bytes, floors and what they add up to. No test asks how fast anything was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orcinus.build import Built, build
from orcinus.config import EngineConfig
from orcinus.core.batch import Chunk
from orcinus.core.request import Request
from orcinus.core.sampling_params import SamplingParams
from orcinus.errors import ConfigError, EngineError
from orcinus.memory.footprint import decode_kv_bytes
from orcinus.profile.batches import ProfiledBatch, batches_of, profile_config
from orcinus.profile.profiler import profile, targets_of
from orcinus.profile.result import BatchProfile, Profile, doubts
from orcinus.profile.tables import digits, markdown
from orcinus.runtime import device_memory
from orcinus.runtime.executor import TorchExecutor
from orcinus.runtime.operator_work import operator_work
from tests.checkpoints import CONFIGS, MIXED, MIXTURE_CONFIGS
from tests.commands import orcinus

CONFIG = EngineConfig(dtype="float32", attention="reference")
ARCHITECTURE_OF = {"mistral": "MistralForCausalLM", "gpt2": "GPT2LMHeadModel"}
REPEATS, CONTEXT, PROMPT = 2, 40, 20
SMALL = ("--repeats", "2", "--dtype", "float32", "--attention", "reference")


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """Rates are measured for a moment: no test here asks how fast this machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_memory, "SECONDS", 0.001)
        yield


@pytest.fixture(scope="module")
def batches() -> list[ProfiledBatch]:
    return batches_of([1, 3], [CONTEXT], [PROMPT], REPEATS)


@pytest.fixture(scope="module")
def built(batches: list[ProfiledBatch]) -> Built:
    return build(profile_config(CONFIG, batches, REPEATS))


@pytest.fixture(scope="module")
def found(built: Built, batches: list[ProfiledBatch]) -> Profile:
    before = [dict(vars(owner)) for owner, _, _ in targets_of(built.engine)]
    found = profile(built, batches, REPEATS)
    for (owner, name, _), kept in zip(targets_of(built.engine), before, strict=True):
        assert vars(owner).get(name) is kept.get(name), "a timer that stayed"
    return found


def executor(built: Built) -> TorchExecutor:
    assert isinstance(built.engine.executor, TorchExecutor)
    return built.engine.executor


def every_operator(built: Built) -> dict[str, int]:
    """The calls of each operator in an iteration."""
    layers = len(executor(built).model.layers)
    in_layers = dict.fromkeys(("qkv", "heads", "attention", "output", "gate, up", "activation", "down"), layers)
    once = dict.fromkeys(("planning", "packing", "embedding", "head", "choosing", "applying", "between"), 1)
    return in_layers | once | {"norms": 2 * layers + 1}


def test_every_operator_is_called_as_often_as_the_model_has_it(built: Built, found: Profile) -> None:
    for each in found.batches:
        assert {one.operator: one.calls for one in each.operators} == every_operator(built)


def moved(each: BatchProfile, *left_out: str) -> int:
    return sum(one.num_bytes for one in each.operators if one.operator not in left_out)


def test_bytes_are_those_of_the_weights_and_of_keys_and_values(built: Built, found: Profile) -> None:
    model, itemsize = executor(built).model, 4
    for each in found.batches:
        decodes, prompt = each.batch.decodes, each.batch.prompt
        held = decodes * decode_kv_bytes(model.spec, itemsize, CONTEXT) + decode_kv_bytes(model.spec, itemsize, prompt)
        rows = (decodes + prompt) * model.spec.hidden_size * itemsize  # of the embedding
        assert moved(each) == model.decode_bytes(1) + held + rows
        assert moved(each, "heads", "attention", "embedding") <= model.decode_bytes(1)


def test_operations_are_two_for_each_weight_and_token(built: Built, found: Profile) -> None:
    model = executor(built).model
    for each in found.batches:
        one = {operator.operator: operator.operations for operator in each.operators}
        spec, asked = model.spec, max(1, each.batch.decodes)
        last = f"layers.{spec.num_layers - 1}."  # of tokens that sample nothing it has only keys and values
        sizes = {name: 2 * linear.weight.shape[0] * linear.weight.shape[1] for name, linear in model.linears().items()}
        skipped = sum(size for name, size in sizes.items() if name.startswith(last) and not name.endswith("qkv"))
        products = each.tokens * sum(sizes.values()) - (each.tokens - asked) * skipped
        assert sum(one[name] for name in ("qkv", "output", "gate, up", "down")) == products
        assert one["head"] == 2 * asked * spec.vocab_size * spec.hidden_size
        whole = PROMPT * (PROMPT + 1) // 2 * bool(each.batch.prompt)
        pairs = spec.num_layers * (each.batch.decodes * CONTEXT + whole) - (whole and whole - PROMPT)
        assert one["attention"] == 4 * pairs * spec.num_heads * spec.head_dim


def test_the_division_adds_up_and_floors_are_positive(found: Profile) -> None:
    for each in found.batches:
        assert sum(one.share for one in each.operators) == pytest.approx(1)
        assert min(one.seconds for one in each.operators) > 0
        assert each.floor_seconds == pytest.approx(sum(one.floor_seconds for one in each.operators))
        for one in each.operators:
            products = one.operator in ("qkv", "attention", "output", "gate, up", "down", "head")
            assert (one.ratio is not None) == products == (one.floor_seconds > 0 and one.operations > 0)
        assert each.quartiles[0] <= each.seconds <= each.quartiles[1]
        assert each.iterations == REPEATS
    one, three, prompt = found.batches
    assert (one.tokens, three.tokens, prompt.tokens) == (1, 3, PROMPT)


def test_a_later_chunk_attends_to_the_whole_prompt(built: Built) -> None:
    """Its attention reads what is before it; products and what is written are those of the chunk alone."""
    (batch,) = batches_of([], [], [9], REPEATS, [30])
    (each,) = profile(built, [batch], REPEATS).batches
    spec, one = executor(built).model.spec, {operator.operator: operator for operator in each.operators}
    assert batch.name == "prefill of 9 tokens after 30"
    assert each.tokens == 9
    assert one["attention"].num_bytes == decode_kv_bytes(spec, 4, 30)
    seen = sum(range(31, 40)) * (spec.num_layers - 1) + 39  # in the last layer the last token alone has a query
    assert one["attention"].operations == 4 * seen * spec.num_heads * spec.head_dim
    assert one["heads"].num_bytes - decode_kv_bytes(spec, 4, 9) == spec.num_layers * 2 * spec.head_dim * 4


def test_a_chunk_beside_decodes_does_the_work_of_both(built: Built, found: Profile) -> None:
    *_, batch = batches_of([2], [CONTEXT], [9], REPEATS, [30], mixed=True)
    (each,) = profile(built, [batch], REPEATS).batches
    spec, one = executor(built).model.spec, {operator.operator: operator for operator in each.operators}
    assert batch.name == f"prefill of 9 tokens after 30 beside decode of 2 at {CONTEXT} tokens"
    assert each.tokens == 11
    assert one["attention"].num_bytes == decode_kv_bytes(spec, 4, 30 + 2 * (CONTEXT - 1))
    assert one["attention"].calls == {operator.operator: operator.calls for operator in found.batches[0].operators}["attention"]


@pytest.mark.parametrize("name", ["mistral-sliding-window", "gpt2"])
def test_calls_and_weights_of_other_architectures(name: str, tmp_path: Path) -> None:
    """Learned positions, plain MLPs, biases and windows: what is counted is what is called, and all weights are read once."""
    config = CONFIGS[name]()
    config.architectures = [ARCHITECTURE_OF[config.model_type]]
    config.save_pretrained(tmp_path)
    batches = batches_of([2], [CONTEXT], [PROMPT], REPEATS)
    asked = EngineConfig(model=tmp_path, load_format="dummy", dtype="float32", attention="reference")
    built = build(profile_config(asked, batches, REPEATS))
    model, found = executor(built).model, profile(built, batches, REPEATS)
    for each in found.batches:
        chunks = [Chunk(str(row), (0,), CONTEXT - 1) for row in range(each.batch.decodes)] or [Chunk("0", (0,) * PROMPT, 0)]
        work = operator_work(model, chunks)
        calls = {one.operator: one.calls for one in each.operators}
        assert {kind: one.calls for kind, one in work.items()} == {kind: calls[kind] for kind in work}
        assert {one.operator: one.num_bytes for one in each.operators} == dict.fromkeys(calls, 0) | {
            str(kind): one.num_bytes for kind, one in work.items()
        }
        weights = sum(one.num_bytes for kind, one in work.items() if kind not in ("heads", "attention", "embedding"))
        assert weights == model.decode_bytes(1)  # no norms of heads here


def test_a_decode_reads_the_experts_that_its_token_passes(tmp_path: Path) -> None:
    """Two of the three layers have seven experts, of which a token passes three, and a shared one."""
    config = MIXTURE_CONFIGS[MIXED]()
    config.architectures = ["Qwen2MoeForCausalLM"]
    config.save_pretrained(tmp_path)
    batches = batches_of([1], [CONTEXT], [PROMPT], REPEATS)
    asked = EngineConfig(model=tmp_path, load_format="dummy", dtype="float32", attention="reference")
    built = build(profile_config(asked, batches, REPEATS))
    decode, prompt = ({one.operator: one for one in each.operators} for each in profile(built, batches, REPEATS).batches)
    assert (decode["router"].calls, decode["gate, up"].calls, decode["activation"].calls, decode["down"].calls) == (2, 5, 5, 5)
    assert decode["gate, up"].num_bytes == 2 * decode["down"].num_bytes == 4 * 48 * 2 * (2 * (3 * 24 + 40) + 80)
    assert decode["router"].num_bytes == 4 * 48 * 2 * (7 + 1)
    last = 2 * 48 * 2 * (3 * 24 + 40)  # operations of the last layer, in a prompt for one token alone
    assert decode["gate, up"].operations * PROMPT == prompt["gate, up"].operations + (PROMPT - 1) * last
    assert decode["gate, up"].num_bytes <= prompt["gate, up"].num_bytes <= 4 * 48 * 2 * (2 * (7 * 24 + 40) + 80)
    assert sum(one.num_bytes for name, one in decode.items() if name not in ("heads", "attention", "embedding")) == executor(
        built
    ).model.decode_bytes(1)


def test_more_bytes_are_not_read_faster(found: Profile) -> None:
    """Rates are the best that were seen over as many bytes, or more."""
    ranked = sorted(found.batches, key=moved)
    assert [each.bytes_per_s for each in ranked] == sorted((each.bytes_per_s for each in ranked), reverse=True)
    assert len({each.operations_per_s for each in ranked}) == 1


def test_the_engine_serves_as_before(built: Built, found: Profile) -> None:
    fresh, tokens = build(CONFIG), []
    for engine in (built.engine, fresh.engine):
        assert engine.idle
        engine.submit(Request("hello", (5, 6, 7), SamplingParams(temperature=0, max_tokens=4), 0.0))
        events = []
        while not engine.idle:
            events += engine.step()
        tokens.append([getattr(event, "token", None) for event in events])
    assert tokens[0] == tokens[1]
    assert len(tokens[0]) == 5  # four tokens and the end


def test_the_command_prints_tables_and_writes_json(tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    done = orcinus("profile", *SMALL, "--batch-size", "2", "--context", "16", "--prompt", "9", "--json", str(file))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("the bundled model in float32 on ")
    assert any(line.startswith("decode of 2 at 16 tokens ") for line in lines)
    assert any(line.startswith("Operators of a prefill of 9 tokens, floor at ") for line in lines)
    assert sum(line.startswith("gate, up ") for line in lines) == 2
    record = json.loads(file.read_text())
    assert done.stdout.count("! In doubt: ") == len(record["doubts"])
    assert [each["batch"]["decodes"] for each in record["batches"]] == [2, 0]
    assert all(one["floor_seconds"] >= 0 for each in record["batches"] for one in each["operators"])


def test_markdown_has_a_table_for_each_batch(found: Profile) -> None:
    said = markdown(found)
    assert said.count("\n| --- | ---: |") == 1 + len(found.batches)
    widths = {line.count("|") for line in said.splitlines() if line.startswith("| qkv")}
    assert widths == {9}
    assert f"| {PROMPT} tokens" not in said
    assert f"| prefill of {PROMPT} tokens |" in said


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0.000"), (0.0001, "<0.001"), (0.1234, "0.123"), (9.876, "9.88"), (98.76, "98.8"), (1234.5, "1,234")],
)
def test_digits(number: float, said: str) -> None:
    assert digits(number) == said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tp", "2"), "profile runs on one device"),
        (("--policy", "orca"), "--policy has no effect here"),
        (("--record", "run.jsonl"), "--record has no effect here"),
        (("no/such/model",), "no/such/model"),
        (("--batch-size", "two"), "--batch-size wants whole numbers with commas between, not 'two'"),
        (("--batch-size", "-1"), "--batch-size must be at least 1, not -1"),
        (("--batch-size", "0", "--prompt", "0"), "there is nothing to profile"),
        (("--start", "-5"), "--start must be at least 0, not -5"),
        (("--context", "5"), "--context must be at least 8, not 5, because each decode goes on for 2 repeats"),
        (("--context", "9000"), "the model has 2048 positions: lower --context, --prompt or --start"),
        (("--batch-size", "9000000"), "a decode of 9000000 at 512 tokens does not fit into memory: "),
        (("--max-batch-size", "4"), "exceeds max_batch_size 4: lower --batch-size, or raise that"),
        (("--max-batch-tokens", "100"), "a prefill of 512 tokens exceeds max_batch_tokens 100"),
        (("--max-model-len", "300"), "more than max_model_len 300: lower --context, --prompt or --start, or raise that"),
        (("--num-blocks", "40"), "K/V blocks, and there are 40: lower --batch-size or --context, or raise --num-blocks"),
        (("--json", "no/such/folder/here.json"), "cannot write no/such/folder/here.json"),
    ],
)
def test_what_cannot_be_profiled(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = orcinus("profile", *SMALL, *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_manager_that_reserves_too_much_is_told() -> None:
    """`max-length` reserves the longest request for each: here two of 60 tokens, where there are blocks for one."""
    batches = batches_of([2], [16], [50], REPEATS)
    built = build(profile_config(EngineConfig(dtype="float32", attention="reference", kv="max-length"), batches, REPEATS))
    with pytest.raises(ConfigError, match="no room for a decode of 2 at 16 tokens: .* choose --kv paged"):
        profile(built, batches, REPEATS)
    assert built.engine.idle


def test_a_failed_iteration_is_not_measured() -> None:
    batches = batches_of([2], [16], [], REPEATS)
    built = build(profile_config(CONFIG, batches, REPEATS))
    norm = executor(built).model.norm
    assert norm is not None
    norm.weight.fill_(float("nan"))
    with pytest.raises(
        EngineError, match="a decode of 2 at 16 tokens failed, so it was not measured: its logits are not finite"
    ):
        profile(built, batches, REPEATS)


@pytest.mark.parametrize("spread", [1.1, 1.3])
def test_doubts(found: Profile, spread: float) -> None:
    from dataclasses import replace

    uneven = replace(found.batches[0], quartiles=(0.002, 0.002 * spread))
    assert [words.split(":")[0] for words in doubts(999.0, "other processes took 1.2 of 2 cores", [uneven])] == [
        "the machine was busy before it began",
        "other processes took 1.2 of 2 cores while it was measured",
        *(
            [f"a {uneven.batch.name} took 2.0 ms or less in a quarter of the iterations, 2.6 or more in another"]
            * (spread > 1.25)
        ),
    ]
    assert list(doubts(0.5, None, [])) == []


def test_layers_in_one_call_count_as_their_operators() -> None:
    batches = batches_of([2], [CONTEXT], [PROMPT], REPEATS)
    built = build(profile_config(EngineConfig(dtype="float32", attention="cpu"), batches, REPEATS))
    for each in profile(built, batches, REPEATS).batches:
        assert {one.operator: one.calls for one in each.operators} == every_operator(built)
