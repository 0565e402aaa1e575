"""What the executor of a real model keeps: applied once, equal to a rebuild, and good for several tokens a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from orcinus import LLM, SamplingParams
from orcinus.core.batch import NewRequest
from orcinus.core.executor_state import RequestState, RequestStates
from orcinus.core.request import Request
from orcinus.errors import RequestFailed
from tests.product import part

GREEDY = SamplingParams(max_tokens=8, temperature=0, ignore_eos=True)
PENALISED = SamplingParams(max_tokens=8, temperature=0, ignore_eos=True, repetition_penalty=1.3, frequency_penalty=0.4)
DRAWN = SamplingParams(max_tokens=8, temperature=0.9, seed=5, top_p=0.9, ignore_eos=True, logprobs=1)
PROMPTS = [[3, 4, 5, 9], list(range(20, 40)), [6, 7], list(range(40, 60))]


def made(**config: Any) -> LLM:
    options = {"policy": "orca", "max_batch_size": 4, "max_model_len": 64, "dtype": "float32", "kv": "paged"}
    return LLM(**options | {"block_size": 4, "attention": "reference"} | config)


def audited(llm: LLM) -> list[int]:
    """From now on, compare what the executor keeps with a rebuild after every result. Returns the numbers of requests."""
    engine, seen = llm.engine, list[int]()
    settle = engine.settle
    states: RequestStates = engine.executor.requests  # type: ignore[attr-defined]

    def checked() -> Any:
        events = settle()
        live = [one for one in engine.scheduler._requests.values() if one.sent is not None and not one.finish]
        for one in live:
            assert one.sent is not None
            new = NewRequest(one.id, one.prompt, tuple(one.output), one.params, one.context, one.sent)
            rebuilt, kept = RequestState.of(new), states[one.id]
            assert (kept.tokens, kept.blocks, kept.params) == (rebuilt.tokens, rebuilt.blocks, rebuilt.params)
            pairs = [dict(zip(each.counts.ids, each.counts.generated, strict=True)) for each in (kept, rebuilt)]
            assert pairs[0] == pairs[1]
        seen.append(len(live))
        return events

    engine.settle = checked  # type: ignore[method-assign]
    return seen


CONFIGS = part({"kv": "prefix-cache", "num_blocks": 20}, {"policy": "sarathi:chunk_size=4"}, full=[{}, {"num_blocks": 20}])


@pytest.mark.parametrize("config", CONFIGS)
def test_it_is_equal_to_a_rebuild_after_every_iteration(config: dict[str, Any]) -> None:
    """Under preemption, prefix hits, chunks, penalties, and several answers to a prompt."""
    with made(**config) as llm:
        alone = [llm.generate(prompt, params)[0].token_ids for params in (GREEDY, PENALISED) for prompt in PROMPTS]
        seen = audited(llm)
        together = llm.generate([*PROMPTS, *PROMPTS], [GREEDY] * 4 + [PENALISED] * 4)
        assert [output.token_ids for output in together] == alone
        llm.generate(PROMPTS[1], SamplingParams(n=3, max_tokens=5, seed=1, ignore_eos=True))
        assert max(seen) > 1


def failing_once(call: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    errors = [error]

    def failing(*args: Any, **options: Any) -> Any:
        if errors:
            raise errors.pop()
        return call(*args, **options)

    return failing


def test_a_batch_that_is_launched_again_for_want_of_memory_is_applied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with made() as llm:
        alone = [llm.generate(prompt, PENALISED)[0].token_ids for prompt in PROMPTS[:3]]
        audited(llm)
        executor: Any = llm.engine.executor
        monkeypatch.setattr(executor, "run", failing_once(executor.run, torch.OutOfMemoryError("short")))
        with pytest.raises(RequestFailed, match="1 of 3") as caught:
            llm.generate(PROMPTS[:3], PENALISED)
        tokens = [output.token_ids for output in caught.value.outputs]  # type: ignore[attr-defined]
        assert tokens == [alone[0], (), alone[2]]


def test_an_interrupted_collect_leaves_the_batch_and_what_is_known_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    with made() as llm:
        alone = llm.generate(PROMPTS[0], PENALISED)[0].token_ids
        audited(llm)
        executor: Any = llm.engine.executor
        llm.engine.submit(Request("r", tuple(PROMPTS[0]), PENALISED, 0.0))
        monkeypatch.setattr(executor, "_read", failing_once(executor._read, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            llm.engine.step()
        tokens = []
        while not llm.engine.idle:
            tokens += [event.token for event in llm.engine.step() if hasattr(event, "token")]
        assert tuple(tokens) == alone


def test_a_launch_that_raises_fails_its_requests_and_the_next_are_met_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    with made() as llm:
        alone = llm.generate(PROMPTS[1], PENALISED)[0].token_ids
        audited(llm)
        executor: Any = llm.engine.executor
        monkeypatch.setattr(executor, "run", failing_once(executor.run, RuntimeError("boom")))
        with pytest.raises(RequestFailed, match="the iteration failed: RuntimeError: boom"):
            llm.generate(PROMPTS[:2], PENALISED)
        assert llm.generate(PROMPTS[1], PENALISED)[0].token_ids == alone
        assert set(executor.requests) == {"r3"} or len(executor.requests) == 1, "the failed ones were removed"


def test_a_new_request_whose_first_row_fails_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    with made() as llm:
        forbidden = SamplingParams(max_tokens=4, min_tokens=4, stop_token_ids=tuple(range(llm.resolved.vocab_size)))
        audited(llm)
        llm.engine.submit(Request("bad", (3, 4), forbidden, 0.0))
        llm.engine.submit(Request("good", (5, 6), GREEDY, 0.0))
        ends = {}
        while not llm.engine.idle:
            ends |= {event.request_id: event.code for event in llm.engine.step() if not hasattr(event, "token")}
        assert ends == {"bad": "all_forbidden", "good": None}
        assert list(llm.engine.executor.requests) == ["good"]  # type: ignore[attr-defined]


class Oracle:
    """Guesses the tokens of earlier answers to the same prompts, every third of them wrong."""

    def __init__(self, answers: dict[tuple[int, ...], tuple[int, ...]]) -> None:
        self.answers, self.guessed = answers, 0

    def draft(self, request: Request, most: int) -> tuple[int, ...]:
        known = len(request.output)
        guesses = list(self.answers[request.prompt][known : known + min(most, 3)])
        if len(guesses) == 3:
            guesses[2] += 1
        self.guessed += len(guesses)
        return tuple(guesses)


@pytest.mark.parametrize("params", [GREEDY, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize("policy", ["orca", "sarathi:chunk_size=16", "stall-free:token_budget=16"])
def test_verified_drafts_of_a_real_model_change_no_token_and_save_iterations(policy: str, params: SamplingParams) -> None:
    with made(policy=policy) as llm:
        outputs = llm.generate(PROMPTS, params)
        batches = llm.engine.scheduler._last_batch
        drafter = Oracle({tuple(prompt): one.token_ids for prompt, one in zip(PROMPTS, outputs, strict=True)})
        llm.engine.scheduler.drafter = drafter
        audited(llm)
        again = llm.generate(PROMPTS, params)
        assert [one.token_ids for one in again] == [one.token_ids for one in outputs]
        assert drafter.guessed > 10
        assert llm.engine.scheduler._last_batch - batches < batches
        for one, other in zip(again, outputs, strict=True):
            assert (one.logprobs is None) == (other.logprobs is None)
            assert one.logprobs is None or len(one.logprobs) == len(one.token_ids)


def test_a_row_that_fails_behind_a_draft_costs_nothing_before_it() -> None:
    """Its token holds, and what comes behind is drawn again in the next iteration."""
    with made() as llm:
        (output,) = llm.generate(PROMPTS[0], GREEDY)
        llm.engine.scheduler.drafter = Oracle({tuple(PROMPTS[0]): output.token_ids})
        executor: Any = llm.engine.executor
        logits, poisoned = executor.model.logits, list[int]()

        def poisoning(hidden: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = logits(hidden)
            if len(found) > 2 and not poisoned:
                poisoned.append(len(found))
                found[1] = torch.nan
            return found

        executor.model.logits = poisoning
        audited(llm)
        assert llm.generate(PROMPTS[0], GREEDY)[0].token_ids == output.token_ids
        assert poisoned
