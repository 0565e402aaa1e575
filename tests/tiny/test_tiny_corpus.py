"""The texts of the bundled model: the same for the same seed, complete, and of a sensible length."""

import random
import re

import pytest

from tools.tiny.corpus import beyond, chat, final_mixture, phrases, smalltalk, stories, unknown_topics, verses
from tools.tiny.corpus.grammar import Topic, render, typo, untidy

LEFTOVER = re.compile(r"[{}|~]|  |\\n|\bundefined\b")


def draws(seed: int, count: int, held_out: bool = False) -> list[list[dict[str, str]] | str]:
    rng = random.Random(seed)
    return [chat.draw(rng, long=i % 100 == 0, held_out=held_out) for i in range(count)]


def test_same_seed_gives_same_documents() -> None:
    assert draws(3, 300) == draws(3, 300)
    assert draws(3, 300) != draws(4, 300)


def test_nothing_is_left_unfilled() -> None:
    for document in draws(11, 3000):
        if isinstance(document, str):
            assert not LEFTOVER.search(document)
            continue
        for message in document:
            if message["role"] == "assistant":
                assert not LEFTOVER.search(message["content"]), message["content"]
            assert not re.search(r"\{[a-z]", message["content"]), message["content"]
            assert message["content"].strip() or message["role"] == "user"


def test_conversations_alternate() -> None:
    for document in draws(12, 500):
        if isinstance(document, str):
            continue
        roles = [message["role"] for message in document if message["role"] != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)


@pytest.mark.parametrize("topic", chat.TOPICS, ids=lambda topic: topic.key)
def test_every_topic_is_complete_and_of_sensible_length(topic: Topic) -> None:
    rng = random.Random(topic.key)
    assert topic.asks
    assert topic.names or topic.plurals
    assert topic.more[0].options
    for slot in topic.slots:
        assert all(option[-1] in '.!?"' for option in slot.options), slot
    for _ in range(20):
        assert 45 <= len(render(rng, topic.slots).split()) <= 140
        assert 12 <= len(render(rng, topic.more).split()) <= 60


def test_topic_keys_and_questions_are_unique() -> None:
    keys = [topic.key for topic in chat.TOPICS + smalltalk.EXCHANGES]
    assert len(keys) == len(set(keys))
    seen: dict[str, str] = {}
    for topic in chat.TOPICS:
        for text in {name.lower() for name in topic.names + topic.plurals} | {ask.lower() for ask in topic.asks}:
            assert seen.setdefault(text, topic.key) == topic.key, text


def test_known_names_are_never_declined() -> None:
    known = {name.lower() for topic in chat.TOPICS for name in topic.names + topic.plurals}
    unknown = {noun.lower() for nouns in beyond.NOUNS.values() for noun in nouns}
    assert not known & unknown
    known_questions = {ask.lower() for topic in chat.TOPICS for ask in topic.asks}
    assert not known_questions & {ask.lower() for asks in beyond.QUESTIONS.values() for ask in asks}


def test_there_is_much_to_decline() -> None:
    assert sum(len(nouns) for nouns in beyond.NOUNS.values()) > 600
    rng = random.Random(5)
    for _ in range(500):
        question, answer = beyond.refusal(rng, chat.LABELS)
        assert question
        assert 20 <= len(answer.split()) <= 60


def test_held_out_nouns_and_phrasings_stay_out_of_training() -> None:
    rng = random.Random(6)
    asked = " ".join(beyond.refusal(rng, chat.LABELS)[0] for _ in range(3000))
    assert beyond.COUNTRIES[7] not in asked
    assert beyond.COUNTRIES[6] in asked
    topic = next(topic for topic in chat.TOPICS if topic.key == "kv-cache")
    phrased = {chat.question(rng, topic) for _ in range(2000)}
    assert not any(text.lower().startswith(("give me some facts", "in a few words")) for text in phrased)
    assert phrases.ABOUT[-1] == "Give me some facts about {x}"


def test_stories_name_their_hero_and_keep_the_pronoun() -> None:
    rng = random.Random(8)
    for plot in range(400):
        hero, name, pronoun = stories.hero_with_name(rng)
        text = stories.tell(rng, hero, name, pronoun, sea=plot % 7 == 0)
        assert stories.article(hero) in text
        assert text.count(name) >= 3
        assert 130 <= len(text.split()) <= 240
    assert len(stories.HEROES) >= 25
    assert len(stories.PLOTS) >= 6


def test_articles_and_plurals() -> None:
    assert stories.article("owl") == "an owl"
    assert stories.article("unicorn") == "a unicorn"
    assert stories.plural("fox") == "foxes"
    assert stories.plural("wolf") == "wolves"


def test_a_joke_is_not_told_twice_in_a_row() -> None:
    rng = random.Random(9)
    told = ""
    for _ in range(len(verses.JOKES)):
        joke = verses.pick_joke(rng, told)
        assert joke not in told
        told += joke + "\n"


def test_untidy_writing_changes_little() -> None:
    rng = random.Random(10)
    for _ in range(300):
        text = "What is the KV cache?"
        assert abs(len(untidy(rng, text)) - len(text)) <= 2
        assert abs(len(typo(rng, text)) - len(text)) <= 1


def test_questions_of_the_final_mixture_are_deterministic_and_disjoint() -> None:
    assert [final_mixture.draw(random.Random(i)) for i in range(200)] == [
        final_mixture.draw(random.Random(i)) for i in range(200)
    ]
    assert set(final_mixture.MORE_ASKS) <= {topic.key for topic in chat.TOPICS}
    known = {name.lower() for topic in chat.TOPICS for name in topic.names + topic.plurals + topic.asks}
    known |= {ask.lower() for asks in final_mixture.MORE_ASKS.values() for ask in asks}
    held_out = {noun.lower() for nouns in beyond.NOUNS.values() for noun in nouns[7::8]}
    assert not {word.lower() for word in unknown_topics.WORDS} & (known | held_out)
