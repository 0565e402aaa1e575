"""A server with drafts: answers, usage and ends are as without; metrics and timings count the drafts."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orcinus.core.component_spec import make_drafter, make_policy
from orcinus.core.sampling_params import SamplingParams
from orcinus.serve.engine_loop import _Launches
from orcinus.serve.engine_metrics import EngineMetrics, LiveRequests
from orcinus.serve.messages import EngineOutput
from tests.serve.in_process import serving_in_process
from tests.worlds import Job, build_world, run

LOOP = {"prompt": "1 2 3 1 2 3 1 2 3", "max_tokens": 60, "ignore_eos": True, "temperature": 0}
WITHOUT = {"presence_penalty": 1e-9}  # penalties get no drafts


def test_an_iteration_counts_its_drafts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.worlds.next_token", lambda sequence: sequence[-1])
    launches, metrics = _Launches(), EngineMetrics(LiveRequests())
    world = build_world(make_policy("orca"), "paged", drafter=make_drafter("ngram:min_n=1:k=2"))
    world.engine.observers.append(launches)
    run(world, [Job(0, (1, 2), SamplingParams(max_tokens=8, seed=0))])
    metrics.on_iteration(EngineOutput(0.0, batches=launches.take()), lambda _: None)
    rows = [len(chunk.tokens) for batch in world.record.batches for chunk in batch.chunks]
    assert rows == [2, 2, 3, 2]  # the prompt; then 1 draft, 2, and the 1 that max_tokens leaves, all right
    found = [
        metrics.registry.get_sample_value(f"orcinus_spec_decode_num_{kind}_tokens_total") for kind in ("draft", "accepted")
    ]
    assert found == [4, 4]


@pytest.mark.full
def test_drafts_are_counted_and_change_no_answer() -> None:
    with serving_in_process("--speculative", "ngram:min_n=1", "--dtype", "float32", "--attention", "reference") as server:

        def complete(**fields: Any) -> dict[str, Any]:
            found: dict[str, Any] = server.http.post("/v1/completions", json=LOOP | fields).json()
            return found

        def counted(kind: str) -> float:
            families = text_string_to_metric_families(server.http.get("/metrics").text)
            samples = [sample for family in families for sample in family.samples]
            return next(one.value for one in samples if one.name == f"orcinus_spec_decode_num_{kind}_tokens_total")

        whole = complete(**WITHOUT)
        stop = {"stop": whole["choices"][0]["text"][20:24]}
        plain = [whole, complete(**stop, **WITHOUT)]
        assert counted("draft") == counted("accepted") == 0
        drafted = [complete(), complete(**stop)]
        assert counted("draft") == sum(answer["timings"]["draft_tokens"] for answer in drafted)
        assert counted("accepted") == sum(answer["timings"]["accepted_draft_tokens"] for answer in drafted) > 20
    for mine, other in zip(plain, drafted, strict=True):
        assert mine["usage"]["completion_tokens"] == other["usage"]["completion_tokens"]
        assert mine["choices"][0]["text"] == other["choices"][0]["text"]
        assert mine["choices"][0]["finish_reason"] == other["choices"][0]["finish_reason"]
    assert drafted[1]["choices"][0]["finish_reason"] == "stop"
