"""How many examples and seeds a test takes: a fifth of them in `make test`, all with `--all`, many more in `make fuzz`."""

from __future__ import annotations

from typing import Any

from hypothesis import settings

USUAL = 100  # where a test does not say
FEWER = 5


def load_examples(every: bool, times: int = 1) -> None:
    """Choose, before tests are imported. No example has a deadline: machines are noisy."""
    settings.register_profile("some", deadline=None, max_examples=USUAL // FEWER)
    settings.register_profile("all", deadline=None, max_examples=USUAL * times)
    settings.load_profile("all" if every else "some")


def examples(count: int, **options: Any) -> settings:
    """Settings of a test that says how many it needs."""
    times = settings().max_examples // USUAL if whole() else 1
    return settings(max_examples=times * fewer(count), **options)


def fewer(count: int, least: int = 1) -> int:
    """How many of `count` seeds, examples or repetitions to take; at least `least`."""
    return count if whole() else max(least, -(-count // FEWER))


def whole() -> bool:
    """Whether everything is run (`--all`)."""
    return settings.get_current_profile_name() == "all"
