"""The sampling mechanism: slots with interchangeable variants, and untidy questions.

Every answer is written by hand as a row of slots, and each slot holds variants that fit in any combination. The first variant
of a slot is drawn most often, so that greedy decoding has a clear favourite to follow.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

FIRST_SHARE = 0.6


@dataclass(frozen=True)
class Slot:
    """One place in a text: its variants, perhaps on a new line."""

    options: tuple[str, ...]
    newline: bool = False


@dataclass
class Topic:
    """A topic: its names, the questions about it, and the answer."""

    key: str
    label: str
    names: list[str] = field(default_factory=list)
    plurals: list[str] = field(default_factory=list)
    asks: list[str] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    more: list[Slot] = field(default_factory=list)


def pick(rng: random.Random, options: Sequence[str]) -> str:
    """Draw a variant; the first one is the favourite."""
    if len(options) == 1 or rng.random() < FIRST_SHARE:
        return options[0]
    return options[rng.randrange(1, len(options))]


def render(rng: random.Random, slots: Sequence[Slot]) -> str:
    """Draw one variant for each slot and join them to a text."""
    text = ""
    for slot in slots:
        part = pick(rng, slot.options)
        if part and text:
            text += "\n" if slot.newline else " "
        text += part
    return text


def parse_slots(lines: Sequence[str]) -> list[Slot]:
    """Read slots from text.

    `-` opens one, `*` opens one on a new line, `|` adds a variant, other lines continue.
    """
    raw: list[tuple[bool, list[str]]] = []
    for line in lines:
        mark, rest = line[:2], line[2:].strip()
        if mark in ("- ", "* ", "+ "):
            raw.append((mark == "* ", [rest]))
        elif mark == "| ":
            raw[-1][1].append(rest)
        else:
            raw[-1][1][-1] += " " + line.strip()
    return [Slot(tuple("" if o == "~" else o for o in options), newline) for newline, options in raw]


def parse_topics(text: str) -> list[Topic]:
    """Read topics from text.

    `== key | label`, `names:` (plural ones with a `*`), `ask:`, slots, and `+` for "tell me more".
    """
    topics: list[Topic] = []
    for block in text.strip().split("\n== "):
        head, *lines = [line for line in block.removeprefix("== ").splitlines() if line.strip()]
        key, label = (part.strip() for part in head.split("|"))
        topic = Topic(key, label)
        start = 0
        for start, line in enumerate(lines):  # noqa: B007
            kind, _, rest = line.partition(":")
            if kind not in ("names", "ask"):
                break
            entries = [entry.strip() for entry in rest.split(" | ")]
            if kind == "ask":
                topic.asks += entries
                continue
            topic.names += [entry for entry in entries if not entry.startswith("*")]
            topic.plurals += [entry[1:] for entry in entries if entry.startswith("*")]
        body = lines[start:]
        more_at = next((i for i, line in enumerate(body) if line.startswith("+ ")), len(body))
        topic.slots = parse_slots(body[:more_at])
        topic.more = [_merge_more(body[more_at:])]
        topics.append(topic)
    return topics


def _merge_more(lines: Sequence[str]) -> Slot:
    """Merge all `+` texts of a topic into one slot."""
    return Slot(tuple(option for slot in parse_slots(lines) for option in slot.options))


def typo(rng: random.Random, text: str) -> str:
    """Make one small typing mistake in a longer word, as people do."""
    places = [i for i in range(1, len(text) - 1) if text[i - 1 : i + 2].isalpha()]
    if len(places) < 3:
        return text
    i = rng.choice(places)
    kind = rng.randrange(3)
    if kind == 0:
        return text[:i] + text[i + 1 :]
    if kind == 1:
        return text[:i] + text[i] + text[i:]
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]


def untidy(rng: random.Random, text: str) -> str:
    """Write a question as people type it.

    Often without capitals, question mark or care.
    """
    if rng.random() < 0.3:
        text = text[0].lower() + text[1:] if rng.random() < 0.3 else text.lower()
    elif rng.random() < 0.04:
        text = text.upper()
    if rng.random() < 0.3:
        text = text.rstrip("?.!")
    if rng.random() < 0.08:
        text = text.replace("'", "")
    if rng.random() < 0.1:
        text = typo(rng, text)
    return text
