"""SARATHI's rows: the cheap ones run here, the constants are those that the script fits, the tables are whole."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.cost.software import known_software
from orcinus.papers import published_sarathi as published
from orcinus.papers.simulated.sarathi import ROWS
from orcinus.papers.simulated.sarathi_pipeline import SYSTEMS, serve
from orcinus.papers.simulated.sarathi_sweep import chunked, gain, peak, request
from tests.product import part

BY_NUMBER = {row.number: row for row in ROWS}
SCRIPT = Path(__file__).parents[3] / "benchmarks" / "fit_sarathi.py"


def test_these_are_its_rows() -> None:
    assert list(BY_NUMBER) == [14, 15, 16, 17, 18, 20, 21, 23]


@pytest.mark.parametrize("number", part(14, 17, full=[16, 18]))
def test_a_cheap_row_passes(number: int) -> None:
    found = BY_NUMBER[number].run()
    assert [check for check in found.comparisons if not check.passed] == []


def test_the_constants_are_those_that_the_script_fits() -> None:
    spec = importlib.util.spec_from_file_location("fit_sarathi", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert json.loads(json.dumps(script.fit())) == known_software()["sarathi"]


def test_the_published_tables_are_whole() -> None:
    assert len(published.PEAKS) == len(published.BESIDE) == 9
    assert {len(values) for values in published.BESIDE.values()} == {len(published.RATIOS)}
    for panel in (published.CHUNKED_ATTENTION, published.CHUNKED_PREFILL, published.CHUNKED_END_TO_END):
        assert list(panel) == list(published.LENGTHS)
        assert {len(values) for values in panel.values()} == {len(published.CHUNKS)}


@given(st.integers(64, 4096), st.floats(0.1, 1000))
def test_a_request_holds_all_tokens_and_its_answer_one_more(length: int, ratio: float) -> None:
    prompt, answer = request(length, ratio)
    assert prompt >= 1
    assert prompt + (answer - 1) == length
    assert abs((answer - 1) * (ratio + 1) - length) <= max(ratio + 1, length / 2)


@pytest.mark.full
def test_the_best_ratio_stands_for_all_that_come_to_the_same_tokens() -> None:
    assert {request(3072, ratio) for ratio in (100, 101, 102)} == {(3042, 31)}
    assert peak(3072, 512) == 101


def test_whole_prompts_that_join_gain_less_than_chunks() -> None:
    assert 1 < gain(1024, 18, 1024 + 17, 14) < gain(1024, 18, 256, 14)


def test_a_prompt_in_one_chunk_is_a_prompt_without_chunks() -> None:
    attention, whole = chunked(512)
    assert attention[-1] == whole[-1] == 1.0
    assert max(attention[:-1]) < 1


def test_chunks_leave_fewer_bubbles_and_are_done_sooner() -> None:
    pipeline, ours = (serve(replace(SYSTEMS[name], requests=150)) for name in ("TP+PP", "SARATHI"))
    assert ours.seconds < pipeline.seconds
    assert ours.bubbles < pipeline.bubbles / 3
