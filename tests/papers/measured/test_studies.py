"""All studies: their names, and how they end early."""

from __future__ import annotations

import pytest

from orcinus.build import silent
from orcinus.errors import ConfigError
from orcinus.papers.measured import STUDIES, choose
from orcinus.papers.measured.stalls import Stalls
from orcinus.papers.measured.study import read_study, run_studies, run_study

TOY = Stalls(places=2, short=4, answer=4, long=16, last=2, budget=8, requests=4)


def test_all_are_chosen_by_default_and_some_by_name() -> None:
    assert choose(None) == STUDIES
    assert [study.name for study in choose(" stalls,")] == ["stalls"]


def test_an_unknown_study_is_an_error_that_says_which_there_are() -> None:
    with pytest.raises(ConfigError, match="no study 'figure-7': choose among .*stalls"):
        choose("stalls,figure-7")


def test_every_study_says_what_is_published_and_what_is_different_here() -> None:
    for study in STUDIES:
        assert study.expected.endswith(".")
        assert study.here.endswith(".")
        assert "reproduced" not in study.expected + study.here


def interrupted_bar(name: str, total: int) -> object:
    """A user who presses Ctrl-C in the second run."""

    def done(count: int) -> None:
        if name == "runs":
            raise KeyboardInterrupt

    return done


def test_ctrl_c_keeps_what_was_measured_and_nothing_follows() -> None:
    found = list(run_studies([TOY, TOY], None, 2, loading=lambda: silent, bar=interrupted_bar))
    assert len(found) == 1
    study, result = found[0]
    assert not result.complete
    assert [len(side.repeats) for side in result.sides] == [1, 0, 0, 0]
    assert read_study(study, result) is None


def test_ctrl_c_while_rates_are_looked_for_leaves_a_result_without_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Stalls, "prepare", interrupt)
    result = run_study(TOY, None, 1)
    assert not result.complete
    assert result.sides == ()
    assert read_study(TOY, result) is None
