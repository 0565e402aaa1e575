"""A workload is the same every time it is read, and common random numbers hold across rates and lengths."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.errors import ConfigError
from orcinus.workload.arrival import Arrival
from orcinus.workload.lengths import Independent
from orcinus.workload.marginals import Fixed
from orcinus.workload.processes import Poisson
from orcinus.workload.summary import Spread, statistics
from orcinus.workload.workload import ClosedLoop, Workload, make_workload
from tests.examples import examples

DATA = Path(os.environ.get("ORCINUS_DATA", Path(__file__).parents[3] / "shared" / "data")) / "traces"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the published traces are not part of the project")

PROCESSES = st.sampled_from(
    ["poisson:rate=3", "gamma:rate=3:cv=2", "constant:rate=3", "ramp:start=1:end=9:seconds=5", "all-at-once"]
)
PRESETS = st.sampled_from(
    ["orca", "sharegpt", "sarathi-zipf", "alpaca", "pd:length=64:ratio=3", "fixed:tokens=9,geometric:mean=3"]
)


def lengths_of(arrivals: list[Arrival]) -> list[tuple[int, int]]:
    return [(arrival.prompt_tokens, arrival.output_tokens) for arrival in arrivals]


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "trace.csv"
    path.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,10,5\n2,30,6\n3,20,7\n")
    return f"trace:file={path}"


@examples(30)
@given(PROCESSES, PRESETS, st.integers(0, 2**64))
def test_the_same_words_and_seed_are_the_same_requests_every_time(arrivals: str, lengths: str, seed: int) -> None:
    workload = make_workload(arrivals, lengths, 50, seed)
    assert list(workload) == list(workload) == list(make_workload(arrivals, lengths, 50, seed))
    assert len(list(workload)) == 50


@given(PRESETS, st.floats(0.1, 100), st.integers(0, 99))
def test_lengths_do_not_depend_on_when_requests_come(lengths: str, rate: float, seed: int) -> None:
    plain = list(make_workload("all-at-once", lengths, 40, seed))
    for arrivals in (f"poisson:rate={rate!r}", f"gamma:rate={rate!r}:cv=3"):
        assert lengths_of(list(make_workload(arrivals, lengths, 40, seed))) == lengths_of(plain)


def test_moments_do_not_depend_on_lengths() -> None:
    one, other = (make_workload("gamma:rate=2:cv=2", lengths, 40) for lengths in ("orca", "sharegpt"))
    assert [arrival.at for arrival in one] == [arrival.at for arrival in other]


@given(st.integers(1, 300), st.integers(1, 300))
def test_fewer_requests_are_the_first_of_more(few: int, more: int) -> None:
    few, more = sorted((few, more))
    assert list(make_workload("poisson:rate=1", "orca", more))[:few] == list(make_workload("poisson:rate=1", "orca", few))


def test_times_lengths_and_pauses_are_drawn_from_streams_of_their_own() -> None:
    workload = make_workload("poisson:rate=1", "orca")
    assert len({workload._stream(number).random() for number in range(3)}) == 3


def test_another_seed_is_another_workload() -> None:
    one, other = (list(make_workload("poisson:rate=1", "orca", 20, seed)) for seed in (0, 1))
    assert [a.at for a in one] != [a.at for a in other]
    assert lengths_of(one) != lengths_of(other)


def test_it_may_have_no_end() -> None:
    workload = make_workload("poisson:rate=1", "orca")
    assert len(list(islice(workload, 9000))) == 9000
    with pytest.raises(ConfigError, match="without end has no statistics: say how many requests"):
        statistics(workload)


def test_what_is_longer_than_max_total_is_dropped_and_its_moment_is_not_lost() -> None:
    every = list(make_workload("constant:rate=1", "orca", 1000))
    short = list(make_workload("constant:rate=1", "orca", 100, max_total=300))
    assert lengths_of(short) == [pair for pair in lengths_of(every) if sum(pair) <= 300][:100]
    assert [arrival.at for arrival in short] == [arrival.at for arrival in every[:100]]


def test_a_trace_comes_when_it_came_or_when_it_is_told(trace: str) -> None:
    assert [a.at for a in make_workload(None, trace)] == [0, 2, 3]
    assert [a.at for a in make_workload(None, trace + ":scale=2", 2)] == [0, 4]
    assert [a.at for a in make_workload("constant:rate=4", trace)] == [0, 0.25, 0.5]
    assert list(make_workload(None, trace, max_total=27)) == [Arrival(0, 10, 5), Arrival(3, 20, 7)]


def test_a_closed_loop_goes_on_when_an_answer_ends(trace: str) -> None:
    loop = make_workload("closed:clients=2", trace).loop()
    assert list(loop.first()) == [Arrival(0, 10, 5, client="client-0"), Arrival(0, 30, 6, client="client-1")]
    assert loop.again("client-1", 4.5) == Arrival(4.5, 20, 7, client="client-1")
    assert loop.again("client-0", 9.0) is None


def test_a_closed_loop_has_no_more_first_requests_than_requests() -> None:
    assert len(list(make_workload("closed:clients=9", "orca", 4).loop().first())) == 4


@given(st.lists(st.integers(0, 2), min_size=5, max_size=20), st.integers(0, 99))
def test_the_nth_request_and_pause_are_the_same_in_any_order_of_turns(turns: list[int], seed: int) -> None:
    workload = make_workload("closed:clients=3:think=2", "orca", seed=seed)

    def follow(loop: ClosedLoop, clients: list[int]) -> list[tuple[float, int, int]]:
        found = [*loop.first(), *(loop.again(f"client-{client}", 10.0) for client in clients)]
        return [(a.at, a.prompt_tokens, a.output_tokens) for a in found if a is not None]

    assert follow(workload.loop(), turns) == follow(workload.loop(), sorted(turns))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"requests": 0}, "a workload needs at least 1 request, not 0"),
        ({"seed": -1}, "the seed must be at least 0, not -1"),
        ({"max_total": 1}, "max_total must be at least 2 tokens"),
        ({"arrivals": None}, "nothing says when requests come: give an arrival process, such as poisson:rate=2"),
        ({"arrivals": "poisson:rate=0"}, "must be a finite number above 0"),
        ({"lengths": "trace"}, "length preset 'trace' needs file: write trace:file=..."),
        ({"lengths": "trace:file=/nowhere"}, "cannot read the trace /nowhere"),
    ],
)
def test_what_is_no_workload_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_workload(**{"arrivals": "poisson:rate=1", "lengths": "orca"} | words)


def test_a_trace_without_times_needs_an_arrival_process(tmp_path: Path) -> None:
    (tmp_path / "lengths.csv").write_text("num_prefill_tokens,num_decode_tokens\n1,2\n")
    word = f"trace:file={tmp_path / 'lengths.csv'}"
    with pytest.raises(ConfigError, match="give an arrival process"):
        make_workload(None, word)
    assert list(make_workload("all-at-once", word)) == [Arrival(0, 1, 2)]


def test_open_and_closed_loops_are_driven_in_their_own_way() -> None:
    with pytest.raises(ConfigError, match="only closed arrivals have a loop"):
        make_workload("poisson:rate=1", "orca").loop()
    with pytest.raises(ConfigError, match="drive it with Workload.loop"):
        iter(make_workload("closed:clients=1", "orca"))


def test_requests_that_are_all_too_long_are_noticed() -> None:
    workload = Workload(Poisson(1.0), Independent(Fixed(10), Fixed(10)), requests=1, max_total=19)
    with pytest.raises(ConfigError, match="none had at most max_total=19 tokens"):
        list(workload)
    assert len(list(replace(workload, max_total=20))) == 1


def test_statistics_of_a_known_workload(trace: str) -> None:
    found = statistics(make_workload(None, trace))
    assert (found.requests, found.seconds, found.rate) == (3, 3.0, pytest.approx(2 / 3))
    assert found.gap_cv == pytest.approx(1 / 3)
    assert found.prompt == Spread(20.0, 20.0, 28.0, pytest.approx(29.8), pytest.approx((200 / 3) ** 0.5), 30)
    with pytest.raises(ConfigError, match="no request has at most max_total=2 tokens"):
        statistics(make_workload(None, trace, max_total=2))


@pytest.mark.parametrize("arrivals", ["all-at-once", "closed:clients=3"])
def test_rates_that_mean_nothing_are_none(arrivals: str) -> None:
    found = statistics(make_workload(arrivals, "orca", 100))
    assert (found.requests, found.seconds, found.rate, found.gap_cv) == (100, 0.0, None, None)


@needs_data
def test_the_openchat_trace_has_the_numbers_of_table_2() -> None:
    """Sarathi-Serve prints the std of the prompts as 2088, without its decimals, and exchanges that of the outputs."""
    found = statistics(make_workload("all-at-once", f"trace:file={DATA / 'sharegpt_8k.csv'}", max_total=8192))
    assert found.requests == 30_731
    assert (found.prompt.median, found.prompt.p90, int(found.prompt.std)) == (1730, 5696, 2088)
    assert (found.output.median, found.output.p90, round(found.output.std, 1)) == (415, 834, 265.6)


@needs_data
@pytest.mark.parametrize(
    ("preset", "file"),
    [("sharegpt", "sharegpt_8k.csv"), ("arxiv", "arxiv_4k.csv"), ("azure-conversation", "splitwise_conv.csv")],
)
def test_a_fitted_preset_is_like_its_trace(preset: str, file: str) -> None:
    fit = statistics(make_workload("all-at-once", preset, 100_000))
    data = statistics(make_workload("all-at-once", f"trace:file={DATA / file}"))
    for side in ("prompt", "output"):
        for measure in ("median", "p90", "mean", "std"):
            told, drawn = (getattr(getattr(found, side), measure) for found in (data, fit))
            assert drawn == pytest.approx(told, rel=0.03), f"{measure} of {side}"


@needs_data
def test_azure_users_come_in_small_bursts() -> None:
    found = statistics(make_workload(None, f"trace:file={DATA / 'splitwise_conv.csv'}"))
    assert (found.requests, found.rate, found.gap_cv) == (
        19_366,
        pytest.approx(5.53, abs=0.01),
        pytest.approx(1.094, abs=0.001),
    )


def test_requests_may_ask_for_more_than_they_use() -> None:
    exact, pow2, most = (list(make_workload("poisson:rate=1", "orca", 50, max_tokens=asked)) for asked in (None, "pow2", 64))
    assert all(arrival.asked_tokens == arrival.output_tokens for arrival in exact)
    for plain, power, limited in zip(exact, pow2, most, strict=True):
        assert (power.at, power.prompt_tokens, power.output_tokens) == (plain.at, plain.prompt_tokens, plain.output_tokens)
        assert power.output_tokens <= power.asked_tokens < 2 * power.output_tokens
        assert bin(power.asked_tokens).count("1") == 1
        assert (limited.output_tokens, limited.asked_tokens) == (min(64, plain.output_tokens), 64)


def test_a_power_of_two_is_not_asked_for_beyond_the_longest_request() -> None:
    arrivals = list(make_workload("poisson:rate=1", "sharegpt-vllm", 200, max_total=1024, max_tokens="pow2"))
    assert all(arrival.prompt_tokens + arrival.asked_tokens <= 1024 for arrival in arrivals)
    assert any(arrival.asked_tokens > arrival.output_tokens for arrival in arrivals)


@pytest.mark.parametrize("asked", [0, -1, "pow3", 1.5])
def test_what_cannot_be_asked_for(asked: object) -> None:
    with pytest.raises(ConfigError, match="at least 1, or pow2"):
        make_workload("poisson:rate=1", "orca", 5, max_tokens=asked)  # type: ignore[arg-type]
