"""How many examples Hypothesis draws: a third of them in `make test`, all of them with `--all`."""

from __future__ import annotations

from typing import Any

from hypothesis import settings

USUAL = 100  # where a test does not say


def load_examples(every: bool) -> None:
    """Choose, before tests are imported. No example has a deadline: machines are noisy."""
    settings.register_profile("some", deadline=None, max_examples=USUAL // 3)
    settings.register_profile("all", deadline=None, max_examples=USUAL)
    settings.load_profile("all" if every else "some")


def examples(count: int, **options: Any) -> settings:
    """Settings of a test that says how many it needs."""
    every = settings.get_current_profile_name() == "all"
    return settings(max_examples=count if every else -(-count // 3), **options)
