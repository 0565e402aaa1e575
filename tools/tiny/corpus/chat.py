"""Draws whole documents: conversations and plain texts.

Conversations have one or more turns; plain texts have no chat around them.
"""

import random
from dataclasses import dataclass, field

from tools.tiny.corpus import (
    beyond,
    foreign,
    kitchen,
    life,
    models,
    names,
    nature,
    science,
    serving,
    smalltalk,
    stories,
    verses,
)
from tools.tiny.corpus.grammar import Topic, pick, render, untidy
from tools.tiny.corpus.phrases import ABOUT, ABOUT_MANY, AFTER, ANOTHER, ASK_NAME, BEFORE, MORE, MY_NAME, SHORTER

TOPICS: list[Topic] = serving.TOPICS + models.TOPICS + nature.TOPICS + science.TOPICS + kitchen.TOPICS + life.TOPICS
SERVING: list[Topic] = serving.TOPICS + models.TOPICS
LABELS = [
    topic.label
    for topic in TOPICS
    if topic.label not in ("static and continuous batching", "the scheduler of a serving engine")
]

KINDS = {
    "topic": 41.0,
    "refusal": 23.0,
    "smalltalk": 15.0,
    "story": 11.0,
    "joke": 3.5,
    "poem": 5.0,
    "foreign": 1.5,
    "name": 1.5,
}
TURNS = {1: 56.0, 2: 20.0, 3: 11.0, 4: 7.0, 6: 4.0, 8: 2.0}


@dataclass
class Chat:
    """A conversation under construction, with facts for follow-up questions."""

    turns: list[tuple[str, str]] = field(default_factory=list)
    last_topic: Topic | None = None
    last_kind: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        """All answers of the assistant so far."""
        return "\n".join(answer for _, answer in self.turns)


def question(rng: random.Random, topic: Topic, held_out: bool = False) -> str:
    """Ask about a topic, by name or with one of its questions."""
    if not held_out and topic.asks and rng.random() < 0.45:
        text = rng.choice(topic.asks)
    else:
        many = bool(topic.plurals) and rng.random() < len(topic.plurals) / (len(topic.plurals) + len(topic.names))
        patterns = ABOUT_MANY if many else ABOUT
        text = rng.choice(patterns[-2:] if held_out else [*patterns[:-2], *["{x}"] * 5])
        text = text.replace("{x}", rng.choice(topic.plurals if many else topic.names))
        text = text[0].upper() + text[1:]
    return dress(rng, text)


def dress(rng: random.Random, text: str) -> str:
    """Add small words to a question, and make it untidy.

    People write so.
    """
    if rng.random() < 0.08:
        text = rng.choice(BEFORE) + text[0].lower() + text[1:]
    if rng.random() < 0.05:
        text += rng.choice(AFTER)
    return untidy(rng, text)


def _draw(rng: random.Random, weights: dict[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def _topic(rng: random.Random) -> Topic:
    """Draw a topic, those about serving a little more often.

    Serving is what the engine is about.
    """
    return rng.choice(SERVING) if rng.random() < 0.12 else rng.choice(TOPICS)


def foreign_turn(rng: random.Random) -> tuple[str, str]:
    """A turn in another language, or noise, with its answer.

    Other languages are declined; noise is answered like a knock at the door.
    """
    if rng.random() < 0.35:
        noise = next(exchange for exchange in smalltalk.EXCHANGES if exchange.key == "gibberish")
        return foreign.mash(rng), render(rng, noise.slots)
    return untidy(rng, foreign.sentence(rng)), beyond.decline(rng, "foreign", LABELS)


def _introduce(rng: random.Random, chat: Chat) -> tuple[str, str]:
    """A turn in which a name is told or asked for."""
    if chat.name or rng.random() < 0.2:
        answer = f"Your name is {chat.name}, if I heard you right." if chat.name else "You have not told me your name yet."
        return rng.choice(ASK_NAME), answer
    chat.name, _ = names.person(rng)
    answer = pick(rng, ["Nice to meet you, {n}! What would you like to know?", "Hello, {n}! What shall we talk about?"])
    return rng.choice(MY_NAME).replace("{n}", chat.name), answer.replace("{n}", chat.name)


def _fresh_turn(rng: random.Random, chat: Chat, kind: str, held_out: bool) -> tuple[str, str]:
    """A turn with a new subject."""
    if kind == "topic":
        chat.last_topic = _topic(rng)
        return question(rng, chat.last_topic, held_out), render(rng, chat.last_topic.slots)
    if kind == "refusal":
        ask, answer = beyond.refusal(rng, LABELS, held_out)
        return dress(rng, ask), answer
    if kind == "smalltalk":
        exchange = rng.choice(smalltalk.EXCHANGES)
        return untidy(rng, rng.choice(exchange.asks)), render(rng, exchange.slots)
    if kind == "foreign":
        return foreign_turn(rng)
    if kind == "name":
        return _introduce(rng, chat)
    if kind == "joke":
        ask, _ = verses.joke(rng)
        return untidy(rng, ask), verses.pick_joke(rng, chat.text)
    if kind == "story":
        ask, answer = stories.story(rng, beyond.SUBJECTS)
    else:
        ask, answer = verses.poem(rng, beyond.SUBJECTS + beyond.THINGS, chat.text)
    return untidy(rng, ask), answer


def _follow_up(rng: random.Random, chat: Chat) -> tuple[str, str] | None:
    """A turn that depends on the last one; None if none fits."""
    if chat.last_kind in ("topic", "short") and chat.last_topic:
        if chat.last_kind == "topic" and rng.random() < 0.3:
            chat.last_kind = "short"
            said = next(option for option in chat.last_topic.slots[0].options if chat.turns[-1][1].startswith(option))
            return rng.choice(SHORTER), said
        chat.last_kind = ""
        return rng.choice(MORE), render(rng, chat.last_topic.more)
    if chat.last_kind == "joke":
        return rng.choice(ANOTHER), verses.pick_joke(rng, chat.text)
    if chat.last_kind == "story":
        return rng.choice(ANOTHER), stories.tell(rng, *stories.hero_with_name(rng, 0.1))
    if chat.last_kind == "poem":
        return rng.choice(ANOTHER), verses.another(rng, chat.turns[-1][1], chat.text)
    return None


def conversation(rng: random.Random, turns: int, held_out: bool = False) -> Chat:
    """Draw a conversation of `turns` turns.

    It has follow-ups and changes of topic.
    """
    chat = Chat()
    for _ in range(turns):
        turn = _follow_up(rng, chat) if rng.random() < 0.3 else None
        if turn is None:
            chat.last_kind = _draw(rng, KINDS)
            turn = _fresh_turn(rng, chat, chat.last_kind, held_out)
        chat.turns.append(turn)
    return chat


def messages(rng: random.Random, chat: Chat) -> list[dict[str, str]]:
    """The conversation as chat messages.

    Now and then a short system message stands in front.
    """
    result = []
    if rng.random() < 0.15:
        result.append({"role": "system", "content": rng.choice(smalltalk.SYSTEM_PROMPTS)})
    for ask, answer in chat.turns:
        result += [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]
    return result


def plain_text(rng: random.Random) -> str:
    """A text without a chat: a story, or facts about a topic.

    Facts now and then begin in the middle.
    """
    if rng.random() < 0.5:
        return stories.tell(rng, *stories.hero_with_name(rng))
    topic = _topic(rng)
    begin = rng.randrange(len(topic.slots)) if rng.random() < 0.3 else 0
    return render(rng, topic.slots[begin:]) + " " + render(rng, topic.more)


def draw(rng: random.Random, long: bool = False, held_out: bool = False) -> list[dict[str, str]] | str:
    """Draw one document of the training mixture.

    A long one fills most of the context.
    """
    if long:
        return messages(rng, conversation(rng, rng.randint(10, 18), held_out))
    if rng.random() < 0.07:
        return plain_text(rng)
    turns = rng.choices(list(TURNS), list(TURNS.values()))[0]
    return messages(rng, conversation(rng, turns, held_out))
