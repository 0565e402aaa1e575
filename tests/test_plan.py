"""What fits, what does not and what would help: decided from headers, and the same for every way to build an engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from orcinus import LLM, EngineConfig
from orcinus.build import build, resolve
from orcinus.decode_speed import measure
from orcinus.errors import ConfigError, ModelError
from orcinus.memory.budget import MIB
from orcinus.memory.footprint import decode_kv_bytes, working_bytes
from orcinus.plan import Plan, make_plan
from orcinus.runtime import weight_files
from orcinus.runtime.checkpoint import open_checkpoint, outline
from orcinus.runtime.device_memory import _of_the_groups, memory_available
from orcinus.runtime.packed_weights import packed_format
from tests.checkpoints import CONFIGS, save

Made = Callable[[str], tuple[Any, Path]]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Pretend that this many MiB are available."""

    def pretend(mib: int) -> None:
        monkeypatch.setattr("orcinus.plan.memory_available", lambda device: mib * MIB)

    return pretend


def bundled(**options: Any) -> Plan:
    return make_plan(EngineConfig(**{"dtype": "float32"} | options))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_plan_counts_what_the_model_has(checkpoint: Made, name: str) -> None:
    model, folder = checkpoint(name)
    plan = make_plan(EngineConfig(model=folder))
    assert plan.fits
    assert plan.resolved == resolve(EngineConfig(model=folder))
    saved = sum(p.numel() * 4 for p in model.parameters())
    spec = plan.model.checkpoint.spec
    twice = (
        spec.tied and packed_format("cpu", torch.float32) is not None
    )  # the embedding: for look-ups, and packed for the output
    assert plan.memory.weights == saved + (4 * spec.vocab_size * spec.hidden_size if twice else 0)
    assert plan.model.saved_bytes == saved
    assert plan.memory.missing_mib == 0
    assert plan.remedies() == []


def test_a_plan_reads_no_weight(checkpoint: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_files, "read_tensors", None)
    monkeypatch.setattr("orcinus.runtime.checkpoint.read_tensors", None)
    assert make_plan(EngineConfig(model=checkpoint("qwen3")[1])).fits


def test_wrong_weights_are_found_before_any_is_read(checkpoint: Made, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint("qwen3")[1], tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 81}))
    with pytest.raises(ModelError, match="has shape .* config.json wants"):
        make_plan(EngineConfig(model=folder))


@pytest.mark.parametrize(
    ("available", "options", "knobs"),
    [
        (200, {"kv_memory_mib": 4000}, {"kv_memory_mib"}),
        (200, {"num_blocks": 10**6}, {"num_blocks"}),
        (200, {"max_batch_tokens": 16384, "num_blocks": 1024}, {"max_batch_tokens", "num_blocks"}),
        (125, {"max_model_len": 2048, "max_batch_tokens": 2048}, {"max_model_len", "max_batch_tokens"}),
        (95, {"block_size": 10**6}, {"block_size"}),
        (150, {"max_batch_size": 2000}, {"max_batch_size"}),
        (78, {}, {"dtype"}),
        (20, {}, set()),
    ],
)
def test_what_is_suggested_fits(
    memory: Callable[[int], None], available: int, options: dict[str, Any], knobs: set[str]
) -> None:
    memory(available)
    plan = bundled(**options)
    assert not plan.fits
    assert plan.memory.missing_mib == -(plan.memory.left // MIB) > 0
    remedies = dict(plan.remedies())
    assert knobs <= set(remedies), plan.memory
    for name, value in remedies.items():
        assert make_plan(replace(plan.config, **{name: value})).fits
    memory(available + plan.memory.missing_mib)
    assert bundled(**options).fits


def test_an_engine_that_does_not_fit_is_refused_before_it_loads(
    memory: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory(200)
    monkeypatch.setattr("orcinus.build.load_model", None)
    monkeypatch.setattr("orcinus.build.find_model", None)
    message = r"does not fit: 1[68] MiB of weights, 4000 of K/V and \d+ to work with, where 200 .*: \d+ MiB are missing; "
    for attempt in (resolve, build, LLM.from_config):
        with pytest.raises(ConfigError, match=message + r"use kv_memory_mib=\d+, or a smaller model"):
            attempt(EngineConfig(dtype="float32", kv_memory_mib=4000))


def test_more_threads_than_can_run_are_refused_before_anything_loads() -> None:
    with pytest.raises(ConfigError, match="threads is 100000, and this process may run on"):
        make_plan(EngineConfig(threads=10**5))


def test_unrequested_sizes_are_lowered_to_what_fits(memory: Callable[[int], None]) -> None:
    memory(10_000)
    roomy = bundled().resolved
    memory(140)
    tight = bundled()
    assert tight.fits
    assert tight.resolved.num_blocks < roomy.num_blocks
    assert tight.resolved.limits.max_batch_tokens < roomy.limits.max_batch_tokens == 8 * 2048
    assert tight.memory.left >= 0
    assert "half of the" in tight.resolved.kv_reason


def test_engines_that_share_the_memory_have_their_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orcinus.plan.memory_available", lambda device: 900 * MIB)
    alone, one_of_three = make_plan(EngineConfig()), make_plan(EngineConfig(), memory_sharers=3)
    assert (alone.memory.available, one_of_three.memory.available) == (900 * MIB, 300 * MIB)
    assert one_of_three.of(EngineConfig()).memory == one_of_three.memory, "another config has the same part"
    short = make_plan(EngineConfig(kv_memory_mib=400), memory_sharers=3)
    with pytest.raises(ConfigError, match="where 300 are available to each of 3 engines"):
        short.check()
    assert make_plan(EngineConfig(kv_memory_mib=400)).fits


def test_sequences_and_bytes_of_a_decode(checkpoint: Made) -> None:
    plan = bundled(num_blocks=100, block_size=16)
    assert [plan.sequences(length) for length in (1, 16, 17, 1600, 1601)] == [100, 100, 50, 1, 0]
    for name, seen in (("mistral-sliding-window", 12), ("mistral-no-window", 100)):
        spec = open_checkpoint(checkpoint(name)[1]).spec
        assert decode_kv_bytes(spec, 4, 100) == 2 * 3 * 2 * spec.head_dim * 4 * seen
        model = outline(spec, torch.float32)
        assert model.decode_bytes(1) == (model.num_parameters - 97 * 48) * 4
    assert working_bytes(spec, 4, 9, 4, 64) > working_bytes(spec, 4, 8, 4, 64)


def test_speeds_are_measured() -> None:
    speeds = measure(bundled(max_batch_size=4))
    assert speeds.context == 1024
    assert [speed.requests for speed in speeds.decode] == [1, 4]
    for speed in speeds.decode:
        assert 0 < speed.iterations_per_s < float("inf")
        assert speed.tokens_per_s == speed.requests * speed.iterations_per_s


def test_rates_of_a_busy_machine_are_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orcinus.decode_speed.taken", lambda before, after, cores: "other processes took 1.1 of 2 cores")
    assert measure(bundled()).doubts == ("other processes took 1.1 of 2 cores while these rates were measured",)
    assert measure(make_plan(EngineConfig(model="llama-2-7b", device="h100"), known=True)).doubts == ()


def test_loading_tells_how_far_it_is(checkpoint: Made, tmp_path: Path) -> None:
    model, _ = checkpoint("qwen3")
    folder = save(model, tmp_path / "shards", max_shard_size="40KB")
    heard: list[tuple[str, int, int]] = []
    build(EngineConfig(model=folder, max_model_len=32), progress=lambda *stage: heard.append(stage))
    total = sum(p.numel() * 4 for p in model.parameters())
    weights = [done for stage, done, _ in heard if stage == "weights"]
    assert weights == sorted(weights)
    assert weights[-1] == total
    assert {of for stage, _, of in heard if stage == "weights"} == {total}
    assert heard[-1] == ("warm-up", 0, 0)


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_a_container_of_either_version_limits_memory(tmp_path: Path) -> None:
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    write(proc / "self", cgroup="4:cpu,memory:/pod/one\n1:name=systemd:/\n0::/slice/two\n")
    write(root / "slice" / "two", memory__max="max\n", memory__current="5\n", memory__stat="")
    write(
        root / "slice", memory__max="1000\n", memory__current="900\n", memory__stat="inactive_file 300\nactive_file 50\nanon 1"
    )
    write(
        root / "memory",  # the path leads nowhere from inside a container: its own group is the top
        memory__limit_in_bytes="700",
        memory__usage_in_bytes="200",
        memory__stat="total_inactive_file 100\ncache 9",
    )
    assert sorted(_of_the_groups(proc, root)) == [1000 - 900 + 350, 700 - 200 + 100]
    assert list(_of_the_groups(tmp_path / "nowhere", root)) == []


def test_the_tightest_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "proc", meminfo="MemTotal: 9 kB\nMemAvailable:    5 kB\n")
    write(tmp_path / "proc" / "self", cgroup="0::/\n")
    write(tmp_path / "cgroup", memory__max="9000\n", memory__current="6000\n", memory__stat="file 1")
    monkeypatch.setattr("orcinus.runtime.device_memory.PROC", tmp_path / "proc")
    monkeypatch.setattr("orcinus.runtime.device_memory.CGROUPS", tmp_path / "cgroup")
    assert memory_available(torch.device("cpu")) == 3000
    write(tmp_path / "cgroup", memory__max="99000\n")
    assert memory_available(torch.device("cpu")) == 5 * 1024
