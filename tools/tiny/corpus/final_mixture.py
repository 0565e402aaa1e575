"""The mixture for the last part of training.

It trains what is rare or hard in the usual mixture: single words and questions without capitals, as people type in a hurry;
stories with all sorts of names, because a hero has to keep the name to the end; and jokes and names, which need a look back at
earlier turns. A third is the usual mixture, so that nothing is forgotten.
"""

import random
import re

from tools.tiny.corpus import beyond, chat, names, smalltalk, stories, unknown_topics, verses
from tools.tiny.corpus.grammar import Topic, render, typo
from tools.tiny.corpus.phrases import ANOTHER, ASK_NAME, MY_NAME

FORMS = [
    "{x}",
    "{x}",
    "{x}",
    "{x}",
    "{x}",
    "{x}?",
    "{x}?",
    "{x}!",
    "what is {x}",
    "What is {x}?",
    "whats {x}",
    "what's {x}?",
    "tell me about {x}",
]
FORMS += ["explain {x}", "Explain {x}", "Tell me about {x}", "what about {x}?", "how does {x} work", "do you know {x}"]

# More ways to ask about the most important known topics.
MORE_ASKS: dict[str, list[str]] = {
    "orcas": [
        "are orcas dolphins",
        "Is an orca a dolphin?",
        "orcas in the ocean",
        "what is an orca whale",
        "why are orcas called killer whales?",
    ],
    "orca-system": ["what does orca do?", "orca osdi 2022", "the orca serving paper", "How does Orca batch requests?"],
    "static-batching": ["why does static batching waste time?", "what is wrong with request-level batching", "static batch"],
    "continuous-batching": ["continuous batching in llm serving", "what is continuous batching for?", "continuous batch"],
    "kv-cache": ["what does the kv cache do", "kv cache?", "why a kv cache", "key value cache", "keys and values cache"],
    "paged-kv": ["what is vLLM", "vllm?", "paged kv", "pagedattention", "kv cache paging", "kv block"],
    "preemption": ["what happens when the kv cache runs out of space", "what if the kv cache runs out of memory?", "preempt"],
    "sarathi": [
        "sarathi serve",
        "what does sarathi do",
        "decode-maximal batching",
        "stall-free batching",
        "piggybacking decodes",
    ],
    "batch-size": ["batch", "batching?", "what is a batch", "how large should a batch be"],
    "tbt": ["itl", "tbt", "what is itl", "token speed"],
    "ttft": ["ttft", "what is ttft", "first token latency"],
    "llm": ["llm", "what is an llm", "what are llms", "language models", "how do llms work", "what is a language model"],
    "gpu": ["gpu", "what is a gpu", "gpus", "why gpus"],
    "token": ["token", "tokens", "what is a token", "whats a token"],
    "tokenizer": ["tokenizer", "what is a tokenizer", "bpe"],
    "scheduler": ["scheduler", "llm serving", "inference engine", "how does an llm server work"],
    "pasta": [
        "pasta recipe",
        "pasta ideas",
        "pasta!",
        "what should i cook",
        "dinner ideas",
        "dinner",
        "what can i cook today",
        "I'm hungry, what can I cook?",
        "i am hungry",
    ],
    "soup": ["soup recipe", "vegetable soup recipe", "soup ideas", "a warm soup"],
    "breakfast": ["breakfast ideas", "what to eat for breakfast", "breakfast recipe"],
    "coffee": ["how to brew coffee", "how to make coffee", "brew coffee", "good coffee"],
    "tea": ["how to make tea", "how to brew tea", "good tea"],
    "bread": ["bake bread", "how to bake bread", "bread recipe"],
    "cats": ["tell me about your cat", "cats?", "cat", "kitten"],
    "dogs": ["how do dogs smell", "dog", "dogs?", "puppy"],
    "whales": ["whale", "do whales sleep?", "blue whale"],
    "dolphins": ["dolphin", "dolphins?", "are dolphins whales"],
    "bees": ["bee", "bees?", "honey", "how is honey made"],
    "black-holes": ["black hole", "what are black holes made of", "black holes?"],
    "stars": ["star", "stars?", "what is a star made of"],
    "moon": ["moon", "moon?", "how far is the moon", "the moon phases"],
    "rain": ["rainbow", "rain?", "clouds", "why are there clouds"],
    "thunder": ["what is lightning", "lightning?", "thunderstorm", "thunder and lightning"],
    "blue-sky": ["why is the sky blue", "blue sky?", "sky blue why", "why the sky is blue"],
    "sleep": ["i cant sleep", "how to sleep better", "sleep tips", "sleep better", "insomnia"],
    "exercise": ["how do I stay fit", "how to get fit", "workout", "exercise ideas", "i want to go for a walk"],
    "learning": ["how to study", "how to learn faster", "study tips"],
    "bicycle": ["bike", "bicycle", "how does a bike work"],
    "happiness": ["i am bored", "bored", "cheer me up", "how to be happy"],
    "quantum": ["quantum", "quantum physics?", "what is quantum physics about"],
    "atoms": ["atom", "molecule", "what is a molecule"],
    "orcinus": ["orcinus", "what is orcinus", "orcinus engine", "what is the orcinus engine"],
}

NAMED = [
    "Tell me a story about {a hero} named {N}",
    "tell me a story about {a hero} called {N}",
    "Write a story about {a hero} named {N}.",
    "A story about {N}, {a hero}",
    "story about {a hero} named {N}",
]


def hurry(rng: random.Random, text: str) -> str:
    """Write in a hurry: small letters, capitals only, or with slips.

    Small letters are the usual case.
    """
    chance = rng.random()
    if chance < 0.5:
        text = text.lower()
    elif chance < 0.6:
        text = text.upper()
    if rng.random() < 0.25:
        text = text.rstrip("?.!")
    return typo(rng, text) if rng.random() < 0.06 else text


def bare(noun: str) -> str:
    """Leave out the article."""
    return noun.removeprefix("a ").removeprefix("an ").removeprefix("the ")


def _known(rng: random.Random) -> tuple[str, str]:
    topic: Topic = rng.choice(chat.TOPICS)
    chance = rng.random()
    if chance < 0.3 and topic.key in MORE_ASKS:
        ask = rng.choice(MORE_ASKS[topic.key])
    elif chance < 0.5:
        ask = rng.choice(topic.asks)
    else:
        name = rng.choice(topic.names + topic.plurals)
        ask = rng.choice(FORMS).replace("{x}", bare(name) if rng.random() < 0.4 else name)
    return hurry(rng, ask), render(rng, topic.slots)


def _unknown(rng: random.Random) -> tuple[str, str]:
    chance = rng.random()
    if chance < 0.06:
        return chat.foreign_turn(rng)
    if chance < 0.3:
        ask, answer = beyond.refusal(rng, chat.LABELS)
        return hurry(rng, ask), answer
    if chance < 0.45:
        return hurry(rng, rng.choice(unknown_topics.QUESTIONS)), beyond.decline(rng, "subject", chat.LABELS)
    group = rng.choice(["country", "place", "person", "thing", "subject", *["more"] * 6])
    nouns = unknown_topics.WORDS if group == "more" else [noun for i, noun in enumerate(beyond.NOUNS[group]) if i % 8 != 7]
    noun = beyond.made_up_word(rng) if rng.random() < 0.12 else rng.choice(nouns)
    if rng.random() < 0.3:
        noun = bare(noun)
    if rng.random() < 0.1:
        noun = f"{noun} and {rng.choice(nouns)}"
    kind = "subject" if group == "more" else beyond.GROUPS[group][0]
    return hurry(rng, rng.choice(FORMS).replace("{x}", noun)), beyond.decline(rng, kind, chat.LABELS)


def _small_talk(rng: random.Random) -> tuple[str, str]:
    exchange = rng.choice(smalltalk.EXCHANGES)
    return hurry(rng, rng.choice(exchange.asks)), render(rng, exchange.slots)


def _hero(rng: random.Random) -> tuple[str, str, str]:
    """A hero and a name that cannot be guessed from it.

    So the name has to be remembered.
    """
    hero, name, pronoun = stories.hero_with_name(rng)
    if rng.random() < 0.6:
        name, pronoun = names.person(rng, 0.5)
    return hero, name, pronoun


def _story(rng: random.Random) -> tuple[str, str]:
    hero, name, pronoun = _hero(rng)
    request = rng.choice(stories.REQUESTS)
    if rng.random() < 0.4:
        request = rng.choice(NAMED)
    return _tell(rng, request, hero, name, pronoun)


def _tell(rng: random.Random, request: str, hero: str, name: str, pronoun: str) -> tuple[str, str]:
    asked = request.replace("{a hero}", stories.article(hero)).replace("{N}", name)
    return asked, stories.tell(rng, hero, name, pronoun, sea="the sea" in request)


def _look_back(rng: random.Random, talk: chat.Chat) -> None:
    """Turns that need earlier ones: the next joke, or a name."""
    if rng.random() < 0.35:
        at = 0 if rng.random() < 0.4 else rng.randrange(len(verses.JOKES))
        talk.turns.append((hurry(rng, rng.choice(verses.JOKE_REQUESTS)), verses.JOKES[at]))
        for step in range(1, rng.randint(2, 4)):
            ask = rng.choice(ANOTHER if rng.random() < 0.7 else verses.JOKE_REQUESTS)
            talk.turns.append((ask, verses.JOKES[(at + step) % len(verses.JOKES)]))
        return
    _introduce(rng, talk)
    for _ in range(rng.randint(0, 2)):
        talk.turns.append(rng.choice([_known, _unknown, _small_talk])(rng))
    talk.turns.append((rng.choice(ASK_NAME), f"Your name is {talk.name}, if I heard you right."))


def _introduce(rng: random.Random, talk: chat.Chat) -> None:
    talk.name, _ = names.person(rng, 0.5)
    greeting = f"Nice to meet you, {talk.name}! What would you like to know?"
    talk.turns.append((rng.choice(MY_NAME).replace("{n}", talk.name), greeting))


def _poem(rng: random.Random) -> tuple[str, str]:
    ask, answer = verses.poem(rng, unknown_topics.WORDS)
    return hurry(rng, ask), answer


Conversation = list[dict[str, str]]


def quick(rng: random.Random) -> Conversation:
    """One question; only its answer's first words are worth learning."""
    talk = chat.Chat()
    talk.turns.append(rng.choices([_known, _unknown, _small_talk], [50, 33, 17])[0](rng))
    return chat.messages(rng, talk)


def named(rng: random.Random) -> Conversation:
    """One turn in which a name has to be copied.

    Half of the names are made up.
    """
    talk = chat.Chat()
    if rng.random() < 0.5:
        _introduce(rng, talk)
        if rng.random() < 0.3:
            talk.turns.append((rng.choice(ASK_NAME), f"Your name is {talk.name}, if I heard you right."))
    else:
        hero, name, pronoun = _hero(rng)
        talk.turns.append(_tell(rng, rng.choice(NAMED), hero, name, pronoun))
    return chat.messages(rng, talk)


def draw(rng: random.Random, long: bool = False) -> Conversation | str:
    """Draw one document."""
    chance = rng.random()
    if long or chance < 0.4:
        return chat.draw(rng, long)
    if chance < 0.45:
        return stories.tell(rng, *_hero(rng)) if rng.random() < 0.5 else chat.plain_text(rng)
    talk = chat.Chat()
    if chance < 0.70:
        talk.turns.append(_story(rng))
    elif chance < 0.75:
        talk.turns.append(_poem(rng))
    elif chance < 0.82:
        _look_back(rng, talk)
    else:
        for _ in range(rng.choices([1, 2, 4], [70, 20, 10])[0]):
            talk.turns.append(rng.choices([_known, _unknown, _small_talk], [46, 36, 18])[0](rng))
    return chat.messages(rng, talk)


def words_to_keep(text: str) -> re.Pattern[str] | None:
    """The words of an answer that must fit earlier words.

    These are a name, and in a story the pronouns of its hero.
    """
    greeted = re.search(r"^(?:Nice to meet you|Hello|Your name is),? ([A-Z][a-z]+)\b[!,]", text)
    if greeted:
        return re.compile(rf"\b{greeted[1]}\b")
    found = re.search(r"\b(?:called|named) ([A-Z][a-z]+)|^([A-Z][a-z]+) was an? ", text)
    if not found or len(text) < 600:
        return None
    return re.compile(rf"\b(?:{found[1] or found[2]}|he|she|his|her|him|himself|herself)\b", re.IGNORECASE)
