"""The Python API, as a user of vLLM would try it, on the bundled model."""

from __future__ import annotations

import gc
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orcinus import LLM, SamplingParams
from orcinus.core.component_spec import make_order, make_policy, spell
from orcinus.core.policies import RequestLevel
from orcinus.core.unserved import Reason
from orcinus.errors import ConfigError, ModelError, RequestError, RequestFailed
from orcinus.observe.recorder import read_lines
from orcinus.observe.replay import replay
from orcinus.observe.slots import SlotObserver
from orcinus.text.tokenizer import ChatIds
from orcinus.tiny import MODEL_DIR

GREEDY = SamplingParams(max_tokens=8, temperature=0, ignore_eos=True)


@pytest.fixture(scope="module")
def shared() -> Iterator[LLM]:
    with LLM(max_batch_size=4, kv="paged", dtype="float32") as llm:
        yield llm


@pytest.fixture
def llm(shared: LLM) -> Iterator[LLM]:
    """An engine that must be clean after every test."""
    yield shared
    assert shared.engine.idle, "a request stayed behind"
    assert shared.engine.scheduler.kv.num_free == shared.resolved.num_blocks, "blocks leaked"
    assert not shared._readers


def test_outputs_come_in_order_with_text_tokens_reason_and_times(llm: LLM) -> None:
    params = [SamplingParams(max_tokens=n, temperature=0, ignore_eos=True) for n in (9, 2, 5)]
    outputs = llm.generate(["Once upon a time", [5, 6, 7], "Hello"], params)
    assert [len(output.token_ids) for output in outputs] == [9, 2, 5]
    assert [output.prompt for output in outputs] == ["Once upon a time", None, "Hello"]
    assert {output.finish_reason for output in outputs} == {"length"}
    for output in outputs:
        times = output.metrics
        assert times.first_token is not None
        assert times.finished is not None
        assert times.arrival <= times.first_token <= times.finished
        assert llm.tokenizer is not None
        assert output.text == llm.tokenizer.decode(output.token_ids)


@pytest.fixture
def weights_alone(tmp_path: Path) -> Path:
    """A folder with the bundled model, without its tokenizer and its sampling parameters."""
    folder = tmp_path / "model"
    shutil.copytree(MODEL_DIR, folder, ignore=shutil.ignore_patterns("tokenizer*", "generation_config.json"))
    return folder


def test_without_parameters_the_model_s_own_are_used(weights_alone: Path, llm: LLM) -> None:
    assert llm.default_params.temperature == 0.7  # as the bundled model's generation_config.json says
    assert 0 < len(llm.generate("Hi")[0].token_ids) <= 256
    file = weights_alone / "generation_config.json"
    file.write_text('{"temperature": 0.0, "max_new_tokens": 3}')
    with LLM(weights_alone, dtype="float32") as greedy:
        first, second = greedy.generate([[5, 6, 7]] * 2)
    assert len(first.token_ids) <= 3
    assert first.token_ids == second.token_ids
    file.write_text('{"top_p": 7}')
    with pytest.raises(ModelError, match=r"generation_config.json .* top_p must be above 0"):
        LLM(weights_alone, dtype="float32")


def test_a_misspelled_option_says_what_was_meant() -> None:
    with pytest.raises(ConfigError, match="unknown option 'modle': did you mean model"):
        LLM(modle="x")
    with pytest.raises(ConfigError, match="unknown option 'zzz': choose among model, revision, policy"):
        LLM(zzz=1)


def test_a_single_prompt_is_a_list_of_one(llm: LLM) -> None:
    assert llm.generate("Hello", GREEDY)[0].token_ids == llm.generate(["Hello"], GREEDY)[0].token_ids
    assert llm.generate([5, 6], GREEDY)[0].token_ids == llm.generate([[5, 6]], GREEDY)[0].token_ids


def test_chat_answers_one_conversation_or_several(llm: LLM) -> None:
    one = [{"role": "user", "content": "Hi"}]
    two = [*one, {"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "Thanks"}]
    params = SamplingParams(max_tokens=60, temperature=0)
    several = llm.chat([one, two], params)
    assert several[0].text == llm.chat(one, params)[0].text
    assert several[0].finish_reason == "stop"
    assert llm.tokenizer is not None
    assert several[0].token_ids[-1] in llm.tokenizer.eos_ids
    assert "<|" not in several[0].text


def test_streaming_gives_one_piece_per_token_and_the_same_text(llm: LLM) -> None:
    prompts = ["Once upon a time", "Hello"]
    whole = llm.generate(prompts, GREEDY)
    pieces = list(llm.stream(prompts, GREEDY))
    for index, output in enumerate(whole):
        mine = [piece for piece in pieces if piece.index == index]
        assert [piece.token_id for piece in mine] == list(output.token_ids)
        assert "".join(piece.text for piece in mine) == output.text
        assert [piece.finish_reason for piece in mine] == [None] * 7 + ["length"]
        assert len({piece.request_id for piece in mine}) == 1


def test_a_stop_string_ends_the_request_early_in_the_engine_too(llm: LLM) -> None:
    free = llm.generate("Once upon a time", SamplingParams(max_tokens=30, temperature=0))[0]
    word = free.text.split()[3]
    stopped = llm.generate("Once upon a time", SamplingParams(max_tokens=30, temperature=0, stop=word))[0]
    assert stopped.finish_reason == "stop"
    assert stopped.text == free.text[: free.text.index(word)]
    assert len(stopped.token_ids) < len(free.token_ids)


def test_logprobs_come_for_every_token(llm: LLM) -> None:
    (output,) = llm.generate("Hello", SamplingParams(max_tokens=4, temperature=0, logprobs=3))
    assert output.logprobs is not None
    assert len(output.logprobs) == len(output.token_ids)
    assert all(
        position.rank == 1 and position.top[0][0] == token
        for position, token in zip(output.logprobs, output.token_ids, strict=True)
    )
    assert llm.generate("Hello", GREEDY)[0].logprobs is None


def test_a_seed_gives_the_same_text_in_any_company(llm: LLM) -> None:
    params = SamplingParams(max_tokens=20, temperature=1.2, seed=11, ignore_eos=True)
    alone = llm.generate("Once upon a time", params)[0].token_ids
    others = [SamplingParams(max_tokens=n, temperature=1.0, ignore_eos=True) for n in (3, 15, 25)]
    crowd = llm.generate(["Hi", "Once upon a time", "One", "Two words"], [others[0], params, *others[1:]])
    assert crowd[1].token_ids == alone
    other = SamplingParams(max_tokens=20, temperature=1.2, seed=12, ignore_eos=True)
    assert llm.generate("Once upon a time", other)[0].token_ids != alone


def test_an_engine_seed_repeats_a_whole_run() -> None:
    texts = []
    for seed in (1, 1, 2):
        with LLM(seed=seed, max_model_len=128) as fresh:
            texts.append(
                [output.text for output in fresh.generate(["Once", "Once"], SamplingParams(max_tokens=12, temperature=1.5))]
            )
    assert texts[0] == texts[1] != texts[2]
    assert texts[0][0] != texts[0][1]


def test_max_tokens_none_fills_the_context(llm: LLM) -> None:
    with LLM(max_model_len=40) as small:
        (output,) = small.generate([[5] * 10], SamplingParams(max_tokens=None, temperature=0, ignore_eos=True))
    assert len(output.token_ids) == 30


@pytest.mark.parametrize("leave", ["close", "drop", "raise"])
def test_a_reader_that_goes_away_leaves_no_request_behind(llm: LLM, leave: str) -> None:
    stream = llm.stream(["Once upon a time", "Hello"], SamplingParams(max_tokens=500, ignore_eos=True))
    next(stream)
    assert not llm.engine.idle
    if leave == "close":
        stream.close()  # type: ignore[attr-defined]
    elif leave == "drop":
        del stream
        gc.collect()
    else:

        def consume(pieces: Iterator[Any]) -> None:
            for _ in pieces:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            consume(stream)
        del stream
    assert llm.engine.idle


def test_a_stream_that_is_never_read_submits_nothing(llm: LLM) -> None:
    stream = llm.stream("Hello", GREEDY)
    assert llm.engine.idle
    del stream


def test_two_streams_may_be_read_in_turn(llm: LLM) -> None:
    expected = [list(output.token_ids) for output in llm.generate(["Once upon a time", "Hello"], GREEDY)]
    first, second = llm.stream("Once upon a time", GREEDY), llm.stream("Hello", GREEDY)
    read = [(one.token_id, two.token_id) for one, two in zip(first, second, strict=True)]
    assert [list(tokens) for tokens in zip(*read, strict=True)] == expected


def test_threads_share_the_engine(llm: LLM) -> None:
    prompts = [f"Number {index}" for index in range(8)]
    expected = [llm.generate(prompt, GREEDY)[0].token_ids for prompt in prompts]
    results: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda i=i: results.update({i: llm.generate(prompts[i], GREEDY)[0].token_ids}))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[index] for index in range(8)] == expected


@pytest.mark.parametrize(
    ("prompts", "params", "message"),
    [
        ("", None, "prompt is empty"),
        ([[]], None, "prompt is empty"),
        (["fine", ""], None, "prompt 1: the prompt is empty"),
        ([[1, -1]], None, "prompt token 1 is -1"),
        ([[10**9]], None, "prompt token 0 is 1000000000"),
        ([[1, "a"]], None, "prompt token 1 is 'a'"),
        ([[1] * 3000], None, "the prompt has 3000 tokens, and the model length of 2048"),
        ("x", SamplingParams(max_tokens=2048), "exceed the model length"),
        ("x", SamplingParams(stop_token_ids=(10**7,)), "stop token 0"),
        ("x", SamplingParams(logit_bias={10**7: 1.0}), "logit_bias token 0"),
        ("x", SamplingParams(allowed_token_ids=(5, 6, 2048)), "allowed token 2 is 2048"),
        ("x", SamplingParams(bad_words_token_ids=((5,), (6, 2048))), r"bad_words_token_ids\[1\]: token 1 is 2048"),
        ("x", SamplingParams(allowed_token_ids=(5,), bad_words_token_ids=((5,),)), "nothing can be generated"),
        ("x", SamplingParams(allowed_token_ids=(5,), stop_token_ids=(5,), min_tokens=1), "nothing can be generated"),
        ("x", SamplingParams(bad_words=("fine", "\ud800")), "surrogate"),
        (["x", "y"], [SamplingParams()], "2 prompts but 1 sampling parameters"),
        ("\ud800", None, "surrogate"),
        (None, None, "prompts must be a string"),
        ({"prompt": "x"}, None, "prompts must be a string"),
        ([1.5], None, "a prompt must be a string or a list"),
        ("x", {"max_tokens": 1}, "params must be SamplingParams"),
        (["x", "y"], [SamplingParams(), None], "params must be SamplingParams"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(llm: LLM, prompts: Any, params: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        llm.generate(prompts, params)
    with pytest.raises(RequestError, match=message):
        llm.stream(prompts, params)
    assert llm.generate("Hello", GREEDY)[0].finish_reason == "length"


def test_a_prompt_that_never_fits_the_pool_is_refused() -> None:
    with LLM(num_blocks=8, block_size=16) as small, pytest.raises(RequestError, match="never fit the K/V pool of 128 tokens"):
        small.generate([[1] * 100], SamplingParams(max_tokens=64))


def test_token_ids_may_come_from_numpy_and_torch(llm: LLM) -> None:
    plain = llm.generate([[5, 6]], GREEDY)[0].token_ids
    for prompt in (np.array([5, 6]), torch.tensor([5, 6]), (5, 6)):
        assert llm.generate(prompt, GREEDY)[0].token_ids == plain  # type: ignore[arg-type]
        assert llm.generate([prompt], GREEDY)[0].token_ids == plain  # type: ignore[list-item]


def test_a_refused_call_takes_no_seed_from_the_next() -> None:
    params = SamplingParams(max_tokens=6, temperature=1.5)
    with LLM(seed=3, max_model_len=64) as first, LLM(seed=3, max_model_len=64) as second:
        with pytest.raises(RequestError):
            first.generate(["a", ""], params)
        texts = [[output.text for output in llm.generate(["a", "b"], params)] for llm in (first, second)]
    assert texts[0] == texts[1]


def test_arrival_is_when_a_request_enters_the_engine_not_when_it_was_prepared() -> None:
    slots = SlotObserver(1)
    with LLM(max_batch_size=1, kv="paged", max_model_len=64, observers=[slots]) as llm:
        prepared_first, entered_first = llm.stream([[3, 4]], GREEDY), llm.stream([[5, 6]], GREEDY)
        next(entered_first)
        list(prepared_first)
        list(entered_first)
        assert llm.engine.dropped_observers == []
    order = [column[0].request_id for column in slots.columns if column[0]]
    assert order == ["r1"] * 8 + ["r2"] * 8  # numbered as they entered


def test_a_closed_engine_says_so() -> None:
    llm = LLM(max_model_len=64)
    llm.close()
    with pytest.raises(RequestError, match="closed"):
        llm.generate("Hello")


def test_no_prompts_no_outputs(llm: LLM) -> None:
    assert llm.generate([]) == []


def test_logits_that_are_not_numbers_fail_their_request_and_no_other(llm: LLM) -> None:
    clean = llm.generate("Hello", GREEDY)[0].token_ids
    assert llm.tokenizer is not None
    poisoned = next(token for token in range(300, 400) if token not in llm.tokenizer.encode("Hello"))
    forward = llm.engine.executor.model.forward  # type: ignore[attr-defined]

    def poisoning(batches: Any, *others: Any) -> torch.Tensor:
        hidden: torch.Tensor = forward(batches, *others)
        (batch,) = batches
        whole = len(hidden) == len(batch.tokens)  # or it has the sampled rows alone
        for place, sampled in enumerate(batch.sample_rows.tolist()):
            if batch.tokens[sampled] == poisoned:
                hidden[sampled if whole else place] = torch.nan
        return hidden

    llm.engine.executor.model.forward = poisoning  # type: ignore[attr-defined]
    try:
        with pytest.raises(RequestFailed, match="1 of 2 requests failed: its logits are not finite") as caught:
            llm.generate([[poisoned], "Hello"], GREEDY)
    finally:
        llm.engine.executor.model.forward = forward  # type: ignore[attr-defined]
    failed, innocent = caught.value.outputs
    assert failed.finish_reason == "failed"  # type: ignore[attr-defined]
    assert innocent.token_ids == clean  # type: ignore[attr-defined]


def test_an_iteration_that_raises_fails_its_requests_and_the_engine_goes_on(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = llm.generate("Hello", GREEDY)[0].token_ids

    def explode(*_: Any) -> None:
        raise RuntimeError("boom\nsecond line")

    with monkeypatch.context() as patch:
        patch.setattr(llm.engine.executor, "run", explode)
        with pytest.raises(RequestFailed, match="the iteration failed: RuntimeError: boom$"):
            llm.generate(["Hello"], GREEDY)
    assert llm.generate("Hello", GREEDY)[0].token_ids == clean


def test_ctrl_c_in_the_middle_of_an_iteration_leaves_nothing_behind(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = llm.generate("Hello", GREEDY)[0].token_ids
    run, calls = llm.engine.executor.run, []  # type: ignore[attr-defined]

    def interrupted(*batch: Any) -> Any:
        calls.append(batch)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run(*batch)

    with monkeypatch.context() as patch:
        patch.setattr(llm.engine.executor, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            llm.generate(["Hello", "Hi"], GREEDY)
    assert not llm._readers
    assert llm.generate("Hello", GREEDY)[0].token_ids == clean


@pytest.fixture
def alarm_is_ctrl_c() -> Iterator[None]:
    """A timer's signal is passed on as the one that Ctrl-C sends."""
    previous = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    yield
    signal.signal(signal.SIGALRM, previous)


def test_ctrl_c_at_any_moment_leaves_nothing_behind(llm: LLM, alarm_is_ctrl_c: None) -> None:
    """Real signals, at moments that differ: whatever they interrupt, the engine is whole afterwards."""
    clean = llm.generate("Hello", GREEDY)[0].token_ids
    params, interrupted = SamplingParams(max_tokens=1500, ignore_eos=True), 0
    for attempt in range(40):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.002 + 0.0023 * attempt)
            for _ in llm.stream(["Hello", "Hi", [7] * 40], params):
                pass
        except KeyboardInterrupt:
            interrupted += 1
    assert interrupted == 40
    assert llm.generate("Hello", GREEDY)[0].token_ids == clean


def test_a_policy_may_be_given_as_an_object() -> None:
    with LLM(policy=RequestLevel(release="each"), max_model_len=64) as llm:
        assert llm.generate("Hello", GREEDY)[0].finish_reason == "length"


def test_a_model_without_a_tokenizer_serves_ids(weights_alone: Path) -> None:
    with LLM(weights_alone, max_model_len=40, dtype="float32") as llm:
        (output,) = llm.generate([[1, 2, 3]], GREEDY)
        assert (output.text, len(output.token_ids)) == ("", 8)
        with pytest.raises(RequestError, match="no tokenizer: give prompts as token ids"):
            llm.generate("Hello")
        with pytest.raises(RequestError, match="no tokenizer"):
            llm.chat([{"role": "user", "content": "Hi"}])
        with pytest.raises(RequestError, match="stop strings cannot be found"):
            llm.generate([[1]], SamplingParams(stop="x"))
        with pytest.raises(RequestError, match="use bad_words_token_ids"):
            llm.generate([[1]], SamplingParams(bad_words=("x",)))
        first = output.token_ids[0]
        assert llm.generate([[1, 2, 3]], replace(GREEDY, bad_words_token_ids=((first,),)))[0].token_ids[0] != first


def test_a_progress_bar_on_request(llm: LLM, capsys: pytest.CaptureFixture[str]) -> None:
    llm.generate(["Hello", "Hi"], GREEDY, progress=True)
    assert "2/2" in capsys.readouterr().err
    llm.generate(["Hello", "Hi"], GREEDY)
    assert capsys.readouterr().err == ""


def test_the_timeline_of_a_request_tells_where_its_time_went(llm: LLM) -> None:
    first, second = llm.generate(["Once upon a time", "Hello"], GREEDY)
    for output in (first, second):
        timeline = output.timeline
        assert sum(timeline.seconds.values()) == pytest.approx(output.metrics.e2e)
        assert (timeline.prefill_iterations, timeline.decode_iterations) == (1, 7)
        assert llm.timeline(output.request_id) is timeline
    with pytest.raises(RequestError, match="there is no timeline of 'nobody'"):
        llm.timeline("nobody")


def test_a_full_batch_is_why_the_last_ones_wait(llm: LLM) -> None:
    outputs = llm.generate(["Hello"] * 6, GREEDY)
    assert [set(output.timeline.waits) for output in outputs] == [set()] * 4 + [{Reason.BATCH_FULL}] * 2


def test_a_recorded_run_is_replayed_decision_by_decision(tmp_path: Path) -> None:
    file = tmp_path / "steps.jsonl"
    with LLM(policy="stall-free:token_budget=24", kv="prefix-cache", max_batch_size=3, record=file) as llm:
        events = llm.stream(["Once upon a time there was a fox", "Hi", "Once upon a time there was a bear"], GREEDY)
        next(events)
        llm.engine.use(make_policy("latency-target:tbt=0.01"), make_order("fair"))
        next(events)
        events.close()
        llm.generate(["Hello"] * 5, SamplingParams(max_tokens=9, stop=["e"]))
    done = replay(read_lines(file))
    assert done.requests == 8
    assert done.batches > 5


def test_prompts_that_begin_alike_share_blocks_and_no_token_changes() -> None:
    system = "You are a helpful assistant who explains how language models are served, in plain words. " * 3
    prompts = [system + question for question in ("What is a batch?", "What is a token?", "What is a batch?")]
    with LLM(kv="paged", dtype="float32") as plain:
        expected = [output.token_ids for output in plain.generate(prompts, GREEDY)]
    with LLM(kv="prefix-cache", dtype="float32") as llm:
        together = llm.generate(prompts, GREEDY)
        again = llm.generate(prompts, GREEDY)
        apart = llm.generate(prompts, GREEDY, cache_salt=["a", "b", "c"])
    assert [output.token_ids for output in together] == [output.token_ids for output in again] == expected
    assert [output.token_ids for output in apart] == expected
    assert [output.timeline.cached_tokens > 40 for output in together] == [False, True, True]
    assert all(output.timeline.cached_tokens > 40 for output in again)
    assert [output.timeline.cached_tokens for output in apart] == [0, 0, 0]


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({"priority": 1.5}, "priority must be a whole number"),
        ({"priority": [1, 2]}, "1 prompts but 2 values of priority"),
        ({"client": 7}, "client must be a string"),
        ({"cache_salt": None}, "cache_salt must be a string"),
        ({"prioritty": 1}, "there is no argument 'prioritty'"),
    ],
)
def test_bad_context_is_refused(llm: LLM, context: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        llm.generate("Hi", GREEDY, **context)


def test_urgent_requests_go_first_if_the_order_says_so() -> None:
    with LLM(order="priority", max_batch_size=1) as llm:
        pieces = llm.stream(["Hello"] * 3, GREEDY, priority=[0, 5, -5])
        ends = [piece.index for piece in pieces if piece.finish_reason]
    assert ends == [2, 0, 1]


def test_n_answers_to_a_prompt_share_its_blocks_and_differ_by_their_seeds() -> None:
    prompt, params = (
        "Once upon a time there was a fox who lived in a small house by the sea",
        SamplingParams(n=4, max_tokens=8, seed=5),
    )
    with LLM(kv="prefix-cache", dtype="float32") as llm:
        (output,) = llm.generate(prompt, params)
        alone = [llm.generate(prompt, SamplingParams(max_tokens=8, seed=5 + k))[0].token_ids for k in range(4)]
        pieces = list(llm.stream(["Hi", prompt], params))
    assert [one.token_ids for one in output.outputs] == alone
    assert len(set(alone)) > 1
    assert output.token_ids == output.outputs[0].token_ids
    assert [one.timeline.cached_tokens > 0 for one in output.outputs] == [False, True, True, True]
    assert {(piece.index, piece.choice) for piece in pieces} == {(i, k) for i in range(2) for k in range(4)}


def test_a_paper_stands_for_its_policy_and_manager() -> None:
    with LLM(paper="orca") as llm:
        assert (spell(llm.resolved.policy), llm.resolved.kv) == ("orca", "reservation")
    with pytest.raises(ConfigError, match="paper 'orca' says which kv to use"):
        LLM(paper="orca", kv="paged")
    with pytest.raises(ConfigError, match="unknown paper 'bert': choose fastertransformer, orca"):
        LLM(paper="bert")


def test_a_chat_has_reasoning_apart_from_the_text(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]
    plain = llm.chat(messages, GREEDY)[0]  # type: ignore[arg-type]
    assert plain.reasoning == ""
    encode = llm.encode_chat

    def thinking(conversation: Any, *tools: Any) -> ChatIds:
        ids = ChatIds(encode(conversation, *tools))
        ids.thinking = True  # as if the template had ended with <think>, which this model never closes
        return ids

    monkeypatch.setattr(llm, "encode_chat", thinking)
    output = llm.chat(messages, GREEDY)[0]  # type: ignore[arg-type]
    assert (output.reasoning, output.text) == (plain.text.lstrip(), "")
    assert output.token_ids == plain.token_ids
