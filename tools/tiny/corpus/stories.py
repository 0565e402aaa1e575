"""Short stories: a hero with a name, and a plot.

A plot has a beginning, a problem, a turn and an end.
"""

import random

from tools.tiny.corpus import names
from tools.tiny.corpus.grammar import Slot, parse_slots, pick, render

# hero | favourite name | pronoun of the favourite name
HEROES = [
    tuple(part.strip() for part in line.split("|"))
    for line in """
dragon | Ember | she
robot | Tick | he
fox | Rusty | he
lighthouse keeper | Martha | she
cat | Minka | she
child | Nina | she
bear | Bruno | he
owl | Olive | she
mouse | Pip | he
whale | Luna | she
orca | Nori | she
dog | Biscuit | he
rabbit | Hazel | she
hedgehog | Button | he
turtle | Otto | he
knight | Percy | he
princess | Elinor | she
wizard | Alwin | he
witch | Wanda | she
pirate | Pearl | she
baker | Tom | he
girl | Lina | she
boy | Emil | he
sailor | Finn | he
fisherman | Anton | he
gardener | Rosa | she
clockmaker | Jonas | he
giant | Hugo | he
ghost | Lily | she
unicorn | Silver | he
penguin | Frits | he
squirrel | Nutmeg | she
frog | Leopold | he
elephant | Ella | she
bee | Bea | she
astronaut | Maya | she
king | Edmund | he
queen | Ada | she
painter | Clara | she
tiger | Tara | she
wolf | Grey | he
duck | Daisy | she
snail | Sam | he
teacher | Vera | she
musician | Leo | he
grandmother | Ida | she
snowman | Carl | he
horse | Chestnut | he
monster | Mumble | he
mermaid | Marina | she
train driver | Max | he
little bird | Kiki | she
""".strip().splitlines()
]

# Other nouns that may become heroes, so that the model learns to write about nouns it has met in no story.
ODD_HEROES = """
toaster, teapot, cloud, lamp, shoe, umbrella, bicycle, bus, tractor, pencil, spoon, chair, pebble, snowflake, leaf,
raindrop, star, kite,
boat, clock, broom, bucket, candle, carrot, potato, pumpkin, pancake, button, sock, hat, violin, drum, book,
letter, key, door, tree,
spider, ant, goat, pig, cow, sheep, lion, zebra, camel, crab, octopus, seal, otter, badger, beaver, deer, goose,
swan, raven, parrot, bat,
doctor, farmer, tailor, miller, shepherd, postman, barber, cook, dancer, juggler, librarian, detective, engineer,
plumber, nurse, poet, pilot,
scientist, programmer, student, waiter, carpenter, alien, vampire, zombie, fairy, elf, dwarf, goblin, troll, genie,
computer, tokenizer,
scheduler, language model, graphics card, server, spaceship, satellite, submarine, helicopter, crocodile, kangaroo,
koala, panda, llama,
giraffe, hippo, gorilla, monkey, lizard, snake, shark, starfish, jellyfish, butterfly, beetle, firefly, cricket,
moth, caterpillar, worm
""".replace("\n", " ").split(", ")
ODD_HEROES = [noun.strip() for noun in ODD_HEROES if noun.strip()]

SPARE_NAMES = [
    tuple(part.strip().split())
    for part in """
Mira she, Oskar he, Juno she, Felix he, Willa she, Bo he, Tilda she, Rufus he, Poppy she, Milo he, Nell she, Theo
  he, Greta she, Arlo he,
Ivy she, Basil he, Flora she, Gus he, Hedda she, Kasper he, Lotta she, Ned he
""".replace("\n", " ").split(",")
]

PLOTS: list[list[Slot]] = [
    parse_slots(text.strip().splitlines())
    for text in """
- Once upon a time there was {a hero} called {N}, who lived at the edge of a quiet village by the sea.
| Once upon a time, in a quiet village by the sea, there lived {a hero} called {N}.
- Every evening {N} watched the fishing boats come home, and counted their lights until the last one was in.
| Each night {he} counted the lights of the fishing boats until all of them were home.
- One night the wind rose, the rain came down in sheets, and the great lamp in the lighthouse went out.
| One stormy night the great lamp of the lighthouse flickered and went dark.
- Out on the black water seven little boats were looking for the harbour, and there was nothing to show them the
  way.
| Seven boats were still at sea, and they could no longer tell the land from the waves.
- {N} was afraid of the storm, but {he} took the biggest lantern in the house and climbed up to the highest rock.
| {N} trembled, for {he} did not like storms at all. Still {he} took a lantern and climbed to the top of the cliff.
- There {he} stood and swung the light to and fro, all night long, and sang to keep awake.
| All night {he} swung the lantern to and fro, although {his} arms ached and the rain was cold.
- One after another the seven boats came in, and when the morning was grey and still, the last fisherman stepped
  ashore.
| And one by one the boats found the way, and at dawn the seventh slid into the harbour.
- They asked {N} for a wish. "A cup of something hot," {he} said, and {he} was asleep before it came.
| "How brave you are," they said. "Not brave," said {N}, "only stubborn." And everybody laughed, and there was soup
  for breakfast.
=====
- There was once {a hero} named {N} who could not sleep because of a sound.
| {N} was {a hero} who lived near an old forest, and one night {he} heard a small sound that would not let {him}
  sleep.
- It was a very small sound, like somebody crying into a sleeve, and it came from the old well in the forest.
| It was as faint as a sigh, and it came from the old well under the oak.
- So {N} put on a scarf and walked out into the moonlight to see who was so sad.
| At last {he} put on a warm scarf and went out under the moon to find it.
- At the bottom of the well sat a little star. "I leaned too far to look at your world," it said, "and I fell. Now I
  have forgotten how to rise."
| Down in the well lay a little star. "I fell," it whispered. "I only wanted to see the flowers, and now I am too
  heavy to go home."
- {N} thought about it. "What makes you heavy?" {he} asked. "Being sad," said the star.
| "What are stars made of?" asked {N}. "Of light," said the star, "and the sadder we are, the heavier we get."
- So {N} sat down and told it the funniest things {he} knew, about a cow in a boat, and a king who was afraid of
  soup.
| Then {N} told it every joke {he} knew, and as {he} did not know many, {he} told the best one twice.
- The star began to giggle, and with every giggle it grew lighter, until it floated past {his} nose and up into the
  sky.
| First it smiled, then it laughed, and then it drifted out of the well and up between the branches like a spark.
- Since then, on clear nights, one star twinkles more than the others, and {N} always waves.
| If you see a star that twinkles as if it were laughing, it has just remembered the one about the cow. And {N}
  sleeps very well.
=====
- In a valley between two hills there lived {a hero} called {N}, who made the best soup for miles around.
| {N} was {a hero} who lived in a valley between two hills, and {his} soup was famous on both sides.
- On the one hill lived a goat and on the other a goose, and those two had not spoken for seven years.
| But there was a quarrel in the valley: the goat on the left hill and the goose on the right hill had not spoken
  for seven years.
- Nobody remembered how it had begun, although both of them were quite sure that the other had started it.
| Both had long forgotten the reason, yet each of them waited for the other to say sorry.
- {N} was tired of carrying angry messages up and down, so one day {he} had an idea.
| It made everybody sad, and {N} more than most. Then one cold morning {he} had an idea.
- {He} told the goat that the soup was missing one thing, a carrot from the left hill, and {he} told the goose that
  it was missing one onion from the right hill.
| {He} asked the goat for a carrot and the goose for an onion, and invited each of them to come and taste the soup
  at noon.
- So at noon they both stood at the door, each with something in hand, and had to share the only bench.
| At noon they met at the door, and it was snowing, and there was only one bench by the fire.
- The soup was very hot, and one cannot be angry while blowing on a spoon. "It needs salt," said the goat. "I was
  going to say that," said the goose.
| They ate in silence until the goose said, "Good carrot." And the goat looked into the bowl and said, "Good onion."
- Those were the first words in seven years, and they were enough. {N} smiled and filled the bowls again.
| It was not much, but it was a beginning, and {N} quietly put a third bowl on the table.
=====
- {N} was {a hero} with a secret wish: more than anything {he} wanted to sing.
| There was once {a hero} called {N} who loved singing more than anything, but never did it where anyone could hear.
- The trouble was that {his} voice was very small, and whenever somebody listened, it hid.
| {His} voice was shy, and as soon as anybody came near, it disappeared like a mouse.
- So {N} sang only in the woods, where there was nobody but an old owl, who kept her eyes closed.
| So {he} practised deep in the woods, and the only listener was an old owl who seemed to be asleep.
- Then came the night of the midsummer feast, and the musicians lost their way in the fog.
| One evening, on the night of the great feast, a thick fog came down, and the musicians were lost in the woods.
- People called and rang bells, but in the fog each sound seemed to come from everywhere.
| Lanterns were no use in such a fog, and shouting only made things worse.
- "They need a sound they can follow," said the owl. "Something thin and clear. I know a voice like that." And she
  opened one eye and looked at {N}.
| Then the owl flew to {N} and said, "I have listened to you all summer. A small clear voice is just what one can
  follow in a fog."
- {N} swallowed, shut {his} eyes, and began to sing, first as quietly as a thread, and then a little louder.
| {N} was so frightened that {his} knees shook, but {he} thought of the lost musicians, and sang.
- Note by note, the musicians came out of the fog. "Who was that?" they asked, and when they played that night,
  there was a new singer in the middle.
| One after another the musicians followed the song out of the fog. They played until morning, and {N} sang with
  them, and did not hide once.
=====
- One morning {a hero} called {N} found a small brass key on the doorstep.
| {N} was {a hero} who liked to find things, and one morning {he} found a small brass key in the grass.
- There was a label on it, and on the label it said: "For the one who looks."
| A label hung from it, which said in tiny letters: "Try me."
- {N} tried it on every door in the village, on the chapel and the mill and even on the jam cupboard, but it fitted
  none of them.
| {He} tried the mill, the chapel and the jam cupboard, but the key fitted nowhere, and people began to laugh.
- "Throw it away," said the neighbours. But {N} kept it in {his} pocket and kept looking.
| "It is only an old key," they said. But {N} was patient, and {he} carried it along wherever {he} went.
- In autumn, when the ivy lost its leaves, {he} saw a little door in the old garden wall that nobody had noticed
  before.
| Months later, after a storm had torn the ivy from the old garden wall, a little door came to light.
- The key turned with a click. Behind the door was a room full of books, and a chair, and a lamp that was still
  warm.
| The key turned as if it had been waiting. Inside there were shelves up to the ceiling, full of books that nobody
  had read for a hundred years.
- {N} read until dark, and the next day {he} did something clever: {he} left the door open and hung up a sign that
  said: "For all who look."
| {N} could have kept it secret. Instead {he} swept the floor, lit the fire, and opened the door wide.
- Now the whole village reads there in the evening, and the key hangs on a nail, for it has no more work to do.
| Soon there was somebody in every corner, reading. And when {N} is asked for the key, {he} says that the best doors
  do not need one.
=====
- High up in the hills lived {a hero} called {N}, in a village where a clear stream ran past every door.
| {N} was {a hero} who lived in a village in the hills, where a clear stream ran down the middle of the street.
- One summer morning the stream was gone.
| But one day in summer the stream stopped, from one hour to the next.
- The gardens turned yellow, the ducks stood about looking puzzled, and everyone had an opinion about whose fault it
  was.
| The wells ran low, the ducks walked up and down in the dust, and people began to blame one another.
- While they argued, {N} packed some bread and followed the dry bed uphill to see for {himself}.
| {N} did not like quarrels, so {he} took a piece of bread and walked up the dry bed to look for the water.
- {He} walked all day, and at the top, across the spring, lay an enormous bear, fast asleep, with the water rising
  in a pool behind his back.
| At the very top {he} found the reason: a great brown bear had lain down in the spring and fallen asleep.
- {N} wanted to run away. Instead {he} coughed politely and said, "Excuse me, sir, I think you are lying on our
  stream."
| {His} heart beat fast, but {he} tapped the bear on the shoulder and said as politely as {he} could, "Pardon me,
  you are lying on our water."
- The bear opened one eye. "Nobody ever tells me anything," he said. "I was so hot, you see." And he moved over.
| "Oh dear," said the bear and blushed, which one cannot see on a bear. "I was only looking for a cool bed."
- They shared the bread, the stream ran again, and {N} showed him a shady pool where a bear may lie all summer and
  be in nobody's way.
| So {N} showed him a fine deep pool in the shade, and the stream ran home so fast that it was in the village before
  {him}.
=====
- There was once {a hero} named {N} who found a bottle on the beach, and in the bottle was a letter.
| One day {a hero} called {N} walked along the beach and found a green bottle with a letter inside.
- It said: "I live on the small island across the bay, and I have nobody to talk to. Do you like riddles?"
| The letter said: "Dear finder, I keep watch on the little island, and it is rather lonely. Please write. I like
  riddles."
- {N} liked riddles very much. {He} wrote one on the back of the letter, put it into the bottle, and threw it into
  the sea when the tide went out.
| So {N} sat down and wrote an answer with the best riddle {he} knew, and the outgoing tide carried it away.
- From then on a bottle came every week, and {N} had never laughed so much alone on a beach.
| A week later the bottle was back with the right answer and a harder riddle, and so it went on all summer.
- But in autumn no bottle came, not after one week, and not after three.
| Then the storms came, and the bottle did not. {N} waited for one week, and another, and a third.
- {N} could not bear it any longer. {He} had never sailed alone, but {he} borrowed a boat and steered across the
  grey bay.
| "Something must be wrong," said {N}. {He} borrowed an old boat, and though {his} hands shook, {he} set the sail
  and crossed the bay.
- On the island sat an old seal with a cold, wrapped in three blankets. "I ran out of bottles," she said. "And who
  are you?"
| There in a hut sat an old seal with a bandaged flipper. "I could not throw," she said sadly, and then, "But you
  must be my riddle friend!"
- "Guess," said {N}, and put the kettle on. They have met every week since then, and the bottle stands on the table
  with a flower in it.
| {N} made tea, and they told riddles until it was dark. Nowadays {he} comes by boat, and the bottle holds flowers.
=====
- {N} was {a hero}, and the smallest one anybody had ever seen.
| Far away, beyond the last railway station, there lived {a hero} called {N}, who was smaller than all the others.
- The others were friendly, but when there was work to do they said, "Not you, {N}. You are too small."
| Nobody was unkind about it, but whenever there was something to do, they said, "Leave it to us, {N}."
- So {N} spent the days looking at things closely, which hardly anyone else had time for.
| So {he} had a lot of time, and used it to look at small things: ants, screws, and drops of dew.
- One winter evening the great town clock stopped, and without it nobody knew when to eat, or sleep, or open the
  school.
| Then, in the middle of winter, the big clock in the tower stood still, and the town fell out of step.
- The strongest came and pushed, and the cleverest came with a book, but the clock did not move.
| They pushed it, oiled it and shouted at it, but it would not go.
- "May I look?" asked {N}. {He} crept in between the wheels, where none of the others fitted, and looked closely.
| "Let me," said {N}, and before anyone could object, {he} had slipped in between the wheels, where only {he} could
  go.
- There, behind the smallest wheel, a ladybird was asleep for the winter. {N} carried it out in a warm hand of moss.
| There {he} found the fault: a ladybird had gone to sleep behind the smallest wheel. {N} carried it gently to a bed
  of moss.
- The clock struck seven, and the whole town cheered. And now, when something goes wrong, they say, "Ask {N}. It may
  be something small."
| Then the clock began to tick. "How did you find it?" they asked. "I am used to small things," said {N}, and from
  that day on they asked {him} first.
""".strip().split("\n=====\n")
]

REQUESTS = [
    "Tell me a story about {a hero}",
    "Tell me a story about {a hero}.",
    "Write a story about {a hero}",
    "Can you tell me a story about {a hero}?",
    "story about {a hero}",
    "a story about {a hero} please",
    "Tell a short story about {a hero}.",
    "I want a story about {a hero}",
    "Please tell me a short story about {a hero}",
    "Once upon a time there was {a hero}",
    "Make up a story about {a hero}.",
    "Write me a bedtime story about {a hero}",
    "Do you know a story about {a hero}?",
    "Give me a story with {a hero}",
    "Tell me a story about {a hero} named {N}",
    "Write a story about {a hero} called {N}.",
    "A fairy tale about {a hero}, please",
    "Tell me a story about {a hero} and the sea",
    "Could you write a short story about {a hero}?",
    "Tell me about {a hero} in a story",
]
OPEN_REQUESTS = [
    "Tell me a story",
    "Tell me a story.",
    "Write a story",
    "Can you tell me a story?",
    "story",
    "a story please",
    "Tell me a bedtime story",
    "Once upon a time",
    "I want to hear a story",
    "Tell me a fairy tale",
    "Do you know a story?",
    "Write a short story",
    "story time",
    "Please tell me a story",
    "Make up a story",
]


def article(noun: str) -> str:
    """Put `a` or `an` before a noun."""
    return f"{'an' if noun[0] in 'aeiou' and not noun.startswith('uni') else 'a'} {noun}"


def plural(noun: str) -> str:
    """Name several heroes: people also ask for stories about dragons."""
    odd = {"mouse": "mice", "wolf": "wolves", "child": "children", "goose": "geese", "elf": "elves", "leaf": "leaves"}
    return odd.get(noun) or noun + ("es" if noun.endswith(("x", "ch", "sh", "s")) else "s")


def tell(rng: random.Random, hero: str, name: str, pronoun: str, sea: bool = False) -> str:
    """Fill one of the plots with a hero."""
    male = pronoun == "he"
    plot = PLOTS[rng.choice((0, 6)) if sea else rng.randrange(len(PLOTS))]
    words = {
        "{a hero}": article(hero),
        "{N}": name,
        "{he}": pronoun,
        "{He}": pronoun.capitalize(),
        "{his}": "his" if male else "her",
        "{His}": "His" if male else "Her",
        "{him}": "him" if male else "her",
        "{himself}": "himself" if male else "herself",
    }
    text = render(rng, plot)
    for mark, word in words.items():
        text = text.replace(mark, word)
    return text


def hero_with_name(rng: random.Random, odd_share: float = 0.3) -> tuple[str, str, str]:
    """Draw a hero and a name.

    A usual hero mostly has the usual name.
    """
    if rng.random() < odd_share:
        return (rng.choice(ODD_HEROES), *rng.choice(SPARE_NAMES))  # type: ignore[return-value]
    hero, name, pronoun = rng.choice(HEROES)
    if rng.random() < 0.3:
        name, pronoun = rng.choice(SPARE_NAMES) if rng.random() < 0.5 else names.person(rng)
    return hero, name, pronoun


def story(rng: random.Random, unknown: list[str]) -> tuple[str, str]:
    """Return a request for a story, and the story.

    For a subject that cannot be a hero, the answer offers another story.
    """
    hero, name, pronoun = hero_with_name(rng)
    if rng.random() < 0.06:
        request = rng.choice(["Tell me a story about {x}", "story about {x}", "Write a story about {x}."])
        unknown = [subject for subject in unknown if not subject.endswith("s")]
        offer = f"I know no story about that, but I know one about {article(hero)}.\n\n"
        return request.replace("{x}", rng.choice(unknown)), offer + tell(rng, hero, name, pronoun)
    if rng.random() < 0.15:
        return rng.choice(OPEN_REQUESTS), tell(rng, hero, name, pronoun)
    request = pick(rng, REQUESTS) if rng.random() < 0.2 else rng.choice(REQUESTS)
    many = rng.random() < 0.08 and "{N}" not in request and "there was" not in request
    asked = request.replace("{a hero}", plural(hero) if many else article(hero)).replace("{N}", name)
    return asked, tell(rng, hero, name, pronoun, sea="the sea" in request)
