"""The client against Orcinus itself: a real server process, its real answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orcinus.bench.client.load_generator import LoadGenerator, execute
from orcinus.bench.client.probe import meet
from orcinus.bench.client.prompts import Ids, Words
from orcinus.bench.client.target import OPTIONAL, Dialect, Target
from orcinus.bench.config import EndpointConfig, LoadConfig
from orcinus.bench.measure import metrics, read_slo
from orcinus.bench.record import Repeat, RequestOutcome
from orcinus.bench.server import run_server
from orcinus.workload.workload import make_workload
from tests.serve.conftest import Running

SHORT = "uniform:low=8:high=40,uniform:low=2:high=12"


def served(server: Running, arrivals: str, fields: dict[str, Any], without: tuple[str, ...] = (), exact: bool = True) -> Repeat:
    async def test() -> Repeat:
        form = await meet(Target(server.url, **fields), exact_lengths=exact)
        assert form.dialect.unused == ()
        form = replace(form, dialect=Dialect(frozenset(OPTIONAL) - set(without)))
        return await LoadGenerator(form, make_workload(arrivals, SHORT, 12), timeout=60, max_delay=10).run()

    return execute(test())


@pytest.mark.parametrize("arrivals", ["poisson:rate=30", "closed:clients=4"])
def test_completions_of_ids_have_exact_lengths(server: Running, arrivals: str) -> None:
    repeat = served(server, arrivals, {})
    wanted = {(one.prompt_tokens, one.output_tokens) for one in make_workload("all-at-once", SHORT, 12)}
    assert {one.outcome for one in repeat.requests} == {RequestOutcome.OK}
    assert {(one.prompt_tokens, one.output_tokens) for one in repeat.requests} == wanted
    assert all(one.timed == "tokens" and len(one.times) == one.output_tokens for one in repeat.requests)
    assert server.idle()


@pytest.mark.parametrize("fields", [{"api": "chat"}, {"prompts": "text"}])
def test_texts_have_nearly_the_length_that_was_asked_for(server: Running, fields: dict[str, Any]) -> None:
    repeat = served(server, "closed:clients=4", fields)
    wanted = [one.prompt_tokens for one in make_workload("all-at-once", SHORT, 12)]
    assert {one.outcome for one in repeat.requests} == {RequestOutcome.OK}
    found = sum(one.prompt_tokens for one in repeat.requests)
    assert found == pytest.approx(sum(wanted), rel=0.2)


def test_the_same_tokens_are_counted_in_every_way(server: Running) -> None:
    """By ids, by the count in each frame, by the count at the end."""
    by_ids = served(server, "closed:clients=1", {})
    by_count = served(server, "closed:clients=1", {}, ("return_token_ids",))
    at_end = served(server, "closed:clients=1", {}, ("return_token_ids", "continuous_usage_stats"))
    counts = [[one.output_tokens for one in repeat.requests] for repeat in (by_ids, by_count, at_end)]
    assert counts[0] == counts[1] == counts[2]
    assert {one.timed for one in by_count.requests} == {"tokens"}
    assert {one.timed for one in at_end.requests} == {"frames"}
    assert [one.output for one in by_count.requests] == [one.output for one in at_end.requests]


def test_equal_requests_have_equal_answers(server: Running) -> None:
    first, second = served(server, "poisson:rate=100", {}), served(server, "closed:clients=3", {})
    assert [one.output for one in first.requests] == [one.output for one in second.requests]


def test_answers_may_end_by_themselves(server: Running) -> None:
    repeat = served(server, "closed:clients=4", {"api": "chat"}, exact=False)
    assert {one.outcome for one in repeat.requests} == {RequestOutcome.OK}


def test_a_full_queue_refuses(server: Running) -> None:
    """More requests than the queue of the server has places: those that it took are complete."""

    async def test() -> Repeat:
        form = await meet(Target(server.url))
        workload = make_workload("all-at-once", "fixed:tokens=16,fixed:tokens=8", 200)
        return await LoadGenerator(form, workload, timeout=60, max_delay=10).run()

    outcomes = [one.outcome for one in execute(test()).requests]
    assert set(outcomes) == {RequestOutcome.OK, RequestOutcome.REJECTED}
    assert server.idle()


@pytest.mark.parametrize(("slo", "kept"), [("ttft=30,tbt=30", 1.0), ("e2e=0.000001", None)])
def test_objectives_are_sent_and_promises_counted(server: Running, slo: str, kept: float | None) -> None:
    load = LoadConfig(workload="fixed:tokens=8,fixed:tokens=8", arrivals="all-at-once", requests=6, repeats=1)
    warm = EndpointConfig(url=server.url, max_delay=10)
    for _ in range(3):
        run_server(warm, load, None, 0)  # an engine that has run nothing yet accepts what it does not know
    result = run_server(replace(warm, slo=slo), load, None, 0)
    assert result.objectives == read_slo(slo).bounds
    found = metrics(result.sides[0].repeats[0])
    assert found["refused"] == (0 if kept else 1)
    assert found.get("promises_kept") == kept


def test_what_is_found_out_before(server: Running) -> None:
    form = execute(meet(Target(server.url)))
    assert (form.target.model, form.counted, form.prompts) == ("orcinus-tiny", "token ids", Ids())
    words = execute(meet(Target(server.url, api="chat"))).prompts
    assert isinstance(words, Words)
    assert 5 < words.around < 30
    assert 1 <= words.each < 2
