"""How long requests are: distributions, the published presets, and how well the fitted ones fit."""

from __future__ import annotations

import json
import math
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from orcinus.errors import ConfigError
from orcinus.workload.lengths import LENGTHS, Correlated, Independent, make_lengths
from orcinus.workload.marginals import Geometric, Lognormal, Marginal, Quantiles, Uniform, Zipf
from orcinus.workload.summary import spread
from orcinus.workload.trace import Trace

EVEN = (np.arange(100_000) + 0.5) / 100_000  # every share alike: the distribution without chance
FITTED: dict[str, Any] = json.loads(files("orcinus.workload").joinpath("fitted.json").read_text())
PRESETS = [name for name in LENGTHS if name not in ("empirical", "trace", "pd")]


def pairs(spelled: str, count: int = 100_000) -> NDArray[np.int64]:
    lengths = make_lengths(spelled)
    assert not isinstance(lengths, Trace)
    return lengths.pairs(np.random.default_rng(7).random((count, 2)))


def means(spelled: str) -> tuple[float, float]:
    prompt, output = pairs(spelled).mean(axis=0)
    return float(prompt), float(output)


def test_uniform_draws_both_ends_and_everything_between_alike() -> None:
    found, counts = np.unique(Uniform(5, 8).at(EVEN), return_counts=True)
    assert found.tolist() == [5, 6, 7, 8]
    assert counts.tolist() == [25_000] * 4


def test_zipf_weights_fall_with_the_rank() -> None:
    _, counts = np.unique(Zipf(0.4, 10, 13).at(EVEN), return_counts=True)
    np.testing.assert_allclose(counts / counts[0], [k**-0.4 for k in (1, 2, 3, 4)], rtol=1e-3)


def test_lognormal_has_the_median_and_p90_asked_for() -> None:
    found = spread(Lognormal(median=400, p90=1500).at(EVEN))
    assert (found.median, found.p90) == (400, 1500)


def test_lognormal_has_the_mean_and_std_asked_for() -> None:
    found = spread(Lognormal(mean=300, std=200).at(EVEN))
    assert (found.mean, found.std) == (pytest.approx(300, rel=1e-3), pytest.approx(200, rel=5e-3))


def test_a_lognormal_is_truncated_and_not_clipped() -> None:
    found = Lognormal(median=100, p90=1000, low=50, high=200).at(EVEN)
    assert (found.min(), found.max()) == (50, 200)
    assert (found == 200).mean() < 0.01


def test_geometric_has_its_mean() -> None:
    assert Geometric(58.45).at(EVEN).mean() == pytest.approx(58.45, rel=1e-3)
    assert set(Geometric(1).at(EVEN).tolist()) == {1}


MARGINALS = st.one_of(
    st.builds(lambda low, span: Uniform(low, low + span), st.integers(1, 10**6), st.integers(0, 10**6)),
    st.builds(lambda theta, low, span: Zipf(theta, low, low + span), st.floats(0, 4), st.integers(1, 99), st.integers(0, 500)),
    st.builds(Geometric, st.floats(1, 10**6)),
    st.builds(lambda median, more: Lognormal(median, median * more), st.floats(1, 10**4), st.floats(1.01, 100)),
    st.just(Quantiles((0.0, 0.5, 1.0), (1.0, 7.5, 90.0))),
)


@given(MARGINALS, st.lists(st.floats(0, 1), min_size=1))
def test_longer_shares_are_longer_lengths_and_none_is_below_one_token(marginal: Marginal, shares: list[float]) -> None:
    found = marginal.at(np.sort(np.array(shares)))
    assert found.dtype == np.int64
    assert found.min() >= 1
    assert (np.diff(found) >= 0).all()


def test_orca_is_uniform() -> None:
    prompt, output = pairs("orca").T
    assert (prompt.min(), prompt.max(), output.min(), output.max()) == (32, 512, 1, 128)


@pytest.mark.parametrize(("name", "published"), [("sharegpt-vllm", (161.31, 337.99)), ("alpaca", (19.31, 58.45))])
def test_vllms_data_sets_have_their_published_means(name: str, published: tuple[float, float]) -> None:
    assert means(name) == pytest.approx(published, rel=0.02)


def test_sarathi_splits_zipf_totals_ten_to_one() -> None:
    prompt, output = pairs("sarathi-zipf").T
    assert ((prompt + output).min(), (prompt + output).max()) == (1024, 4096)
    np.testing.assert_allclose(prompt / output, 10, rtol=0.01)


@pytest.mark.parametrize(
    ("spelled", "split"),
    [("pd:length=1024:ratio=50", (1004, 20)), ("pd:length=1024:ratio=1", (512, 512)), ("pd:length=2:ratio=1000", (1, 1))],
)
def test_a_fixed_total_is_split_by_its_ratio(spelled: str, split: tuple[int, int]) -> None:
    assert {tuple(pair) for pair in pairs(spelled, 10).tolist()} == {split}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_draws_requests_that_can_be(name: str) -> None:
    found = pairs(name)
    assert found.shape == (100_000, 2)
    assert found.min() >= 1
    assert found.sum(axis=1).max() <= FITTED.get(name, {}).get("max_total", math.inf)


@pytest.mark.parametrize(
    ("name", "prompt", "output"),
    [("sharegpt", (1730, 5696, 2088.8), (415, 834, 265.6)), ("arxiv-16k", (7059, 12985, 3638), (208, 371, 101))],
)
def test_fits_are_close_to_table_2_of_sarathi_serve(name: str, prompt: tuple[float, ...], output: tuple[float, ...]) -> None:
    for found, (median, p90, std) in zip(map(spread, pairs(name).T), (prompt, output), strict=True):
        assert (found.median, found.p90) == (pytest.approx(median, rel=0.02), pytest.approx(p90, rel=0.02))
        assert found.std == pytest.approx(std, rel=0.1)


@pytest.mark.parametrize("name", FITTED)
def test_stored_residuals_are_those_of_the_stored_constants(name: str) -> None:
    for side, lengths in zip(("prompt", "output"), pairs(name).T, strict=True):
        for measure, told in FITTED[name]["residuals"][side].items():
            if measure != "kolmogorov-smirnov":
                assert getattr(spread(lengths), measure) == pytest.approx(told["fit"], rel=0.02)
                assert abs(told["error"]) < 0.1


def test_correlation_joins_two_distributions_and_changes_neither() -> None:
    joined = Correlated(Uniform(1, 1000), Uniform(1, 1000), 0.8, 2000)
    prompt, output = joined.pairs(np.random.default_rng(0).random((100_000, 2))).T
    assert np.corrcoef(prompt, output)[0, 1] == pytest.approx(6 / np.pi * np.arcsin(0.4), abs=0.01)  # of a Gaussian copula
    for side in (prompt, output):
        assert (side.mean(), side.std()) == (pytest.approx(500.5, rel=0.01), pytest.approx(1000 / 12**0.5, rel=0.01))


def test_long_answers_to_arxiv_have_short_prompts() -> None:
    prompt, output = pairs("arxiv").T
    assert prompt[output > 2000].mean() < prompt.mean() - 500


def test_two_distributions_make_a_pair() -> None:
    assert make_lengths("uniform:low=1:high=9,geometric:mean=4") == Independent(Uniform(1, 9), Geometric(4.0))


@pytest.mark.parametrize(
    ("spelled", "message"),
    [
        ("sharegtp", "unknown length preset 'sharegtp': choose orca, sharegpt, arxiv"),
        ("fixed:tokens=3", "give two, for prompt and output, with a comma between"),
        ("fixed:tokens=3,orca", "unknown length distribution 'orca': choose fixed"),
        ("fixed:tokens=0,fixed:tokens=1", "tokens must be within 1 and 1000000000, not 0"),
        ("uniform:low=9:high=8,fixed:tokens=1", r"high \(in tokens\) must be within 9"),
        ("uniform:low=1,fixed:tokens=1", "length distribution 'uniform' needs high: write uniform:high=..."),
        ("zipf:theta=nan:low=1:high=8,fixed:tokens=1", "theta must be a finite number"),
        ("zipf:theta=1:low=1:high=90000000,fixed:tokens=1", "high - low of a zipf distribution"),
        ("geometric:mean=0.5,fixed:tokens=1", r"mean \(in tokens\) must be within 1"),
        ("lognormal:median=3,fixed:tokens=1", "needs median and p90, or mean and std, not"),
        ("lognormal:median=3:p90=2,fixed:tokens=1", "p90 must be above the median"),
        ("lognormal:mean=-3:std=2,fixed:tokens=1", r"mean \(in tokens\) must be a finite number above 0"),
        ("lognormal:mean=3:std=2:low=100000,fixed:tokens=1", "hardly any length of this lognormal"),
        ("pd:length=1:ratio=1", r"length \(in tokens\) must be within 2"),
        ("pd:length=10:ratio=0", "ratio must be a finite number above 0"),
        ("sarathi-zipf:low=1", r"low \(in tokens\) must be within 2"),
        ("orca:low=1", "length preset 'orca' cannot take 'low=1': it has no options"),
        ("empirical:file=/nowhere.csv", "cannot read the trace /nowhere.csv: No such file"),
    ],
)
def test_what_has_no_length_is_refused(spelled: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_lengths(spelled)


@pytest.mark.parametrize(
    ("shares", "tokens"),
    [
        ((0.0, 1.0), (1.0,)),
        ((0.1, 1.0), (1.0, 2.0)),
        ((0.0, 1.0), (2.0, 1.0)),
        ((0.0, 0.0, 1.0), (1.0, 2.0, 3.0)),
        ((0.0, 1.0), (0.0, 3.0)),
    ],
)
def test_quantiles_that_do_not_grow_are_refused(shares: tuple[float, ...], tokens: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError):
        Quantiles(shares, tokens)
