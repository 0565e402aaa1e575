"""The server's parts by themselves: admission, threads with a limit, reasoning apart from answers, bytes of tokens."""

from __future__ import annotations

import asyncio
import shutil
import time
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.batch import Finished, Token
from orcinus.core.request import Finish, FinishCode, RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.serve.admission_control import AdmissionControl, Bounds, Ticket
from orcinus.serve.answers import FAILURES, Answers, ChoiceDelta, failure
from orcinus.serve.dialects.chat import ChatReply
from orcinus.serve.dialects.reply import ServedModel
from orcinus.serve.errors import ApiError
from orcinus.serve.messages import Ready
from orcinus.serve.request_processor import RequestProcessor
from orcinus.serve.schema import ChatBody
from orcinus.serve.text_threads import TextThreads
from orcinus.text.answer import Answer, RequestMetrics
from orcinus.text.chat_template import TemplateRenderer
from orcinus.text.detokenizer import ByteWriter, Detokenizer
from orcinus.text.input_processor import TokenizedRequest
from orcinus.text.reasoning import Reasoning
from orcinus.text.tokenizer import load_tokenizer
from orcinus.tiny import MODEL_DIR
from tests.waiting import within

STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.integers(0, 60), st.integers(0, 90), st.booleans()), max_size=40
)


@given(STEPS)
def test_admission_keeps_its_bounds_and_forgets_requests_that_leave(steps: list[tuple[str, int, int, int, bool]]) -> None:
    admission = AdmissionControl(Bounds(answers=10, tokens=100, per_client=5), lambda answers, client: 7)
    inside: list[Ticket] = []
    refusals: list[tuple[int, str]] = []
    for client, answers, fewest, tokens, leaves in steps:
        if leaves and inside:
            admission.leave(inside.pop(0))
            continue
        try:
            ticket = admission.enter(client, answers, fewest)
        except ApiError as error:
            refusals.append((error.status, error.headers["Retry-After"]))
            continue
        try:
            admission.resize(ticket, tokens)
        except ApiError:
            admission.leave(ticket)
        else:
            inside.append(ticket)
        assert admission.answers == sum(one.answers for one in inside) <= 10
        assert admission.tokens == sum(one.tokens for one in inside) <= 100
        assert all(count <= 5 for count in admission.by_client.values())
    for ticket in inside:
        admission.leave(ticket)
        admission.leave(ticket)
    assert set(refusals) <= {(429, "7")}
    assert (admission.answers, admission.tokens, dict(admission.by_client)) == (0, 0, {})


def test_a_request_that_is_alone_may_have_more_tokens_than_the_queue() -> None:
    admission = AdmissionControl(Bounds(tokens=100), lambda answers, client: 1)
    ticket = admission.enter("", 1, 10)
    admission.resize(ticket, 500)
    with pytest.raises(ApiError, match="the queue holds 500 tokens"):
        admission.enter("", 1, 1)


def test_a_full_queue_leaves_requests_with_an_slo_to_their_engine_unless_very_many_ask() -> None:
    admission = AdmissionControl(Bounds(answers=2, tokens=100), lambda answers, client: 7)
    assert [admission.enter("", 1, 1, asks=True).full for _ in range(16)] == [False] * 2 + [True] * 14
    for asks in (False, True):
        with pytest.raises(ApiError, match="the queue is full"):
            admission.enter("", 1, 1, asks=asks)
    with pytest.raises(ApiError, match="the queue is full"):
        admission.check_asking()
    admission = AdmissionControl(Bounds(tokens=100), lambda answers, client: 7)
    admission.enter("", 1, 60)
    ticket = admission.enter("", 1, 10, asks=True)
    admission.resize(ticket, 50, asks=True)
    assert (ticket.full, ticket.tokens, admission.tokens) == (True, 50, 110)
    assert admission.enter("", 1, 10, asks=True).full
    with pytest.raises(ApiError, match="the queue holds 120 tokens"):
        admission.enter("", 1, 1)
    with pytest.raises(ApiError, match="the queue holds 120 tokens"):
        admission.resize(admission.enter("", 1, 0, asks=True), 700, asks=True)


def test_a_call_without_end_is_interrupted_and_its_thread_goes_on() -> None:
    async def scenario() -> None:
        workers = TextThreads(1, limit_s=0.2)

        def endless() -> None:
            while True:
                pass

        with within(20), pytest.raises(TimeoutError):
            await workers.run(endless)
        assert await workers.run(lambda value: value + 1, 1) == 2, "the only thread is free again"
        with pytest.raises(ValueError, match="no"):
            await workers.run(int, "no")
        waited = await asyncio.gather(*(workers.run(time.sleep, 0.15) for _ in range(3)))
        assert waited == [None] * 3, "waiting for a thread does not count"
        workers.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("text", "opened", "reasoning", "answer"),
    [
        ("<think>\nHm, two.\n</think>\n\nTwo.", False, "Hm, two.", "Two."),
        ("  <think>a</think>b", False, "a", "b"),
        ("Hm.</think>Two.", True, "Hm.", "Two."),
        ("No marks at all", False, "", "No marks at all"),
        ("a <think>b</think>", False, "", "a <think>b</think>"),
        ("<thin ice", False, "", "<thin ice"),
        (" \n", False, "", " \n"),
        (" <thin", False, "", " <thin"),
        ("<think>never said </thin", False, "never said </thin", ""),
        ("<think></think>x", False, "", "x"),
        ("<think>a < b </ c</think>\n d", False, "a < b </ c", "d"),
        ("", False, "", ""),
    ],
)
@pytest.mark.parametrize("step", [1, 2, 5, 100])
def test_reasoning_is_told_from_the_answer_however_the_text_is_cut(
    text: str, opened: bool, reasoning: str, answer: str, step: int
) -> None:
    split = Reasoning(open=opened)
    parts = [split.add(text[at : at + step]) for at in range(0, len(text), step)] + [split.finish()]
    assert "".join(part[0] for part in parts) == reasoning
    assert "".join(part[1] for part in parts) == answer


class Thinker:
    """A tokenizer of a model that thinks."""

    special_ids = frozenset[int]()


class SomeCall:
    id = "chatcmpl-1"


def test_a_chat_shows_reasoning_apart() -> None:
    body = ChatBody.model_validate({"messages": [{"role": "user", "content": "?"}], "stream": True})
    prepared = [TokenizedRequest(0, 0, None, (1, 2), SamplingParams(), RequestContext())]
    answers = Answers(SomeCall(), body, prepared, Thinker())  # type: ignore[arg-type]
    reply = ChatReply(answers, ServedModel("m"), body)
    words = ["<think>", "hm", "</think>", "Yes"]
    detokenizer = Detokenizer(lambda: ByteWriter(lambda token: words[token].encode()))
    answer = Answer("r", 0, 0, SamplingParams(), detokenizer, RequestMetrics(0.0), Reasoning(open=False))
    pieces = [answer.add(Token("r", number, 0.0)) for number in range(len(words))]
    parts = answers.take([*filter(None, pieces), answer.end(Finished("r", Finish.STOP, 0.0))], merge=False)
    frames = [reply.frame(part, first=False)["choices"][0] for part in parts if isinstance(part, ChoiceDelta)]
    assert [frame["delta"] for frame in frames if any(frame["delta"].values())] == [
        {"reasoning_content": "hm"},
        {"content": "Yes"},
    ]
    message = reply.choice(answers.choices[0])["message"]
    assert (message["reasoning_content"], message["content"]) == ("hm", "Yes")


@given(st.text(max_size=30))
def test_the_bytes_of_a_texts_tokens_are_the_texts_bytes(text: str) -> None:
    tokenizer = load_tokenizer(MODEL_DIR)
    assert tokenizer is not None
    ids = [token for token in tokenizer.encode(text) if token not in tokenizer.special_ids]
    assert b"".join(map(tokenizer.token_bytes, ids)).decode() == tokenizer.decode(ids)
    assert len(text) <= tokenizer.longest_token * len(ids)


def served(folder: Path, limit_s: float) -> RequestProcessor:
    """A model as a server holds it, without an engine."""
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    return RequestProcessor("m", tokenizer, SamplingParams(), Ready(2048, 2048, 16384, 1024), 0, TextThreads(1, limit_s))


def test_a_chat_template_without_end_is_the_requests_error_and_the_next_one_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODEL_DIR, folder)
    template = (
        "{% if messages[0].content == 'spin' %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
        "{% endif %}{{ messages[0].content }}"
    )
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink(missing_ok=True)
    (folder / "chat_template.jinja").write_text(template)
    monkeypatch.setattr("orcinus.text.tokenizer.TemplateRenderer", partial(TemplateRenderer, limit_s=0.5))
    model = served(folder, 0.2)

    async def ask(content: str) -> int:
        body = ChatBody.model_validate({"messages": [{"role": "user", "content": content}], "max_tokens": 5})
        return len((await model.chat(body, RequestContext()))[0].ids)

    async def scenario() -> None:
        with pytest.raises(ApiError, match="takes longer than") as caught:
            await ask("spin")
        assert (caught.value.status, caught.value.param) == (400, "messages")
        assert await ask("Hello") > 0

    asyncio.run(scenario())


def test_what_can_only_be_too_long_is_refused_before_it_is_tokenized() -> None:
    model = served(MODEL_DIR, 5)
    model.tokenizer.encode = None  # type: ignore[method-assign, assignment]
    with pytest.raises(ApiError, match="characters are at least") as caught:
        model.fewest_tokens([100_000], "prompt")
    assert caught.value.code == "context_length_exceeded"
    assert model.fewest_tokens([11], "prompt") == 1


@pytest.mark.parametrize("code", FinishCode)
def test_every_code_of_an_ending_has_a_status(code: FinishCode) -> None:
    assert code in FAILURES
    error = failure(ChoiceDelta(0, finish_reason="failed", error="its words", code=code))
    assert error.status in (400, 408, 499, 500, 503)
    told = failure(ChoiceDelta(0, finish_reason="failed", error="other words", code=code))
    assert (error.status, error.code) == (told.status, told.code), "words decide nothing"
