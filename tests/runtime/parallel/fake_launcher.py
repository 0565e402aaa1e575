"""Starts ranks that have no model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from orcinus.runtime.parallel.rank_config import RankConfig
from orcinus.runtime.parallel.start_local import LocalLauncher

ROOT = Path(__file__).parents[3]


class FakeRanks(LocalLauncher):
    """Processes of `fake_worker`: ranks import nothing from the current folder, so they are told where it is."""

    def __init__(self, threads: int | None = None) -> None:
        super().__init__("tests.runtime.parallel.fake_worker", threads=threads)

    def start(self, configs: Sequence[RankConfig]) -> None:
        with mock.patch.dict(os.environ, {"PYTHONPATH": str(ROOT)}):
            super().start(configs)
