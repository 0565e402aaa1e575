"""A server whose data centre does not exist: everything but the model is real, and time passes as the simulation says."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from orcinus.cost.work import IterationWork
from orcinus.sim.live_config import LiveConfig
from orcinus.sim.simulate import set_up
from tests.commands import Done
from tests.serve.conftest import Running
from tests.serve.in_process import refusals, serving_in_process
from tests.serve.test_process import in_one_line
from tests.serve.watch import watching
from tests.waiting import within

SPEED, OPEN_LENGTH = 10, 30
GPT3 = {"device": "a100-40g", "tp": 8, "pp": 2}
COST = set_up(LiveConfig(model="gpt3-175b", **GPT3)).machine.cost  # type: ignore[arg-type]
STORY = {"prompt": "Tell me about rain and wind", "seed": 3}
CHAT = {"messages": [{"role": "user", "content": "Tell me a story."}]}
WITHOUT_END = STORY | {"max_tokens": 1500, "stream": True}


def seconds(*, prompt: int = 0, context: int = 0) -> float:
    """Real seconds of one iteration alone in the pipeline: of a prompt, or of one decode."""
    work = IterationWork(prompt, 1, 0, 0, ((0, prompt),), 1) if prompt else IterationWork(1, 1, 1, context, (), 1)
    return sum(COST.stages(work)) / SPEED


@pytest.fixture(scope="module")
def center() -> Iterator[Running]:
    """One data centre for all tests that leave it as they found it."""
    flags = [word for name, value in GPT3.items() for word in (f"--{name}", str(value))]
    speed = ["--speed", str(SPEED), "--answer-lengths", f"fixed:tokens={OPEN_LENGTH}"]
    with serving_in_process("--simulate", "gpt3-175b", *flags, *speed) as running:
        yield running


def complete(center: Running, **fields: Any) -> dict[str, Any]:
    answer = center.http.post("/v1/completions", json=STORY | fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def text(center: Running, **fields: Any) -> str:
    return str(complete(center, **fields)["choices"][0]["text"])


@contextmanager
def streaming(center: Running, **fields: Any) -> Iterator[Iterator[dict[str, Any]]]:
    """The frames of an answer."""
    with center.http.stream("POST", "/v1/completions", json=WITHOUT_END | fields) as answer:
        yield (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {"))


def test_it_is_served_under_the_name_of_the_model_that_it_stands_for(center: Running) -> None:
    (card,) = center.http.get("/v1/models").json()["data"]
    assert (card["id"], card["max_model_len"]) == ("gpt3-175b", 2048)
    assert center.http.get("/health").status_code == center.http.get("/ready").status_code == 200
    assert complete(center, max_tokens=1)["model"] == "gpt3-175b"


def test_its_memory_is_that_of_the_devices(center: Running) -> None:
    state = center.scheduler()
    assert state["num_blocks"] == set_up(LiveConfig(model="gpt3-175b", **GPT3)).machine.num_blocks  # type: ignore[arg-type]
    assert state["policy"] == "stall-free"
    assert state["limits"]["max_batch_size"] == 128


def test_an_answer_is_as_long_as_it_may_become(center: Running) -> None:
    found = complete(center, max_tokens=7)
    assert found["choices"][0]["finish_reason"] == "length"
    assert found["usage"]["completion_tokens"] == 7
    assert complete(center, max_tokens=50)["usage"]["completion_tokens"] == 50


@pytest.mark.parametrize("chat", [True, False])
def test_without_max_tokens_it_ends_by_itself(center: Running, chat: bool) -> None:
    path, body = ("/v1/chat/completions", CHAT) if chat else ("/v1/completions", STORY)
    found = center.http.post(path, json=body).json()
    assert found["choices"][0]["finish_reason"] == ("stop" if chat else "length")
    assert found["usage"]["completion_tokens"] == (OPEN_LENGTH if chat else 16)
    written = found["choices"][0]["message"]["content"] if chat else found["choices"][0]["text"]
    words = written.replace(",", "").replace(".", "").split()
    assert len(words) > (15 if chat else 8)
    assert all(word.isalpha() for word in words)


def test_a_seed_repeats_a_text_and_n_answers_differ(center: Running) -> None:
    assert text(center, max_tokens=20) == text(center, max_tokens=20)
    assert text(center, max_tokens=20, seed=4) != text(center, max_tokens=20)
    choices = complete(center, max_tokens=20, n=3)["choices"]
    assert len({choice["text"] for choice in choices}) == 3
    assert choices[0]["text"] == text(center, max_tokens=20)


def test_a_stream_says_the_same_token_by_token(center: Running) -> None:
    with streaming(center, max_tokens=20, stream_options={"include_usage": True}) as frames:
        seen = list(frames)
    texts = [choice["text"] for frame in seen for choice in frame["choices"]]
    assert "".join(texts) == text(center, max_tokens=20)
    assert len(texts) >= 20
    assert seen[-1]["usage"]["completion_tokens"] == 20


def test_a_stop_string_ends_it(center: Running) -> None:
    whole = text(center, max_tokens=40)
    stop = whole.split()[10]
    choice = complete(center, max_tokens=40, stop=stop)["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["text"] == whole[: whole.index(stop)]


def test_what_can_never_fit_is_refused(center: Running) -> None:
    answer = center.http.post("/v1/completions", json=STORY | {"max_tokens": 4000})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_time_passes_as_the_simulation_says(center: Running) -> None:
    """Never faster; and a machine that is busy otherwise may be slower, but not by the whole speed."""
    began, count = time.monotonic(), 250
    with within(SPEED * count * seconds(context=1)):
        found = complete(center, max_tokens=count)
    took, prompt = time.monotonic() - began, found["usage"]["prompt_tokens"]
    first, later = seconds(prompt=prompt), seconds(context=prompt)
    assert later * SPEED == pytest.approx(0.045, rel=0.4)  # as fast as 16 A100 read 350 GB of weights, or nearly
    assert took > first + (count - 1) * later
    assert found["timings"]["total_ms"] / 1000 > first + (count - 1) * later
    assert center.idle()


def test_two_batches_are_in_flight_in_two_stages(center: Running) -> None:
    """A request that comes while a batch runs does not wait for its end: the first stage is free.

    So iterations end in turns, and the one in between carries no request of the one before.
    """
    with watching(center.url) as seen, streaming(center) as first:
        next(first)
        for seed in range(8):  # some of them come between two iterations and share a batch with the first one
            complete(center, max_tokens=15, seed=seed)
    assert center.idle()
    pairs = [two for two in zip(seen, seen[1:], strict=False) if not _names(two[0]) & _names(two[1])]
    assert len(pairs) > 20


def _names(iteration: dict[str, Any]) -> set[str]:
    return {chunk["id"] for chunk in iteration["chunks"]}


def test_a_client_that_hangs_up_frees_blocks(center: Running) -> None:
    with streaming(center) as frames:
        next(frames)
        assert center.scheduler()["free_blocks"] < center.scheduler()["num_blocks"]
    assert center.idle()


def test_a_request_is_cancelled_in_the_middle_of_an_iteration(center: Running) -> None:
    with center.http.stream("POST", "/v1/completions", json=WITHOUT_END) as answer:
        name = answer.headers["X-Response-ID"]
        lines = answer.iter_lines()
        next(lines)
        assert center.http.post(f"/v1/requests/{name}/cancel").json()["cancelled"]
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert center.idle()
    timeline = center.http.get(f"/v1/requests/{name}/timeline").json()
    assert timeline["answers"][0]["finish"] == "cancelled"


def test_a_pause_lets_what_is_in_flight_come_back(center: Running) -> None:
    with streaming(center, max_tokens=40) as frames:
        next(frames)
        center.http.post("/pause")
        time.sleep(0.3)
        before = _counted(center)
        time.sleep(0.3)
        assert _counted(center) == before
        assert center.http.get("/health").status_code == 200
        center.http.post("/resume")
        assert list(frames)[-1]["choices"][0]["finish_reason"] == "length"
    assert center.idle()


def test_policies_switch_and_metrics_count(center: Running) -> None:
    assert center.http.put("/v1/scheduler", json={"policy": "orca"}).json()["policy"] == "orca"
    before = _counted(center)
    complete(center, max_tokens=11)
    assert _counted(center) - before == 11
    center.http.put("/v1/scheduler", json={"policy": "stall-free"})


def _counted(center: Running) -> float:
    page = center.http.get("/metrics").text.splitlines()
    return float(next(line.split()[1] for line in page if line.startswith("orcinus_generation_tokens_total")))


def test_log_probabilities_are_those_of_a_model_that_knows_nothing(center: Running) -> None:
    found = complete(center, max_tokens=4, logprobs=2, echo=True)["choices"][0]["logprobs"]
    assert len(found["tokens"]) > 4
    assert len(set(found["token_logprobs"][1:])) == 1


SENSELESS = {
    ("--speed", "2"): "--speed says how a simulation goes: add --simulate MODEL",
    ("--simulate", "llama-7b", "--dtype", "float32"): "--dtype is for real models: leave it out",
    ("--simulate", "llama-7b", "--model", "x"): "--model is for real models",
    ("x", "--simulate", "llama-7b"): "the argument MODEL is for real models",
    ("--simulate", "gpt3-175b"): "gpt3-175b does not fit on 1 x a100-80g",
    ("--simulate", "gpt3-175b", "--tp", "7"): "tp=7 does not divide the 96 heads",
    ("--simulate", "llama-7b", "--device", "abacus"): "unknown device 'abacus'",
    ("--simulate", "llama-70000b"): "unknown model 'llama-70000b'",
    ("--simulate", "llama-7b", "--threads", "2"): "--threads is for real models",
    ("--simulate", "llama-7b", "--router", "crystal-ball"): "unknown router 'crystal-ball'",
    ("--simulate", "llama-7b", "--router", "least-work"): "--router chooses among replicas: add --replicas",
    ("--simulate", "llama-7b", "--replicas", "2", "--device", "abacus"): ": unknown device 'abacus'",
    ("--simulate", "llama-7b", "--answer-lengths", "long"): "unknown length preset 'long'",
}


@pytest.fixture(scope="module")
def refused() -> dict[tuple[str, ...], Done]:
    return refusals(*SENSELESS)


@pytest.mark.parametrize("arguments", SENSELESS, ids=" ".join)
def test_what_makes_no_sense_is_said_in_one_line(refused: dict[tuple[str, ...], Done], arguments: tuple[str, ...]) -> None:
    in_one_line(refused[arguments], SENSELESS[arguments])
