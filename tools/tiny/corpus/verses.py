"""Jokes, haiku and rhymes."""

import random

from tools.tiny.corpus.grammar import pick

JOKES = [
    line.strip()
    for line in """
Why did the token cross the road? To get to the other batch.
Why was the scheduler never late? It took everything one iteration at a time.
What do you call a fish without eyes? A fsh.
Why don't skeletons fight each other? They don't have the guts.
What do you call a bear with no teeth? A gummy bear.
Why did the bicycle fall over? It was two-tired.
What did the ocean say to the beach? Nothing, it just waved.
Why did the scarecrow win a prize? He was outstanding in his field.
What do you call cheese that is not yours? Nacho cheese.
Why can't you trust atoms? They make up everything.
What is brown and sticky? A stick.
Why did the coffee call the police? It got mugged.
How does the Moon cut his hair? Eclipse it.
Why did the whale go to school? He wanted to make some porpoise of his life.
What did the zero say to the eight? Nice belt!
Why are fish so clever? Because they live in schools.
What do you get when you cross a snowman and a vampire? Frostbite.
Two short requests are waiting behind a long one. "How long will it take?" asks the first. "Until the last word,"
  says the other. "Static batching."
""".replace("\n  ", " ")
    .strip()
    .splitlines()
]

JOKE_REQUESTS = [
    "Tell me a joke",
    "Tell me a joke.",
    "joke",
    "Do you know a joke?",
    "a joke please",
    "Make me laugh",
    "Say something funny",
    "Tell a joke",
    "Can you tell me a joke?",
    "Got any jokes?",
    "I want a joke",
    "Give me a joke",
    "Know any jokes?",
    "tell me something funny",
    "Another joke please",
]

# subject | haiku, lines split by / | couplet about the subject
VERSES = [
    tuple(part.strip() for part in line.split(" | "))
    for line in """
the sea | The tide comes and goes. / A shell remembers the sea / long after the waves. | The sea has no clock and is
  never late, / it knocks every morning at the harbour gate.
the moon | Moon above the roof, / so far away, and tonight / sitting in my tea. | The moon climbed up on a ladder of
  air / and found that the night had been sitting there.
rain | Rain on the window. / All the roads lead to the sill, / none is in a rush. | The rain came down with a
  thousand feet / and danced all night on the empty street.
a cat | Asleep in the sun, / the cat is teaching the chair / how to do nothing. | The cat on the sill has closed her
  eyes, / and nobody else looks half so wise.
tea | Steam over the cup. / The day sits down for a while / and forgets its name. | The kettle sings and the cup is
  warm, / and far away is the rain and the storm.
autumn | One leaf lets go first. / The others watch how it falls, / and then all want to. | The autumn has painted
  the hills in gold, / and says to the wind, be a little less cold.
spring | Snow is still thinking. / Under the hedge a crocus / has made up its mind. | The spring came in with mud on
  her shoe / and painted the morning a softer blue.
winter | Snow on every fence. / Even the noisy old road / whispers today. | The winter has written in white on the
  pane / the name of the summer, and wiped it again.
summer | Noon without a breeze. / The lizard and the old wall / share one warm idea. | The summer lies down in the
  tall green hay / and has nothing at all to do today.
a whale | A breath on the sea. / Something as big as a house / goes quietly home. | The whale goes down where the
  light grows dim, / and all of the ocean makes room for him.
the stars | So many small lamps, / and nobody up so late / to put them all out. | The stars are lamps that nobody
  lit, / and the night is a chair, so come and sit.
the night | The last window dark. / Only the clock in the hall / is still telling time. | The night came in on its
  velvet feet / and tucked the lamps in along the street.
a bee | A bee in the bloom. / For a moment the flower / has a heartbeat. | The bee has counted the flowers by name,
  / and no two of them taste the same.
snow | First snow on the path. / The sparrow leaves a letter / for the cat to read. | The snow came down without a
  sound / and laid a tablecloth on the ground.
friendship | Two cups, one long walk. / We say nothing for a while / and both understand. | A friend is a lamp in a
  window at night, / who leaves it burning to show you the light.
the morning | The bread smells awake. / Light walks over the table / and sits by my cup. | The morning has opened
  the door with care / and combed the fog from the garden's hair.
the wind | The wind has no home, / so it tries every door once / and goes on singing. | The wind has a tale that it
  cannot keep, / and tells it to trees when they want to sleep.
an orca | Black and white, the fin / writes one line upon the sea / and then turns the page. | The orca wears black
  with a patch of white, / dressed for a dinner that lasts all night.
a language model | One word, then the next. / I do not know how it ends / until I get there. | One word and then the
  next I write, / by day the same as late at night.
the batch | Some come and some go. / The batch is a river now, / no longer a lake. | A short one arrives and a long
  one stays, / and none has to wait for the other for days.
a tree | The tree stands quite still / and yet since the day it came / it has not stopped work. | The tree has been
  standing for ninety years / and tells all the birds whatever it hears.
love | You ask for the salt. / I pass you the whole evening / without noticing. | Love is a coat that was made for
  two, / a little too wide, and it sees you through.
""".replace("\n  ", " ")
    .strip()
    .splitlines()
]

# Other words for the same subjects.
ALIASES: dict[str, list[str]] = {
    subject.strip(): [word.strip() for word in words.split(",")]
    for subject, _, words in (
        line.partition(":")
        for line in """
the sea: the ocean, sea, the waves, ocean, the beach
the moon: moon, moonlight, a full moon
rain: the rain, a rainy day
a cat: cats, my cat, a kitten
tea: a cup of tea, green tea
autumn: fall, autumn leaves
spring: springtime, flowers
winter: the winter, winter days
summer: the summer, a summer day
a whale: whales, the whale, blue whales
the stars: stars, a star, the sky
the night: night, darkness
a bee: bees, honey bees
snow: the snow, a snowy day
friendship: friends, a friend, my best friend
the morning: mornings, sunrise, the dawn
the wind: wind, a storm
an orca: orcas, killer whales, the orca
a language model: language models, AI, an AI, LLMs, yourself, a computer
the batch: batching, continuous batching, a batch, scheduling
a tree: trees, the forest, an old tree
love: my love, being in love
""".strip().splitlines()
    )
}

CLOSINGS = [
    "So sit for a while and let it be, / there is room on the bench for you and me.",
    "And if you are quiet, you just might hear / that something friendly is very near.",
    "The day may be long and the road may bend, / but every evening there waits a friend.",
    "I have written it down so that you can keep / one little line for the edge of sleep.",
]

HAIKU_REQUESTS = [
    "Write a haiku about {x}",
    "A haiku about {x}, please",
    "haiku about {x}",
    "Can you write a haiku about {x}?",
    "Give me a haiku on {x}.",
    "Write me a haiku about {x}.",
    "{x} haiku",
    "Compose a haiku about {x}",
]
POEM_REQUESTS = [
    "Write a poem about {x}",
    "A poem about {x}, please",
    "poem about {x}",
    "Can you write a poem about {x}?",
    "Give me a poem about {x}.",
    "Write me a short poem about {x}.",
    "Write a rhyme about {x}",
    "Write four lines about {x}",
    "Tell me a poem about {x}",
]
OPEN_HAIKU = [
    "Write a haiku",
    "haiku",
    "a haiku please",
    "Can you write a haiku?",
    "Give me a haiku.",
    "Write me a haiku",
]
OPEN_POEM = [
    "Write a poem",
    "poem",
    "a poem please",
    "Can you write a poem?",
    "Write me a poem",
    "Recite a poem",
    "Do you know a poem?",
    "Say a poem",
]


def joke(rng: random.Random) -> tuple[str, str]:
    """Return a request for a joke, and a joke."""
    return rng.choice(JOKE_REQUESTS), pick_joke(rng)


def pick_joke(rng: random.Random, not_these: str = "") -> str:
    """Draw a joke that has not been told yet.

    Earlier ones in the list are drawn a little more often.
    """
    fresh = [text for text in JOKES if text not in not_these] or JOKES
    return fresh[min(rng.randrange(len(fresh)), rng.randrange(len(fresh)))] if rng.random() < 0.3 else rng.choice(fresh)


def another(rng: random.Random, answer: str, not_these: str) -> str:
    """One more poem of the same form as the last one.

    A haiku has three lines, a rhyme four.
    """
    body = answer.rpartition("\n\n")[2]
    return poem(rng, [], not_these, short=body.count("\n") == 2)[1]


def poem(rng: random.Random, unknown: list[str], not_these: str = "", short: bool | None = None) -> tuple[str, str]:
    """Return a request for a poem, and the verses.

    With `short` it is a haiku, else a rhyme; unknown subjects get an honest word first.
    """
    fresh = [verse for verse in VERSES if verse[1] not in not_these and verse[2] not in not_these] or VERSES
    subject, haiku, couplet = rng.choice(fresh)
    short = rng.random() < 0.45 if short is None else short
    body = haiku if short else f"{couplet} / {pick(rng, CLOSINGS)}"
    body = body.replace(" / ", "\n")
    chance = rng.random()
    if chance < 0.2:
        return rng.choice(OPEN_HAIKU if short else OPEN_POEM), body
    request = rng.choice(HAIKU_REQUESTS if short else POEM_REQUESTS)
    if unknown and chance < 0.45:
        kind = "haiku" if short else "poem"
        return request.replace(
            "{x}", rng.choice(unknown)
        ), f"I have no {kind} about that, but I have one about {subject}:\n\n{body}"
    asked = subject if rng.random() < 0.5 else rng.choice(ALIASES[subject])
    return request.replace("{x}", asked), body
