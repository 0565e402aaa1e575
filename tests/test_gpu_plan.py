"""How a GPU's memory is shared out, before and after an iteration was measured. No GPU is needed for that."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from orcinus import EngineConfig, build
from orcinus.core.view import Limits
from orcinus.errors import ConfigError
from orcinus.memory.sizes import GPU_TOKENS
from orcinus.plan import Plan, make_plan
from orcinus.runtime.device_memory import memory_available, memory_total, told_if_short
from tests.examples import examples
from tests.gpus import MIB, pretend_gpu

Gpu = Callable[..., None]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """Pretend that this many MiB of a GPU are free."""

    def pretend(free: int, total: int | None = None, **idle: int) -> None:
        pretend_gpu(monkeypatch, free, total, **idle)

    return pretend


def planned(**options: Any) -> Plan:
    return make_plan(EngineConfig(**{"device": "cuda"} | options))


def test_keys_and_values_get_what_is_left(gpu: Gpu) -> None:
    gpu(10_000, 16_000)
    memory = planned().memory
    assert (memory.total, memory.available, memory.margin) == (16_000 * MIB, 10_000 * MIB, 1_000 * MIB)
    assert not memory.measured
    assert 0 <= memory.left < planned().resolved.block_size * planned().kv_token_bytes
    assert planned(gpu_memory_utilization=1).memory.margin == 0
    half = planned(gpu_memory_utilization=0.5).memory
    assert half.margin == 5_000 * MIB
    assert half.kv < memory.kv


def test_what_was_asked_for_stays(gpu: Gpu) -> None:
    gpu(10_000)
    plan = planned(num_blocks=100, max_batch_tokens=10_000, max_batch_size=3)
    assert plan.resolved.num_blocks == 100
    assert plan.resolved.limits == Limits(3, 10_000, 1600)
    assert plan.resolved.tokens_reason == "max_batch_tokens was asked for"
    assert 64 * MIB - 40960 < planned(kv_memory_mib=64).memory.kv <= 64 * MIB  # whole blocks


@pytest.mark.parametrize(
    ("options", "tokens", "reason"),
    [
        ({}, GPU_TOKENS, "8192 keep a GPU busy"),
        ({"max_batch_size": 2}, 2 * 2048, "what 2 requests of 2048 tokens can need"),
        ({"max_batch_size": 2, "max_model_len": 10}, 20, "what 2 requests of 10 tokens can need"),
        ({"num_blocks": 50}, 800, "what the K/V memory holds"),
    ],
)
def test_the_tokens_of_an_iteration_and_why(gpu: Gpu, options: dict[str, Any], tokens: int, reason: str) -> None:
    gpu(10_000)
    resolved = planned(**options).resolved
    assert resolved.limits.max_batch_tokens == tokens
    assert reason in resolved.tokens_reason


def test_unrequested_tokens_are_lowered_to_what_fits(gpu: Gpu) -> None:
    gpu(160)
    plan = planned(max_batch_size=16)
    assert plan.fits
    assert 16 <= plan.resolved.limits.max_batch_tokens < GPU_TOKENS
    assert plan.resolved.tokens_reason == "what fits into working memory"


def test_a_measurement_replaces_the_estimate(gpu: Gpu) -> None:
    gpu(10_000)
    before = planned()
    for working in (before.memory.working // 3, before.memory.working, 3 * before.memory.working):
        after = before.measured(working)
        assert after.memory.working == working
        assert after.memory.measured
        assert 0 <= after.memory.left < before.resolved.block_size * before.kv_token_bytes
        assert after.resolved.limits == before.resolved.limits
        gained = after.resolved.num_blocks - before.resolved.num_blocks
        assert (gained > 0) == (working < before.memory.working)
        assert after.config == before.config


def test_a_measurement_of_what_was_asked_for_may_show_that_it_does_not_fit(gpu: Gpu) -> None:
    gpu(1_000)
    plan = planned(max_batch_tokens=8000, num_blocks=1000).measured(900 * MIB)
    assert not plan.fits
    with pytest.raises(
        ConfigError, match=r"does not fit: .* and 900 to work with, where 900 are available \(100 more stay free"
    ):
        plan.check()
    remedies = dict(plan.remedies())
    assert {"max_batch_tokens", "num_blocks"} <= set(remedies)
    for name, value in remedies.items():
        assert plan.of(replace(plan.config, **{name: value})).fits


@pytest.mark.parametrize(
    ("free", "options", "knobs"),
    [
        (1000, {"num_blocks": 30_000}, {"num_blocks"}),
        (1000, {"kv_memory_mib": 5000}, {"kv_memory_mib"}),
        (1000, {"kv_memory_mib": 892}, {"kv_memory_mib", "gpu_memory_utilization"}),
        (1000, {"max_batch_size": 100_000}, {"max_batch_size"}),
        (1000, {"max_batch_tokens": 10**6, "max_batch_size": 1000}, {"max_batch_tokens"}),
        (100, {"gpu_memory_utilization": 0.05}, {"gpu_memory_utilization"}),
        (12, {"attention": "reference", "max_batch_size": 1}, {"max_model_len"}),
    ],
)
def test_what_is_suggested_fits(gpu: Gpu, free: int, options: dict[str, Any], knobs: set[str]) -> None:
    gpu(free)
    plan = planned(**options)
    assert not plan.fits
    remedies = dict(plan.remedies())
    assert knobs <= set(remedies)
    for name, value in remedies.items():
        assert make_plan(replace(plan.config, **{name: value})).fits


@given(
    free=st.integers(20, 200_000),
    share=st.sampled_from([0.3, 0.9, 1.0]),
    size=st.integers(1, 512),
    length=st.sampled_from([None, 1, 100, 2048]),
    tokens=st.sampled_from([None, 1, 4096, 100_000]),
    ratio=st.sampled_from([None, 0.2, 1.0, 4.0]),
)
@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sizes_add_up(
    gpu: Gpu, free: int, share: float, size: int, length: int | None, tokens: int | None, ratio: float | None
) -> None:
    gpu(free)
    sizes = {"max_batch_size": size, "max_model_len": length, "max_batch_tokens": tokens}
    before = plan = planned(gpu_memory_utilization=share, **sizes)
    if ratio is not None:
        plan = before.measured(int(before.memory.working * ratio))
    memory, limits = plan.memory, plan.resolved.limits
    assert memory.margin + memory.weights + memory.kv + memory.working + memory.left == memory.available
    assert memory.margin == memory.available - int(memory.available * share)
    assert limits.max_model_len <= plan.resolved.kv_tokens
    assert limits.max_batch_tokens <= before.resolved.limits.max_batch_tokens, "nothing larger than what was measured"
    assert tokens is not None or limits.max_batch_tokens <= GPU_TOKENS
    assert length is None or limits.max_model_len == length
    if plan.fits:
        assert plan.memory.missing_mib == 0
        plan.check()
    else:
        assert plan.resolved.num_blocks == (1 if length is None else -(-length // 16)), "the least there can be"


def test_another_engine_over_a_measured_one_fits_whatever_the_estimate_said(gpu: Gpu) -> None:
    gpu(10_000)
    before = planned(max_batch_size=64)
    plan = before.measured(before.memory.working // 5)
    pinned: dict[str, Any] = {"num_blocks": plan.resolved.num_blocks, "device": "cuda"}
    others: list[dict[str, Any]] = [{"max_batch_size": 64}, {"max_batch_size": 8}, {"max_batch_size": 64, "policy": "orca"}]
    for options in others:
        other = plan.of(EngineConfig(**pinned | options))
        assert other.fits
        assert other.memory.working <= plan.memory.working
        assert other.resolved.limits.max_batch_tokens <= plan.resolved.limits.max_batch_tokens


def test_what_a_backend_copies_of_contexts_is_counted(gpu: Gpu) -> None:
    pytest.importorskip("triton")
    gpu(10_000)
    sizes = {"max_batch_size": 4, "max_batch_tokens": 100}
    in_place, one, all_at_once = (planned(attention=name, **sizes).memory.working for name in ("triton", "reference", "flash"))
    assert in_place < one < all_at_once


def test_a_cpu_refuses_what_would_be_ignored() -> None:
    with pytest.raises(
        ConfigError, match=r"gpu_memory_utilization is for a GPU.* runs on cpu: leave it out, or .* kv_memory_mib"
    ):
        make_plan(EngineConfig(gpu_memory_utilization=0.9))


@pytest.mark.parametrize("value", [0, -1, 1.01, True, "0.9", float("nan")])
def test_a_share_is_a_share(value: Any) -> None:
    with pytest.raises(ConfigError, match="gpu_memory_utilization must be above 0 and at most 1"):
        EngineConfig(gpu_memory_utilization=value)


def test_a_gpu_that_is_not_there_is_refused(gpu: Gpu) -> None:
    gpu(1000)
    with pytest.raises(ConfigError, match="there is no device 'cuda:3': this machine has cuda:0 to cuda:0"):
        planned(device="cuda:3")


def test_what_torch_holds_and_does_not_use_is_free(gpu: Gpu) -> None:
    gpu(1000, 4000, reserved=700, allocated=300)
    device = torch.device("cuda")
    assert memory_available(device) == 1400 * MIB
    assert memory_total(device) == 4000 * MIB
    assert memory_total(torch.device("cpu")) > 0


class Profile:
    """Plays the profile run: an iteration takes `a_token` bytes a token, up to `memory`."""

    def __init__(self, a_token: int, memory: int) -> None:
        self.a_token, self.memory, self.runs = a_token, memory, list[int]()

    def __call__(self, model: Any, dtype: Any, device: Any, block_size: int, limits: Limits, *_: Any) -> int:
        self.runs.append(limits.max_batch_tokens)
        if (working := limits.max_batch_tokens * self.a_token) > self.memory:
            raise torch.OutOfMemoryError
        return working


def measure(monkeypatch: pytest.MonkeyPatch, profile: Profile, **options: Any) -> Plan:
    monkeypatch.setattr("orcinus.build.profile", profile)
    monkeypatch.setattr("orcinus.build._chooser", lambda plan, link: None)  # imports kernels, which others want interpreted
    return build._measure(planned(**options), None)  # type: ignore[arg-type]


def test_building_measures_once_and_says_so(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpu(10_000)
    profile = Profile(10_000, 9_000 * MIB)
    with caplog.at_level(logging.INFO, "orcinus.build"):
        plan = measure(monkeypatch, profile)
    assert profile.runs == [GPU_TOKENS]
    assert plan.memory.working == GPU_TOKENS * 10_000
    planned_line, measured_line = (record.getMessage() for record in caplog.records)
    assert planned_line.startswith("planned: 10000 of 10000 MiB are free on cuda: ")
    assert "79 to work with (measured)" in measured_line
    assert "1000 stay free" in measured_line


def test_an_iteration_that_runs_out_of_memory_is_tried_smaller_if_its_size_is_a_default(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu(10_000)
    profile = Profile(5 * MIB, 9_000 * MIB)
    plan = measure(monkeypatch, profile)
    assert profile.runs == sorted(profile.runs, reverse=True)
    assert len(set(profile.runs)) == len(profile.runs) >= 2
    assert plan.fits
    assert plan.resolved.limits.max_batch_tokens <= profile.runs[-1] < GPU_TOKENS
    assert plan.resolved.tokens_reason == "what fits into working memory"


def test_an_iteration_that_was_asked_for_and_runs_out_of_memory_is_refused_with_what_would_help(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu(10_000)
    profile = Profile(2 * MIB, 9_000 * MIB)
    message = (
        r"an iteration of 8000 tokens runs out of memory: \d+ MiB of weights, .* MiB are missing; use max_batch_tokens=(\d+)"
    )
    with pytest.raises(ConfigError, match=message) as refused:
        measure(monkeypatch, profile, max_batch_tokens=8000)
    assert profile.runs == [8000]
    assert "\n" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_model_for_which_no_iteration_is_small_enough_is_refused(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(10_000)
    with pytest.raises(ConfigError, match="runs out of memory"):
        measure(monkeypatch, Profile(1, 0))


def test_memory_that_is_gone_all_the_same_is_one_line() -> None:
    with (
        pytest.raises(ConfigError, match="the GPU ran out of memory for weights: .*gpu_memory_utilization"),
        told_if_short("weights"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20.00 GiB")
