"""One device's executor: what becomes of a batch that memory is not enough for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from orcinus import LLM, SamplingParams
from orcinus.errors import EngineError, RequestFailed
from orcinus.runtime.batch_columns import BatchColumns
from orcinus.runtime.transfers import Link

GREEDY = SamplingParams(max_tokens=6, temperature=0, ignore_eos=True)
LONG, SHORT = list(range(40, 60)), [[3, 4, 5], [6, 7]]


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM(policy="orca", max_batch_size=4, max_model_len=64, dtype="float32") as llm:
        yield llm


def short_of_memory(llm: LLM, monkeypatch: pytest.MonkeyPatch, most: int, error: Exception) -> list[int]:
    """From now on no iteration of more than `most` tokens finds memory. Returns the sizes of those that were tried."""
    run, tried = llm.engine.executor.run, list[int]()  # type: ignore[attr-defined]

    def limited(columns: BatchColumns, *rest: Any) -> Any:
        tried.append(sum(columns.counts))
        if tried[-1] > most:
            raise error
        return run(columns, *rest)

    monkeypatch.setattr(llm.engine.executor, "run", limited)
    return tried


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_the_request_with_most_tokens_fails_and_the_others_never_notice(
    llm: LLM, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    alone = [llm.generate(prompt, GREEDY)[0].token_ids for prompt in SHORT]
    tried = short_of_memory(llm, monkeypatch, 5, error)
    with pytest.raises(
        RequestFailed, match=r"1 of 3 requests failed: memory was short .* most tokens \(20\): lower max_batch"
    ) as caught:
        llm.generate([SHORT[0], LONG, SHORT[1]], GREEDY)
    assert tried[:2] == [25, 5], "the batch ran again without the long prompt"
    assert [output.token_ids for output in caught.value.outputs] == [alone[0], (), alone[1]]  # type: ignore[attr-defined]
    assert llm.engine.scheduler.kv.num_free == llm.engine.scheduler.kv.num_blocks


def test_with_no_memory_at_all_every_request_fails_and_the_engine_goes_on(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = llm.generate(SHORT[0], GREEDY)[0].token_ids
    with monkeypatch.context() as patch:
        tried = short_of_memory(llm, patch, 0, MemoryError())
        with pytest.raises(RequestFailed, match="2 of 2 requests failed: memory was short"):
            llm.generate(SHORT, GREEDY)
        assert tried == [5, 2], "one request after the other was given up"
    assert llm.generate(SHORT[0], GREEDY)[0].token_ids == alone


def test_memory_is_given_back_once_results_so_far_are_released(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    short_of_memory(llm, monkeypatch, 5, MemoryError())
    held: list[BaseException | None] = []
    monkeypatch.setattr(llm.engine.executor.link, "free", lambda: held.append(sys.exception()))  # type: ignore[attr-defined]
    with pytest.raises(RequestFailed, match="1 of 2 requests failed: memory was short"):
        llm.generate([LONG, SHORT[0]], GREEDY)
    assert held == [None], "an error holds the frames in which it was raised, and they the tensors"


def broken(link: Link) -> None:
    raise EngineError(f"{link.device} takes no more work")


def test_a_device_that_failed_ends_the_engine_instead_of_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    with LLM(policy="orca", max_batch_size=4, max_model_len=64, dtype="float32") as llm:
        short_of_memory(llm, monkeypatch, 0, RuntimeError("CUDA error: an illegal memory access was encountered"))
        monkeypatch.setattr(Link, "check", broken)
        for _ in range(2):  # and it stays so
            with pytest.raises(EngineError, match="cpu takes no more work"):
                llm.generate(SHORT, GREEDY)


def test_a_link_tells_a_device_that_works_from_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link(torch.device("cuda:0"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    link.check()

    def sticky(device: torch.device) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be ...")

    monkeypatch.setattr(torch.cuda, "synchronize", sticky)
    with pytest.raises(
        EngineError, match=r"^cuda:0 takes no more work \(CUDA error: .* encountered\): the engine cannot go on$"
    ):
        link.check()


def test_another_error_is_not_taken_for_want_of_memory(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = short_of_memory(llm, monkeypatch, 0, RuntimeError("boom"))
    with pytest.raises(RequestFailed, match="2 of 2 requests failed: the iteration failed: RuntimeError: boom"):
        llm.generate(SHORT, GREEDY)
    assert tried == [5]
