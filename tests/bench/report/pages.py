"""Results that are hard to report, and what a test asks of a page."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

from orcinus.bench.record import RequestOutcome
from orcinus.bench.result import Result
from tests.bench import made_up

REJECTED = RequestOutcome.REJECTED
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Tags, tables and text of a page, whose tags must all be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[int]] = []  # cells of each row of each table
        self._open: list[str] = []
        self._words: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append(0)
        elif tag in ("th", "td"):
            self.tables[-1][-1] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self._open):
            self._words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._words).split())


def sweep(offered: tuple[int, ...] = (1, 2, 4)) -> Result:
    """Two policies at several rates."""
    sides = [
        made_up.side(f"{policy}, {rate}/s", settings={"system": policy, "rate": rate}, faster=1 + 1 / rate)
        for rate in offered
        for policy in ("orca", "stall-free")
    ]
    return made_up.result(sides, kind="sweep", objectives={"ttft": 1.0, "tbt": 0.1})


def capacity() -> Result:
    """Two policies, each at rates of its own."""
    sides = [
        made_up.side(f"{policy}, {rate}/s", repeats=1, settings={"system": policy, "rate": rate, "kept": rate < 4})
        for policy, rates in (("orca", (1, 2, 4)), ("stall-free", (1, 3)))
        for rate in rates
    ]
    promises = {"tbt.p99": 0.1, "ttft.p50": 2.0}
    return made_up.result(sides, kind="capacity", objectives=promises, capacity={"orca": 2, "stall-free": 3})


def refused() -> Result:
    """Not one request was served."""
    made = made_up.side("orca")
    repeats = tuple(
        replace(
            each,
            requests=tuple(made_up.spoil(one, REJECTED, "503") for one in each.requests),
            problems=("rejected",),
        )
        for each in made.repeats
    )
    return made_up.result([replace(made, repeats=repeats)])


RESULTS = {
    "plain": made_up.result(),
    "one repeat": made_up.result([made_up.side("alone", repeats=1)]),
    "sweep": sweep(),
    "capacity": capacity(),
    "interrupted": made_up.result([made_up.side("orca"), made_up.side("stall-free", repeats=1, partial=True)], complete=False),
    "nothing measured": made_up.result([made_up.side("orca", repeats=0), made_up.side("stall-free", repeats=0)]),
    "no requests": made_up.result([made_up.side("orca", requests=0)]),
    "no sides": made_up.result([]),
    "nothing served": refused(),
    "one token each": made_up.result([made_up.side("orca", tokens=1)]),
    "a server": made_up.result([made_up.side("a server", iterations=(), slots=None, load=None)], kind="serve"),
    "nine sides": made_up.result([made_up.side(f"side {number}", repeats=1) for number in range(9)]),
    "hostile": made_up.result(
        [made_up.side(made_up.HOSTILE), made_up.side("other" * 60, problems=(made_up.HOSTILE,))],
        command=("orcinus", made_up.HOSTILE, "`" * 3),
        versions={made_up.HOSTILE: made_up.HOSTILE},
    ),
}
