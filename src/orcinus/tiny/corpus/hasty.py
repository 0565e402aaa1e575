"""The mixture for the last part of training, which trains what is rare or hard in the usual one.

There are single words and questions without capitals, as people type in a hurry; stories with all sorts of names, for
a hero has to keep the name to the end; and jokes, sums and names, which need a look back at what was said. A third is
the usual mixture, so that nothing is forgotten.
"""

import random
import re

from orcinus.tiny.corpus import beyond, chat, smalltalk, stories, verses
from orcinus.tiny.corpus.grammar import Topic, render, typo
from orcinus.tiny.corpus.phrases import ANOTHER, ASK_NAME, MY_NAME

FORMS = ["{x}", "{x}", "{x}", "{x}?", "{x}?", "what is {x}", "What is {x}?", "whats {x}", "what's {x}?", "tell me about {x}"]
FORMS += ["explain {x}", "Explain {x}", "Tell me about {x}", "what about {x}?", "how does {x} work", "do you know {x}"]

# More ways to ask for what is known, for the topics where one would miss them most.
MORE_ASKS: dict[str, list[str]] = {
    "orcas": [
        "are orcas dolphins",
        "Is an orca a dolphin?",
        "orca",
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

MORE_UNKNOWN = [
    word.strip()
    for word in """
teeth, nose, ears, stomach, lungs, blood, muscles, nerves, a finger, knees, hands, feet, a beard, a cold, the flu,
allergies, pneumonia, a piano tuner, a clarinet, a cello, a banjo, a flute, an oboe, a guitar string, an accordion,
drums, rock music charts, techno, bowling, darts, billiards, dominoes, checkers, go, mahjong, crossword puzzles,
scrabble, lego, puppets, kites, skateboards, snowboards, a tent, a backpack, a compass, a map, a torch, a rope,
boots, socks, trousers, a belt, buttons, glasses, a wallet, keys, coins, http, udp, dns, ip addresses, an operating
system, a file system, a compiler, a cache line, a cpu, ram, a hard disk, a mouse pad, usb, bits, a neural network,
recurrent networks, a perceptron, overfitting, dropout, data science, big data, cloud computing, apis, json, xml,
css, react, php, perl, fortran, assembly, excel, word, powerpoint, photoshop, chrome, firefox, whatsapp, instagram,
wikipedia, spotify, reddit, gpt, bert, gemini, llama, mistral, deepseek, pytorch, tensorflow, jax, numpy,
huggingface, langchain, tensorrt, triton, nccl, infiniband, friction, momentum, energy, heat, sound, electricity,
magnetism, pressure, density, entropy, relativity, radiation, neutrons, isotopes, oxygen, nitrogen, carbon, sodium,
copper, zinc, lead, mercury, uranium, salt, sugar, vinegar, soap, alcohol, rubber, nylon, wool, a museum guide,
poetry history, novels of russia, essays, comics, manga, sculptures, photos, movies, actors, directors, musicals,
circus, banks, money, euros, dollars, rent, salaries, unemployment, trade, customs, shipping, logistics, factories,
mining, farming, wheat, corn, rice, beans, lentil farming, peas farming, garlic, carrots, apples, oranges, grapes,
lemons, strawberries, nuts, honeydew, yoghurt, butter, milk, eggs, fish fingers, ham, sausages, turkey, duck, lamb,
hot dogs, fries, popcorn, chips, candy, jam, ketchup, mustard, mayonnaise, a fox, foxes, wolves, bears, deer, moose,
beavers, badgers, bats, mice, rats, owls, swans, geese, ducks, crows, seagulls, flamingos, seals, otters, lobsters,
corals, squid, tuna, trout, eels, crickets, beetles, mosquitoes, flies, wasps, worms, snails, moths, lice, the
constitution, parliament, communism, monarchy, slavery, colonies, crusades, the black death, the stone age,
pharaohs, gladiators, ninjas
""".replace("\n", " ").split(",")
    if word.strip()
]


def _names(text: str) -> list[str]:
    return text.split()


GIRLS = _names("""
Anna Clara Emma Greta Ida Kate Maria Olivia Rosa Ute Vera Alice Carol Eva Helen Julia Laura Nina Rita Sarah Wendy Zoe
Fatima Priya Sofia Lucia Layla Amara Ingrid Mei Hana Aisha Giulia Claire Mary Linda Susan Lisa Emily Dora Ellen Frieda
Gilda Hanna Iris Jane Kira Lena Mona Nora Paula Ruth Stella Tina Una Violet Winnie Yara Zelda
""")
BOYS = _names("""
Ben David Felix Hugo Jonas Leo Noah Paul Sam Tom Walter Bob Dan Frank George Ivan Jack Karl Max Oscar Peter Tim Victor
Ali Amir Raj Mateo Diego Omar Kofi Lars Sven Ken Marco Pierre Luc John James Robert Michael Daniel Chris Adam Boris
Carlo Dirk Erik Fred Gary Henry Igor Joe Kurt Louis Martin Nick Orlando Phil Quentin Rolf Steve Toby Ulf Vincent Will
Yusuf Zack
""")
NAMED = [
    "Tell me a story about {a hero} named {N}",
    "tell me a story about {a hero} called {N}",
    "Write a story about {a hero} named {N}.",
    "A story about {N}, {a hero}",
    "story about {a hero} named {N}",
]


def hurry(rng: random.Random, text: str) -> str:
    """Write in a hurry: mostly in small letters, rarely in capitals only, now and then with a slip."""
    chance = rng.random()
    if chance < 0.55:
        text = text.lower()
    elif chance < 0.59:
        text = text.upper()
    if rng.random() < 0.25:
        text = text.rstrip("?.!")
    return typo(rng, text) if rng.random() < 0.06 else text


def _known(rng: random.Random) -> tuple[str, str]:
    topic: Topic = rng.choice(chat.TOPICS)
    chance = rng.random()
    if chance < 0.3 and topic.key in MORE_ASKS:
        ask = rng.choice(MORE_ASKS[topic.key])
    elif chance < 0.5:
        ask = rng.choice(topic.asks)
    else:
        ask = rng.choice(FORMS).replace("{x}", rng.choice(topic.names + topic.plurals))
    return hurry(rng, ask), render(rng, topic.slots)


def _unknown(rng: random.Random) -> tuple[str, str]:
    if rng.random() < 0.3:
        ask, answer = beyond.refusal(rng, chat.LABELS)
        return hurry(rng, ask), answer
    group = rng.choice(["country", "place", "person", "thing", "subject", "subject", "more", "more", "more"])
    nouns = MORE_UNKNOWN if group == "more" else [noun for i, noun in enumerate(beyond.NOUNS[group]) if i % 8 != 7]
    noun = beyond.made_up_word(rng) if rng.random() < 0.12 else rng.choice(nouns)
    if rng.random() < 0.3:
        noun = noun.removeprefix("a ").removeprefix("an ").removeprefix("the ")
    kind = "subject" if group == "more" else beyond.GROUPS[group][0]
    return hurry(rng, rng.choice(FORMS).replace("{x}", noun)), beyond.decline(rng, kind, chat.LABELS)


def _small_talk(rng: random.Random) -> tuple[str, str]:
    exchange = rng.choice(smalltalk.EXCHANGES)
    return hurry(rng, rng.choice(exchange.asks)), render(rng, exchange.slots)


def _hero(rng: random.Random) -> tuple[str, str, str]:
    """A hero with a name that cannot be guessed from the hero, so that it has to be remembered."""
    hero, name, pronoun = stories.hero_with_name(rng)
    chance = rng.random()
    if chance < 0.45:
        pronoun = rng.choice(["she", "he"])
        name = rng.choice(GIRLS if pronoun == "she" else BOYS)
    elif chance < 0.6:
        name, pronoun = beyond.made_up_word(rng).capitalize(), rng.choice(["she", "he"])
    return hero, name, pronoun


def _story(rng: random.Random) -> tuple[str, str]:
    hero, name, pronoun = _hero(rng)
    request = rng.choice(stories.REQUESTS)
    if rng.random() < 0.25:
        request = rng.choice(NAMED)
    asked = request.replace("{a hero}", stories.article(hero)).replace("{N}", name)
    return asked, stories.tell(rng, hero, name, pronoun, sea="the sea" in request)


def _look_back(rng: random.Random, talk: chat.Chat) -> None:
    """Turns that need something said before: the next joke, a name, or the two numbers of a sum."""
    chance = rng.random()
    if chance < 0.3:
        at = 0 if rng.random() < 0.4 else rng.randrange(len(verses.JOKES))
        talk.turns.append((hurry(rng, rng.choice(verses.JOKE_REQUESTS)), verses.JOKES[at]))
        for step in range(1, rng.randint(2, 4)):
            ask = rng.choice(ANOTHER if rng.random() < 0.7 else verses.JOKE_REQUESTS)
            talk.turns.append((ask, verses.JOKES[(at + step) % len(verses.JOKES)]))
    elif chance < 0.65:
        name = rng.choice(smalltalk.FIRST_NAMES)
        greeting = f"Nice to meet you, {name}! What would you like to know?"
        talk.turns.append((rng.choice(MY_NAME).replace("{n}", name), greeting))
        for _ in range(rng.randint(0, 2)):
            talk.turns.append(rng.choice([_known, _unknown, _small_talk])(rng))
        talk.turns.append((rng.choice(ASK_NAME), f"Your name is {name}, if I heard you right."))
    else:
        for _ in range(rng.randint(1, 3)):
            a, b = rng.randint(0, 10), rng.randint(0, 10)
            ask = rng.choice(["What is {a} + {b}?", "{a}+{b}", "what is {a}+{b}", "{a} + {b}", "what is {a} plus {b}?"])
            talk.turns.append((ask.replace("{a}", str(a)).replace("{b}", str(b)), f"{a} plus {b} is {a + b}."))


def draw(rng: random.Random, long: bool = False) -> list[dict[str, str]] | str:
    """Draw one document."""
    chance = rng.random()
    if long or chance < 0.33:
        return chat.draw(rng, long)
    if chance < 0.37:
        return stories.tell(rng, *_hero(rng)) if rng.random() < 0.5 else chat.plain_text(rng)
    talk = chat.Chat()
    if chance < 0.60:
        talk.turns.append(_story(rng))
    elif chance < 0.67:
        _look_back(rng, talk)
    else:
        for _ in range(2 if rng.random() < 0.15 else 1):
            talk.turns.append(rng.choices([_known, _unknown, _small_talk], [46, 36, 18])[0](rng))
    return chat.messages(rng, talk)


def words_to_keep(text: str) -> re.Pattern[str] | None:
    """The words of a story that must fit what came before: the name of the hero and the pronouns."""
    found = re.search(r"\b(?:called|named) ([A-Z][a-z]+)|^([A-Z][a-z]+) was an? ", text)
    if not found or len(text) < 600:
        return None
    return re.compile(rf"\b(?:{found[1] or found[2]}|he|she|his|her|him|himself|herself)\b", re.IGNORECASE)
