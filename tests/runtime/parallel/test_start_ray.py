"""Ranks on a Ray cluster of two nodes, both on this machine."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orcinus import LLM, SamplingParams
from orcinus.errors import ConfigError, EngineError
from tests.golden.record import FILE
from tests.waiting import wait_until

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.full, pytest.mark.filterwarnings("ignore")]  # of ray and what it loads

GOLDEN: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))[:4]
NODE = {"num_cpus": 2, "object_store_memory": 80 * 2**20, "node_ip_address": "127.0.0.2"}  # ray takes 127.0.0.1 for another
SIZES: dict[str, Any] = {"dtype": "float32", "max_batch_size": 4, "max_model_len": 160, "launcher": "ray"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of two nodes of two CPUs."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    made.add_node(**NODE)
    yield made.address
    made.shutdown()


def nodes_of_stages() -> list[set[str]]:
    """The nodes on which each stage's ranks are placed."""
    from ray.util import placement_group_table

    groups = [one for one in placement_group_table().values() if one["state"] == "CREATED"]
    return [set(one["bundles_to_node_id"].values()) for one in groups]


def test_stages_on_two_nodes_give_the_golden_answers(cluster: str) -> None:
    with LLM(tp=2, pp=2, ray_address=cluster, **SIZES) as llm:
        outputs = llm.generate([record["prompt"] for record in GOLDEN], SamplingParams(max_tokens=16, temperature=0))
        first, second = nodes_of_stages()
        pids = [rank.pid for rank in llm.engine.executor.group.loaded]  # type: ignore[attr-defined]
    assert [list(output.token_ids) for output in outputs] == [record["tokens"][:16] for record in GOLDEN]
    assert len(first) == len(second) == 1, "the tensor ranks of a stage are on one node"
    assert first != second
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_a_rank_killed_on_another_node_is_named(cluster: str) -> None:
    with LLM(pp=2, ray_address=cluster, **SIZES) as llm:
        pids = [rank.pid for rank in llm.engine.executor.group.loaded]  # type: ignore[attr-defined]
        stream = llm.stream("Once", SamplingParams(max_tokens=150, temperature=0, ignore_eos=True))
        next(stream)
        os.kill(pids[1], signal.SIGKILL)
        with pytest.raises(EngineError, match=r"rank 1 \(stage 1, process \d+\) was killed by SIGKILL"):
            list(stream)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_a_stage_that_fits_no_node_is_refused(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from orcinus.runtime.parallel import start_ray

    monkeypatch.setattr(start_ray, "PLACE_S", 3.0)
    with pytest.raises(ConfigError, match=r"no node of the Ray cluster has 3 CPUs free for stage 0 after 3 s: add a node"):
        LLM(tp=3, ray_address=cluster, **SIZES)
