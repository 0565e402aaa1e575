"""Nothing is compiled between two tokens: whatever a batch launches was launched before the first request came."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orcinus import LLM, SamplingParams
from orcinus.core.executor_state import RequestStates
from orcinus.core.view import Limits
from orcinus.runtime.batch_columns import BatchColumns
from orcinus.runtime.gpu.warm_up import batches
from orcinus.runtime.pack import shape_of
from tests.runtime.gpu.compilations import compiled

Made = Callable[[str], tuple[Any, Path]]
SIZES = {"attention": "triton", "dtype": "bfloat16", "block_size": 32, "max_batch_size": 5, "max_batch_tokens": 300}
GREEDY = {"max_tokens": 3, "temperature": 0, "ignore_eos": True}
DRAWN = {"max_tokens": 3, "seed": 1, "ignore_eos": True}


@pytest.mark.parametrize("name", ["mistral-no-window", "qwen2-window-on-some-layers"])
def test_whatever_is_asked_for_nothing_is_compiled_late(name: str, checkpoint: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orcinus.runtime.kernels.split_kv.LEAST_SHARE", 16)  # contexts are cut although they are short
    monkeypatch.setattr("orcinus.runtime.kernels.attention.LEAST_SHARE", 16)
    with compiled() as early:
        llm = LLM(checkpoint(name)[1], policy="stall-free:token_budget=300", max_model_len=128, **SIZES)
    with llm, compiled() as late:
        for lengths in ([1], [3, 1], [40, 2, 9], [120, 110], [50, 20, 1], [7, 1, 1, 1, 1]):
            llm.generate([[5] * length for length in lengths], SamplingParams(**GREEDY))
        for count in (1, 2, 3, 4, 5):
            llm.generate([[4]] * count, SamplingParams(**GREEDY, frequency_penalty=0.5))
        for more in ({"top_p": 0.9}, {"logit_bias": {3: 1.0}}, {"top_k": 3, "presence_penalty": 1.0}, {"logprobs": 2}, {}):
            llm.generate([[4], [5, 6]], SamplingParams(**DRAWN, **more))
        llm.generate([[9] * 30], SamplingParams(**GREEDY, prompt_logprobs=1))
    assert {"_attend", "_merge", "_follow", "_penalise", "_pick_filtered"} <= {program[0] for program in late}
    assert not late - early, f"{len(late - early)} programs would be compiled while requests wait"


@pytest.mark.parametrize("limits", [Limits(1, 1, 1), Limits(1, 2, 64), Limits(256, 8192, 4096), Limits(100, 150, 100)])
def test_no_batch_is_larger_than_a_request_could_make_it(limits: Limits) -> None:
    for batch in batches(limits, 16):
        assert len(batch.chunks) <= limits.max_batch_size
        assert batch.num_tokens <= limits.max_batch_tokens
        states = RequestStates()
        states.apply(batch)
        assert shape_of(BatchColumns.of(batch, states)).most_context <= limits.max_model_len
