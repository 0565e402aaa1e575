"""Pictures of an iteration's cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from orcinus.errors import ConfigError
from orcinus.plots.costs import CostPanel, CostPoint, draw_costs

POINTS = [CostPoint(at, at - 0.5, at, at + 0.5, at / 2) for at in (1, 2, 64)]


def test_a_panel_for_each_thing_that_grows(tmp_path: Path) -> None:
    panels = [CostPanel("decodes", POINTS), CostPanel("prompt, tokens", POINTS[:1]), CostPanel("nothing", [])]
    draw_costs(tmp_path / "costs.svg", panels, "a model in float32")
    said = (tmp_path / "costs.svg").read_text(encoding="utf-8")
    for words in ("decodes", "prompt, tokens", "measured", "floor", "ms an iteration", "a model in float32"):
        assert f"<!-- {words} -->" in said


def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot draw"):
        draw_costs(tmp_path / "no" / "costs.svg", [CostPanel("decodes", POINTS)])
