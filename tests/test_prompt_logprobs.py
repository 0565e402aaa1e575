"""How likely the prompt was: the log-probabilities of its own tokens, against transformers."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from orcinus import LLM, SamplingParams
from orcinus.errors import RequestError
from orcinus.tiny import MODEL_DIR

TEXT = "What is the capital of France? It is a city on a river, and it is known for its towers and its bread."
ONE = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=2)


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()


@pytest.mark.parametrize("policy", ["orca", "sarathi:chunk_size=7", "stall-free:token_budget=5", "request-level"])
@pytest.mark.parametrize("kv", ["max-length", "prefix-cache"])
def test_they_are_those_of_the_model_however_the_prompt_is_cut(policy: str, kv: str, reference: torch.nn.Module) -> None:
    with LLM(policy=policy, kv=kv, dtype="float32", max_batch_size=4) as llm:
        for _ in range(2):  # the second time the prompt lies in the prefix cache
            output = llm.generate(TEXT, ONE)[0]
    with torch.inference_mode():
        logits = reference(torch.tensor([output.prompt_token_ids])).logits[0]
    expected = logits.log_softmax(-1)
    scores = output.prompt_logprobs
    assert scores is not None
    assert scores[0] is None
    assert len(scores) == len(output.prompt_token_ids)
    for at, (token, score) in enumerate(zip(output.prompt_token_ids[1:], scores[1:], strict=True)):
        assert score is not None
        assert score.logprob == pytest.approx(expected[at, token].item(), abs=1e-4)
        assert score.rank == int((expected[at] > expected[at, token]).sum()) + 1
        assert [value for _, value in score.top] == pytest.approx(expected[at].topk(2).values.tolist(), abs=1e-4)


def test_a_preempted_request_tells_each_token_once() -> None:
    with LLM(kv="paged", num_blocks=10, block_size=16, max_model_len=160, max_batch_size=4, dtype="float32") as llm:
        params = SamplingParams(max_tokens=50, temperature=0, ignore_eos=True, prompt_logprobs=0)
        alone = llm.generate(TEXT, params)[0]
        together = llm.generate([TEXT] * 4, params)
        assert any(one.timeline.preemptions for one in together)
        for one in together:
            assert one.prompt_logprobs is not None
            assert len(one.prompt_logprobs) == len(one.prompt_token_ids)
            assert one.token_ids == alone.token_ids


def test_a_prompt_of_one_token_has_none_to_score() -> None:
    with LLM(dtype="float32") as llm:
        assert llm.generate([[5]], ONE)[0].prompt_logprobs == (None,)
        assert llm.generate("Hi", SamplingParams(max_tokens=1))[0].prompt_logprobs is None


def test_a_count_is_a_count() -> None:
    with pytest.raises(RequestError, match="prompt_logprobs must be a whole number of at least 0"):
        SamplingParams(prompt_logprobs=-1)
