"""Whole iterations: what makes them longer, what does not, and what fits in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orcinus.cost.architecture import ARCHITECTURES, Parallel
from orcinus.cost.cluster import find_cluster
from orcinus.cost.devices import DEVICES
from orcinus.cost.software import find_software
from orcinus.cost.transformer import TransformerCost
from orcinus.cost.work import IterationWork
from orcinus.errors import ConfigError
from orcinus.memory.simulated import plan_memory

DECODES = IterationWork(tokens=8, requests=8, decodes=8, context=8 * 500, prompts=(), samples=8)
PROMPT = IterationWork(tokens=512, requests=1, decodes=0, context=0, prompts=((0, 512),), samples=1)


def cost(
    model: str = "llama-2-7b", device: str = "a100-80g", tp: int = 1, pp: int = 1, software: str = "default"
) -> TransformerCost:
    return TransformerCost(ARCHITECTURES[model], find_cluster(device, "a100-dgx", software, Parallel(tp, pp)))


def test_a_lone_decode_takes_at_least_as_long_as_reading_the_weights() -> None:
    model, device = ARCHITECTURES["llama-2-7b"], DEVICES["a100-80g"]
    (seconds,) = cost().stages(IterationWork(1, 1, 1, 100, (), 1))
    assert 1.0 < seconds / (2 * model.num_parameters / device.bandwidth) < 2.0


def test_decodes_cost_by_context_and_prompts_by_tokens() -> None:
    model = cost()
    longer = DECODES._replace(context=8 * 4000)
    assert sum(model.stages(longer)) > 1.1 * sum(model.stages(DECODES))
    assert sum(model.stages(PROMPT)) > 2 * sum(model.stages(DECODES))


def test_a_later_chunk_of_a_prompt_costs_more_than_the_first() -> None:
    later = PROMPT._replace(prompts=((4096, 512),))
    assert sum(cost().stages(later)) > sum(cost().stages(PROMPT))


def test_tensor_parallel_shortens_an_iteration_by_less_than_its_degree() -> None:
    one, four = sum(cost().stages(PROMPT)), sum(cost(tp=4).stages(PROMPT))
    assert 1.5 < one / four < 4


def test_stages_share_the_layers_and_add_up_to_more_than_one_device() -> None:
    four = cost(pp=4).stages(DECODES)
    assert len(four) == 4
    assert sum(four) > sum(cost().stages(DECODES))
    assert max(four) < sum(cost().stages(DECODES)) / 2


def test_grouped_heads_read_less() -> None:
    grouped, each = ARCHITECTURES["mistral-7b"], replace(ARCHITECTURES["mistral-7b"], kv_heads=32)
    cluster = find_cluster("a100-80g", "a100-dgx", "default", Parallel())
    long = DECODES._replace(context=8 * 8000)
    times = [TransformerCost(model, cluster).attention_seconds(long) for model in (grouped, each)]
    assert times[1] == pytest.approx(4 * times[0], rel=0.05)


@pytest.mark.parametrize(
    ("change", "what"), [("iteration=0.01", DECODES), ("request=0.01", DECODES), ("prefill_attention=0.01", PROMPT)]
)
def test_every_constant_of_software_counts(change: str, what: IterationWork) -> None:
    assert sum(cost(software=f"default:{change}").stages(what)) > sum(cost().stages(what)) * 1.05


def test_changes_of_software_leave_the_other_constants_alone() -> None:
    assert find_software("default:iteration=0.01") == replace(find_software("default"), iteration=0.01)


@pytest.mark.parametrize(
    ("spelled", "said"),
    [
        ("tgi", "choose default"),
        ("default:iteration=-1", "at least 0"),
        ("default:matmul=2", "at most 1"),
        ("default:x=1", "options are"),
    ],
)
def test_impossible_software_is_refused(spelled: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        find_software(spelled)


def test_memory_is_weights_activations_and_the_rest_for_keys_and_values() -> None:
    plan = plan_memory(ARCHITECTURES["opt-13b"], DEVICES["a100-40g"], Parallel(), 2048, 64)
    assert plan.budget.weights == pytest.approx(25.7e9, rel=0.02)
    assert plan.num_blocks == pytest.approx(15_700, rel=0.06)  # of one token; vLLM's table 1
    assert plan.budget.fits
    assert 0 <= plan.budget.left < plan.kv_token


@pytest.mark.parametrize(("model", "tp", "pp"), [("gpt3-175b", 8, 1), ("llama-2-70b", 1, 1), ("gpt3-341b", 8, 2)])
def test_what_does_not_fit_is_said_before_anything_runs(model: str, tp: int, pp: int) -> None:
    with pytest.raises(ConfigError, match="does not fit on .* raise tp or pp"):
        plan_memory(ARCHITECTURES[model], DEVICES["a100-40g"], Parallel(tp, pp), 2048, 8)


def test_blocks_of_a_simulated_device_fit_or_are_refused() -> None:
    """What is asked for may take the place of activations and margin; nothing may exceed the device."""
    model, device = ARCHITECTURES["opt-13b"], DEVICES["a100-40g"]
    found = plan_memory(model, device, Parallel(), 2048, 64, block_size=16)
    most = (device.memory_bytes - found.budget.weights) // (16 * found.kv_token)
    assert found.budget.fits
    assert found.num_blocks < most
    assert plan_memory(model, device, Parallel(), 2048, 64, block_size=16, num_blocks=most).budget.fits
    with pytest.raises(ConfigError, match=f"num_blocks={most + 1} does not fit beside the weights on a100-40g: at most {most}"):
        plan_memory(model, device, Parallel(), 2048, 64, block_size=16, num_blocks=most + 1)
    with pytest.raises(ConfigError, match="not one K/V block of 50000 tokens fits"):
        plan_memory(model, device, Parallel(), 2048, 64, block_size=50_000)


def test_launching_is_paid_by_the_layers_of_each_stage() -> None:
    names = ("yi-34b", 30), ("llama-2-70b", 40)
    for model, layers in names:
        without, launched = (cost(model, tp=2, pp=2, software=f"vllm:layer={each}").stages(DECODES) for each in (0.0, 1e-3))
        assert [b - a for a, b in zip(without, launched, strict=True)] == pytest.approx([layers * 1e-3] * 2)
