"""Decodes whose query heads read keys and values one by one, against those that share a read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orcinus.cost.architecture import Parallel, find_architecture
from orcinus.cost.cluster import Cluster
from orcinus.cost.device_file import find_device
from orcinus.cost.network_file import find_network
from orcinus.cost.software import Software, find_software
from orcinus.cost.transformer import TransformerCost
from orcinus.cost.work import IterationWork
from orcinus.errors import ConfigError

A100, NETWORK = find_device("a100-80g"), find_network("a100-dgx")
DECODES = IterationWork(32, 32, 32, 32 * 2048, (), 32)


def attention(model: str, software: Software, tp: int = 1) -> float:
    cluster = Cluster(A100, NETWORK, Parallel(tp), software)
    return TransformerCost(find_architecture(model), cluster).attention_seconds(DECODES)


@pytest.mark.parametrize(("model", "tp", "group"), [("yi-34b", 2, 7), ("llama-2-70b", 4, 8), ("falcon-180b", 4, 29)])
def test_a_group_reads_as_often_as_it_has_heads(model: str, tp: int, group: int) -> None:
    shared = Software(decode_attention=1.0)
    alone = replace(shared, query_reads=1.0)
    assert attention(model, alone, tp) == pytest.approx(group * attention(model, shared, tp))


def test_a_model_without_groups_reads_at_the_rate_of_its_kernel() -> None:
    software = Software(decode_attention=0.6)
    assert attention("llama-7b", replace(software, query_reads=1.3)) == attention("llama-7b", software)


def test_vllm_on_mistral_is_as_before() -> None:
    """One constant took the place of another: its group of four has a third of the bandwidth, as fitted on figure 9."""
    vllm = find_software("vllm")
    assert vllm.query_reads is not None
    assert attention("mistral-7b", vllm) == pytest.approx(attention("mistral-7b", Software(decode_attention=0.3269)), rel=0.01)


@pytest.mark.parametrize(("name", "value"), [("query_reads", 0), ("jitter", 1.5), ("jitter", -0.1)])
def test_impossible_rates_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} of a serving system's software must be"):
        Software(**{name: value})
