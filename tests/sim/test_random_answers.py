"""Made-up answers: what decides them, when they end, and what they cannot be blamed for."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.batch import Batch, BatchResult, Chunk, Finished, Token
from orcinus.core.component_spec import make_policy
from orcinus.core.engine import Engine
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.policies import POLICIES
from orcinus.core.request import Finish, Request
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.scheduler import Scheduler
from orcinus.core.view import Limits
from orcinus.errors import ConfigError
from orcinus.sim.live import build_live
from orcinus.sim.live_config import LiveConfig
from orcinus.sim.random_answers import AnswerGenerator, Vocabulary, answer_lengths, read_vocabulary
from orcinus.sim.real_time import RealTimeClock, RealTimeExecutor
from orcinus.sim.simulate import set_up
from orcinus.tiny import MODEL_DIR
from tests.seam import row
from tests.sim.test_real_time import Wall
from tests.sim.worlds import LinearCost

END = 1
WORDS = tuple(range(2, 200))
STOPS = {"stop_token_ids": (END,), "max_tokens": 64, "temperature": 1.0}


def generator(length: int = 12) -> AnswerGenerator:
    return AnswerGenerator(Vocabulary(WORDS, END, 200), lambda *_: length)


def answer(
    params: SamplingParams, prompt: tuple[int, ...] = (7, 8, 9), length: int = 12
) -> tuple[list[int], list[BatchResult]]:
    """One request's answer, decode by decode."""
    writer = generator(length)
    writer.begin("r", prompt, params)
    written: list[int] = []
    results = []
    while not written or (written[-1] not in params.stop_token_ids and len(written) < (params.max_tokens or 0)):
        known = (*prompt, *written)
        chunk = Chunk("r", known[-1:], len(known) - 1)
        state = row(known, len(prompt), params).request
        results.append(writer.write(Batch(len(written), (chunk,)), {"r": state}))
        written += results[-1].tokens[0]
    return written, results


def params(**fields: Any) -> SamplingParams:
    return SamplingParams(**STOPS | {"seed": 1} | fields)


def text(**fields: Any) -> list[int]:
    return answer(params(**fields))[0]


@given(
    requests=st.lists(
        st.tuples(st.integers(1, 60), st.integers(0, 3), st.sampled_from((0.0, 1.0)), st.integers(1, 40)),
        min_size=1,
        max_size=9,
    ),
    policy=st.sampled_from(sorted(POLICIES)),
    kv=st.sampled_from(sorted(KV_MANAGERS)),
    depth=st.integers(1, 3),
    budget=st.integers(8, 200),
    blocks=st.integers(7, 40),
)
def test_a_text_depends_on_its_prompt_and_seed_alone(
    requests: list[tuple[int, int, float, int]], policy: str, kv: str, depth: int, budget: int, blocks: int
) -> None:
    """Neighbours, policy, chunks, preemptions and depth change nothing; every answer ends for the reason that is told."""
    submitted = [
        (tuple(range(2, 2 + size)), params(seed=seed, temperature=heat, max_tokens=most)) for size, seed, heat, most in requests
    ]
    if kv == "buddy":  # of 7 blocks it can give one request 4, and 100 tokens are to fit
        blocks = max(blocks, 8)
    texts, ends = serve(submitted, policy, kv, depth, budget, blocks)
    for name, (prompt, asked) in enumerate(submitted):
        alone, _ = answer(asked, prompt)
        assert texts[str(name)] == alone
        assert ends[str(name)] is (Finish.STOP if alone[-1] == END else Finish.LENGTH)


def serve(
    submitted: Sequence[tuple[tuple[int, ...], SamplingParams]], policy: str, kv: str, depth: int, budget: int, blocks: int
) -> tuple[dict[str, list[int]], dict[str, Finish]]:
    """What an engine with a simulated executor answers. The time is the test's."""
    wall, limits = Wall(), Limits(4, budget, 100)
    executor = RealTimeExecutor(LinearCost(2), RealTimeClock(1.0, wall.now, wall.sleep), generator(), depth)
    scheduler = Scheduler(make_policy(policy), KV_MANAGERS[kv](blocks, 16, limits), limits)
    engine = Engine(scheduler, executor, executor.clock)
    texts: dict[str, list[int]] = {}
    ends: dict[str, Finish] = {}
    for name, (prompt, asked) in enumerate(submitted):
        assert engine.submit(Request(str(name), prompt, asked, wall.at)) == []
    while not engine.idle:
        for event in engine.step():
            if isinstance(event, Finished):
                ends[event.request_id] = event.reason
            elif isinstance(event, Token):
                texts.setdefault(event.request_id, []).append(event.token)
    assert engine.dropped_observers == []
    assert executor.generator._answers.keys() == executor.requests.keys(), "an answer that no batch needs is remembered"
    return texts, ends


def test_an_answer_ends_by_itself_at_its_length() -> None:
    assert len(text()) == 12
    assert text()[-1] == END
    assert END not in text()[:-1]


@pytest.mark.parametrize("fields", [{"stop_token_ids": ()}, {"logit_bias": {END: -100}}])
def test_nothing_ends_an_answer_whose_end_is_not_wanted(fields: dict[str, Any]) -> None:
    assert len(text(**fields)) == 64
    assert END not in text(**fields)


def test_min_tokens_come_before_any_end() -> None:
    banned = text(max_tokens=5)[2]
    early = text(stop_token_ids=(END, banned))
    assert early.index(banned) == len(early) - 1 <= 2
    late = text(stop_token_ids=(END, banned), min_tokens=20)
    assert len(late) > 20
    assert not {END, banned} & set(late[:20])


def test_equal_seeds_repeat_a_text_and_greedy_ones_need_none() -> None:
    assert text(seed=1) == text(seed=1) != text(seed=2)
    for greedy in ({"temperature": 0}, {"top_k": 1}, {"top_p": 1e-6}):
        assert text(seed=1, **greedy) == text(seed=2, temperature=0)
    assert answer(params(), (7, 8))[0] != answer(params(), (7, 9))[0]


def test_a_bias_of_100_forces_and_forbids() -> None:
    first = text()[0]
    assert first not in text(logit_bias={first: -100})
    assert set(text(logit_bias={50: 100}, max_tokens=5)) == {50}
    assert text(logit_bias={50: 99}) == text()


def test_only_allowed_tokens_come() -> None:
    assert set(text(allowed_token_ids=(3, 5))) == {3, 5}, "the end is not among them"
    assert len(text(allowed_token_ids=(3, 5))) == 64
    assert len(text(allowed_token_ids=(3, 5, END), stop_token_ids=(END,), max_tokens=64)) <= 12
    assert set(text(allowed_token_ids=(3, 5), logit_bias={7: 100}, max_tokens=9)) == {3, 5}
    assert set(text(allowed_token_ids=(3, 5), logit_bias={5: 100}, max_tokens=9)) == {5}


def test_bad_words_do_not_come() -> None:
    plain = text(stop_token_ids=())
    once, pair = plain[0], tuple(plain[1:3])
    changed = text(stop_token_ids=(), bad_words_token_ids=((once,), pair))
    assert once not in changed
    assert pair not in set(zip(changed, changed[1:], strict=False))
    assert len(text(bad_words_token_ids=((END,),))) == 64


def test_a_request_that_forbids_every_token_fails() -> None:
    forbidding = params(allowed_token_ids=(3,), bad_words_token_ids=((3,),))
    texts, ends = serve([((7, 8), forbidding), ((7, 8), params())], "orca", "paged", 1, 100, 20)
    assert ends == {"0": Finish.FAILED, "1": Finish.STOP}
    assert list(texts) == ["1"]


@pytest.mark.parametrize("penalty", [{"presence_penalty": 0.1}, {"frequency_penalty": 2}, {"repetition_penalty": 1.1}])
def test_under_a_penalty_no_word_comes_twice(penalty: dict[str, float]) -> None:
    plain, changed = (text(stop_token_ids=(), **more) for more in ({}, penalty))
    assert len(set(changed)) == len(changed)
    assert len(set(plain)) < len(plain)


@pytest.mark.parametrize("count", [0, 3])
def test_log_probabilities_are_those_of_a_model_that_knows_nothing(count: int) -> None:
    written, results = answer(params(logprobs=count))
    for token, result in zip(written, results, strict=True):
        assert result.logprobs is not None
        ((found,),) = result.logprobs
        assert (found.logprob, found.rank) == (-math.log(200), 1)
        assert [value for _, value in found.top] == [found.logprob] * count
        assert len({other for other, _ in found.top}) == count
        assert not count or found.top[0][0] == token
    assert answer(params())[1][0].logprobs is None


def test_a_prompt_that_is_scored_has_an_entry_for_every_token_but_the_first() -> None:
    prompt, asked = (7, 8, 9, 10), params(prompt_logprobs=1)
    writer = generator()
    writer.begin("r", prompt, asked)
    chunks = [Chunk("r", prompt[a:b], a, drafts=0 if b == 4 else None) for a, b in ((0, 2), (2, 4))]
    known = {"r": row(prompt, 4, asked).request}
    scored = [writer.write(Batch(0, (chunk,)), known).prompt_logprobs[0] for chunk in chunks]
    assert [one.top[0][0] for part in scored for one in part] == [8, 9, 10]


def test_the_bundled_tokenizer_has_words_and_an_end() -> None:
    from orcinus.text.tokenizer import load_tokenizer

    tokenizer, found = load_tokenizer(MODEL_DIR), read_vocabulary(MODEL_DIR)
    assert tokenizer is not None
    assert found.end in tokenizer.eos_ids
    assert len(set(found.words)) > 300
    for token in set(found.words):
        written = tokenizer.decode([token])
        assert written in ",." or (written[0] == " " and written[1:].isalpha() and len(written) > 5)


def test_lengths_are_spelled_as_in_a_workload() -> None:
    assert answer_lengths("fixed:tokens=30")(0.1, 0.9) == 30
    assert answer_lengths("pd:length=100:ratio=4")(0.1, 0.9) == 20
    shares = [share / 1000 for share in range(1, 1000)]
    drawn = sorted(answer_lengths("sharegpt")(1 - share, share) for share in shares)
    assert drawn[0] >= 1
    assert (drawn[499], drawn[899]) == (pytest.approx(415, rel=0.1), pytest.approx(834, rel=0.1))  # Sarathi-Serve, table 2


@pytest.mark.parametrize("spelled", ["nothing", "fixed", "fixed:tokens=0", "trace:file=nowhere.csv"])
def test_lengths_that_make_no_sense_are_refused(spelled: str) -> None:
    with pytest.raises(ConfigError):
        answer_lengths(spelled)


def test_memory_and_limits_are_those_of_a_simulation(tmp_path: Path) -> None:
    config = LiveConfig(model="gpt3-175b", device="a100-40g", tp=8, pp=2, record=tmp_path / "steps.jsonl")
    setup = set_up(config)
    engine, executor = build_live(config, MODEL_DIR)
    assert engine.scheduler.kv.num_blocks == setup.machine.num_blocks
    assert engine.scheduler.limits == setup.machine.limits
    assert executor.depth == 2
    assert build_live(LiveConfig(model="llama-7b", in_flight=3), MODEL_DIR)[1].depth == 3
    assert build_live(LiveConfig(model="llama-7b", paper="fastertransformer"), MODEL_DIR)[1].slots > 1
    engine.close()
    assert json.loads((tmp_path / "steps.jsonl").read_text().splitlines()[0])["depth"] == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"speed": 0}, "speed must be a number above 0"),
        ({"speed": math.inf}, "speed must be a number above 0"),
        ({"replicas": 2}, "it is one of the server's replicas"),
        ({"arrivals": "all-at-once"}, "arrivals has no place"),
        ({"max_batch_size": 0}, "max_batch_size must be a whole number"),
    ],
)
def test_what_cannot_be_served_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LiveConfig(**fields)
