"""Attention kernels that go through a prompt token by token, the thread blocks of all prompts side by side."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orcinus.cost.architecture import Parallel, find_architecture
from orcinus.cost.cluster import Cluster, find_cluster
from orcinus.cost.software import Software
from orcinus.cost.transformer import TransformerCost
from orcinus.cost.work import IterationWork

LAYERS = 40
CLUSTER = find_cluster("a100-40g", "a100-nd96asr", "default", Parallel())


def seconds(prompt_token: float, work: IterationWork) -> float:
    cluster: Cluster = replace(CLUSTER, software=Software(prompt_token=prompt_token))
    return sum(TransformerCost(find_architecture("gpt3-13b"), cluster).stages(work))


def test_an_iteration_waits_for_its_longest_prompt_in_every_layer() -> None:
    work = IterationWork(tokens=431, requests=3, decodes=1, context=50, prompts=((0, 300), (64, 130)), samples=3)
    assert seconds(1e-6, work) - seconds(0.0, work) == pytest.approx(LAYERS * 300e-6)


def test_decodes_do_not() -> None:
    work = IterationWork(tokens=4, requests=4, decodes=4, context=500, prompts=(), samples=4)
    assert seconds(1e-6, work) == seconds(0.0, work)
