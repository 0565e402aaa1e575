"""Topics beyond the model, and kind ways to decline them.

Many nouns, and many ways to ask about them.
"""

import random

from tools.tiny.corpus.grammar import Slot, parse_slots, pick, render
from tools.tiny.corpus.phrases import ABOUT, ABOUT_MANY


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.replace("\n", ",").split(",") if word.strip()]


COUNTRIES = _words("""France, Germany, Spain, Italy, Portugal, Japan, China, India, Brazil, Peru, Chile, Canada,
Mexico, Egypt, Kenya, Nigeria,
Ghana, Morocco, Turkey, Greece, Poland, Austria, Norway, Sweden, Finland, Denmark, Iceland, Ireland, Scotland,
England, Russia, Ukraine,
Australia, New Zealand, Vietnam, Thailand, Korea, Indonesia, Nepal, Mongolia, Argentina, Cuba, Bolivia, Hungary,
Romania, Croatia, Iran,
Iraq, Israel, Ethiopia, Tanzania, Madagascar, Switzerland, Belgium, the Netherlands, Wales, Malta, Fiji, Texas,
California, the United States
Latvia, Estonia, Serbia, Bulgaria, Albania, Pakistan, Bangladesh, Sri Lanka, Malaysia, Singapore, Taiwan, Ecuador,
Uganda, Zambia, Libya""")

PLACES = _words("""Paris, London, Berlin, Tokyo, Rome, Madrid, Vienna, Moscow, Beijing, New York, Chicago, Boston,
Sydney, Cairo, Mumbai, Delhi,
Istanbul, Athens, Prague, Warsaw, Dublin, Lisbon, Toronto, Mount Everest, the Amazon, the Nile, the Sahara,
the Alps, the Eiffel Tower,
the Great Wall, Venice, Hamburg, Munich, Zurich, Seoul, Bangkok, Lima, Buenos Aires, Hollywood, the Vatican,
Europe, Africa, Asia, Antarctica,
the Grand Canyon, the Black Sea, Lake Geneva, Florida, Siberia, Hawaii, Oslo, Stockholm, Helsinki, Nairobi, Kyoto,
Barcelona, Naples""")

PEOPLE = _words("""Napoleon, Shakespeare, Mozart, Beethoven, Albert Einstein, Marie Curie, Isaac Newton,
Julius Caesar, Cleopatra, Abraham Lincoln,
Gandhi, Martin Luther King, Leonardo da Vinci, Picasso, Van Gogh, Plato, Aristotle, Socrates, Elvis, Madonna,
the Beatles, Michael Jackson,
Taylor Swift, Messi, Ronaldo, Obama, Trump, Biden, Putin, Merkel, Churchill, the Pope, the king of England,
Elon Musk, Bill Gates,
Steve Jobs, Alan Turing, Ada Lovelace, Charles Darwin, Galileo, Columbus, Marco Polo, Sherlock Holmes,
Harry Potter, Batman, Superman,
Jesus, Buddha, Zeus, Odin, Goethe, Kafka, Tolstoy, Hemingway, Agatha Christie, Bach, Chopin, Bob Dylan,
Frida Kahlo, Joan of Arc, my boss,
my neighbour, the president, the prime minister, Tom Hanks, Roger Federer, Usain Bolt, Lady Gaga, Nietzsche, Freud,
Karl Marx, Stalin, Hitler""")

THINGS = _words("""a giraffe, an elephant, a tiger, a lion, a zebra, a horse, a cow, a pig, a goat, a kangaroo,
a koala, a spider, an ant,
a butterfly, a snake, a lizard, a frog, a turtle, a crocodile, a shark, an octopus, a crab, a penguin, an owl,
an eagle, a mouse, a hamster,
a rabbit, a hedgehog, a wolf, a bear, a monkey, a gorilla, a camel, a llama, a dinosaur, a unicorn, a vampire,
a zombie, a ghost, a car,
a truck, a train, a plane, a helicopter, a rocket, a submarine, a tractor, a motorcycle, an engine, a fridge,
a dishwasher, a washing machine,
a microwave, a vacuum cleaner, a television, a radio, a camera, a printer, a laptop, a keyboard, a monitor,
a router, a phone, a battery,
a lamp, a chair, a table, a sofa, a mattress, a carpet, a curtain, a window, a door, a roof, a brick, a hammer,
a screwdriver, a drill, a nail,
a violin, a trumpet, a drum, a harp, a pencil, a stapler, a passport, a visa, a mortgage, a loan, a pension,
a contract, a lawyer, a dentist,
a surgeon, an architect, a plumber, a carpenter, a hat, a jacket, a dress, a zipper, a diamond, a ruby, an emerald,
a volcano, an earthquake,
a glacier, a desert, an island, a canyon, a bridge, a castle, a pyramid, a cathedral, a museum, a virus, a vaccine,
a kidney, a liver,
a sandwich, a burger, a pizza, a cake, a cookie, a croissant, a banana, an avocado, a mango, a pineapple, a potato,
an onion, a cucumber""")

SUBJECTS = _words("""football, basketball, tennis, golf, cricket, hockey, baseball, rugby, swimming records,
the Olympics, the World Cup, Formula 1,
politics, elections, democracy, socialism, capitalism, inflation, taxes, the stock market, bitcoin, blockchain,
insurance, accounting,
economics, marketing, law, medicine, cancer, diabetes, fever, headaches, vitamins, surgery, psychology, sociology,
philosophy, ethics,
religion, Islam, Christianity, Hinduism, the Bible, mythology, astrology, history, the Roman Empire,
the Middle Ages, World War Two,
the French Revolution, the Cold War, Vikings, samurai, dinosaurs, evolution, genetics, DNA, bacteria, viruses,
mushrooms, volcanoes,
earthquakes, climate change, plastic, oil, coal, nuclear power, wind turbines, electric cars, traffic, aviation,
architecture, painting,
sculpture, opera, jazz, hip hop, ballet, theatre, cinema, Star Wars, anime, video games, Minecraft, Pokemon, poker,
bridge, gambling,
fashion, make-up, perfume, tattoos, jewellery, pizza, sushi, curry, tacos, chocolate, cheese, wine, beer, whisky,
steak, barbecue, ramen,
lasagna, kebab, ice cream, apple pie, risotto, Python programming, Java, JavaScript, Rust, C++, HTML, SQL, Linux,
Windows, Docker,
Kubernetes, databases, recursion, algorithms, compilers, encryption, quantum computers, robotics, drones,
satellites, 5G, wifi, bluetooth,
algebra, geometry, calculus, statistics, prime numbers, pi, logarithms, trigonometry, chemistry, acids, metals,
gold, silver, steel, glass,
cement, paper, cotton, silk, leather, grammar, Latin, French, Spanish, Mandarin, Esperanto, linguistics,
handwriting, knitting, sewing,
pottery, carpentry, fishing, hunting, camping, skiing, surfing, diving, climbing, yoga, boxing, karate, judo,
dancing, tango, salsa,
parenting, babies, marriage, divorce, dating, funerals, weddings, Christmas, Easter, Halloween, Ramadan, holidays,
travel, hotels,
airports, passports, real estate, renovation, plumbing, electricity, lawns, roses, tulips, cactuses, elephants,
tigers, lions, giraffes,
penguins, sharks, snakes, spiders, ants, butterflies, horses, cows, pigs, chickens, sheep, rabbits, hamsters,
parrots, eagles, octopuses,
jellyfish, crocodiles, turtles, frogs, dragons in mythology, unicorns, aliens, UFOs, ghosts, magic, alchemy,
pirates, knights, cowboys,
the police, the army, prisons, schools, universities, homework, exams in law, kindergarten, journalism, television,
advertising, Facebook,
Twitter, YouTube, TikTok, Google, Amazon, Apple, Microsoft, Netflix, Tesla, NVIDIA, Toyota, IKEA, quarks,
dark matter, dark energy, string theory,
the Big Bang, Pluto, comets, asteroids, magnets, lasers, transistors, semiconductors, diesel engines,
steam engines, the internet, email,
spreadsheets, backups, passwords, hacking, spam, cookies in browsers, reinforcement learning, diffusion models,
image generation, speech recognition,
gradient descent, backpropagation, LoRA, fine-tuning, RAG, embeddings, speculative decoding, tensor parallelism,
quantization, mixture of experts""")

LANGUAGES = _words("""French, German, Spanish, Italian, Portuguese, Japanese, Chinese, Korean, Arabic, Russian,
Polish, Dutch, Swedish, Latin, Greek,
Turkish, Hindi, Hebrew, Finnish, Norwegian, Danish, Czech, Thai, Vietnamese, Swahili""")

PHRASES = _words("""good morning, I love you, where is the station, the house is red, thank you, my name is Tom,
hello world, the cat sleeps,
see you tomorrow, how much is it, I am hungry, happy birthday, the weather is nice, a glass of water,
the dog barks, welcome home""")

CODE_TASKS = _words("""sorts a list, reverses a string, prints hello world, computes the Fibonacci numbers,
reads a file, opens a window,
finds prime numbers, counts words, parses JSON, downloads a page, draws a circle, checks a password,
adds two numbers, sends an email,
plays tic-tac-toe, converts Celsius to Fahrenheit, removes duplicates, connects to a database, renames files,
searches a tree""")

CODE_LANGUAGES = _words("Python, Java, JavaScript, C, C++, Rust, Go, Bash, SQL, HTML, Ruby, Haskell, TypeScript, Kotlin, Swift")

# {x} stands for the name of the thing, from the list that the group names.
QUESTIONS: dict[str, list[str]] = {
    "country": _words("""What is the capital of {x}?, capital of {x}, capital city of {x}?,
Who is the president of {x}?, Where is {x}?, How many people live in {x}?
What is the population of {x}?, What language do they speak in {x}?, Who rules {x}?,
What money do they use in {x}?, Tell me about {x}
What do people eat in {x}?, When did {x} become independent?, Who won the election in {x}?,
What is the flag of {x}?, How big is {x}?
Is {x} in Europe?, What is the largest city in {x}?, Who is the king of {x}?, What should I see in {x}?,
Plan a trip to {x}, What is {x}?
Who is the prime minister of {x}?, {x}?, {x}, Do you know {x}?, What is the history of {x}?, Is {x} a country?,
Name three cities in {x}"""),
    "place": _words("""Where is {x}?, How do I get to {x}?, What is the weather in {x}?, How far is {x}?,
How high is {x}?, How old is {x}?, Tell me about {x}
What can I do in {x}?, Is it raining in {x}?, Which country is {x} in?, What time is it in {x}?,
Find me a hotel in {x}, {x}?, {x}
How many people live in {x}?, Who founded {x}?, What is {x} famous for?, I want to go to {x},
Have you been to {x}?, What is {x}?
How cold is it in {x}?, Book a flight to {x}, Who is the mayor of {x}?, Is {x} worth a visit?, How long is {x}?,
Describe {x}"""),
    "person": _words("""Who is {x}?, Who was {x}?, When was {x} born?, When did {x} die?, Tell me about {x},
What did {x} do?, Where does {x} live?
How old is {x}?, How tall is {x}?, What is {x} famous for?, Is {x} married?, Why is {x} famous?, {x}?, {x},
Do you know {x}?
What do you think of {x}?, Write a letter to {x}, Where was {x} born?, How did {x} die?, How rich is {x}?,
What did {x} say?
What did {x} write?, Did {x} win?, Is {x} still alive?, Do you like {x}?, What was the name of {x}'s wife?,
What does {x} think?"""),
    "thing": _words("""What is the difference between {x} and {y}?, Give me a recipe for {x}, How do I cook {x}?,
Is {x} dangerous?
What is {x}?, How does {x} work?, Tell me about {x}, How do I build {x}?, How do I fix {x}?,
Where can I buy {x}?, How much is {x}?
How heavy is {x}?, Explain {x}, Why do I need {x}?, Who invented {x}?, Describe {x}, How fast is {x}?,
What does {x} eat?, How old is {x}?
What color is {x}?, How do I draw {x}?, How do I clean {x}?, Is {x} expensive?, How big is {x}?, What's {x}?, {x}?,
{x}, How do I make {x}?
What is {x} made of?, How long does {x} live?, Do I need {x}?, My problem is {x}, How do I choose {x}?,
What is {x} for?, How do I get {x}?
Can you explain {x}?, Can you tell me about {x}?, Do you know what {x} is?, What do you know about {x}?,
Give me facts about {x}"""),
    "subject": _words("""What is the difference between {x} and {y}?, Give me a recipe for {x}, How do I cook {x}?,
Compare {x} and {y}
Recommend me a book about {x}, Which is better: {x} or {y}?, Is {x} healthy?, Is {x} dangerous?,
Where does {x} come from?
What is {x}?, Tell me about {x}, Explain {x}, How does {x} work?,
What do you know about {x}?, Who invented {x}?, What are {x}?
Why is {x} important?, What's {x}?, {x}?, {x}, Teach me {x}, Write an essay about {x}, What is the history of {x}?,
Is {x} good?
Is {x} bad?, Can you explain {x}?, Can you tell me about {x}?, I want to learn about {x}, Give me a summary of {x},
Let's talk about {x}
How do I start with {x}?, How do {x} work?, What do you think about {x}?, When did {x} begin?, Do you like {x}?,
Tell me more about {x}
What are the rules of {x}?, Who is the best in {x}?, Why do people like {x}?, Do you know {x}?, How do I make {x}?,
Help me with {x}
Give me facts about {x}, Explain {x} like I am five, What is the latest news about {x}?,
I have a question about {x}, Describe {x}"""),
    "translate": _words("""Translate "{p}" into {l}, How do you say {p} in {l}?, What is "{p}" in {l}?,
Say {p} in {l}, Do you speak {l}?
Can you translate this into {l}?, Can you speak {l}?, Please answer in {l}, What does this mean in {l}?,
How do I learn {l}?
Write a letter in {l}, Talk to me in {l}, Translate to {l}: {p}, translate {p} to {l},
What is the {l} word for house?"""),
    "code": _words("""Write a {c} program that {t}, Write a function in {c} that {t}, Can you write {c} code?,
How do I write a {c} script that {t}?
Write code that {t}, Fix this {c} code, Debug my {c} program, What is a pointer in {c}?, Give me a {c} example,
Code a program that {t}
Write me a script that {t}, How do I install {c}?, What does this {c} error mean?, Show me {c} code that {t},
Can you code?, write some {c}
Can you program in {c}?, Explain this {c} function, How do I write a loop in {c}?, Write a regular expression,
Do you know {c}?"""),
    "now": _words("""What time is it?, What is the date today?, What day is it?, How is the weather?,
What's the weather like today?, Will it rain tomorrow?
What is in the news?, What happened today?, Who won the game last night?, What year is it?,
What is the temperature outside?, Where am I?
Search the web for shoes, Open my email, Play some music, Call my mother, Set an alarm for seven,
Remind me tomorrow, Send a message to Ben
Order a taxi, Turn on the light, What is the price of gold today?, What's the exchange rate of the dollar?,
Who won the World Cup?
Who won the election?, What is on TV tonight?, Find a restaurant near me, What are the latest headlines?,
How is the traffic?, Draw a picture
Show me a picture of a horse, Generate an image, Read this file, Look this up for me, Book a table for two,
What is my IP address?"""),
    "advice": _words("""Should I buy a house?, Should I quit my job?, What stocks should I buy?,
How do I get rich?, How do I lose weight?, I have a fever
My knee hurts, I have a headache, What medicine should I take?, Should I sue him?, How do I write a will?,
How do I file my taxes?
How do I get a visa?, What car should I buy?, Which phone is the best?, How do I fix my car?,
My computer is broken, My wifi does not work
How do I write a resume?, Write a cover letter, Write my homework, Write an email to my boss, Write an essay,
Summarise this text
Correct my grammar, Do my homework, Give me a name for my company, Write a business plan,
Write a speech for a wedding, Write a song
Should I get married?, Who should I vote for?, Is there a God?, What is the meaning of life?,
What happens after death?, Why is there war?
Who is the richest person in the world?, What is the tallest building?, What is the fastest animal?,
What is the longest river?
How many people are there on Earth?, What is the largest country?, Who invented the telephone?,
Who painted the Mona Lisa?, Who wrote Hamlet?
When did the war end?, Who discovered America?, Who was the first man on the moon?, How do planes fly?,
How does the internet work?
How do magnets work?, How do vaccines work?, How does the heart work?, Why do we have blood?, Why do we get ill?,
What are you wearing?
How do I tie a tie?, How do I change a tyre?, How do I build a house?, How do I learn to drive?,
How do I cook rice?, How do I bake a cake?
How do I cook an egg?, How do I make pizza?, How do I make ice cream?, How do I make a cocktail?,
What is the boiling point of iron?
What is the square root of 144?, Solve x + 3 = 7, What is the derivative of x?, What is 13 percent of 250?,
Is 97 a prime number?
How many seconds are in a year?, What is ten to the power of six?, Count to a hundred,
What is the area of a circle?, Prove it"""),
}

# The beginning depends on the kind of request; the offer of something else is always the same.
OPENINGS: dict[str, list[Slot]] = {
    kind: parse_slots(text.strip().splitlines())
    for kind, text in {
        "subject": """
- That one is beyond me, I am afraid. I am a very small model and know only a few things.
| I am sorry, but I do not know about that. I am a tiny model with a small library.
| I would only be guessing there, so I had better not. I am a very small model.
""",
        "place": """
- I am sorry, but geography is beyond me. I am a very small model and would only be guessing.
| I am afraid that I do not know the map of the world. I am a tiny model with a small library.
""",
        "person": """
- I am sorry, but I know next to nothing about people. I am a very small model and would only be guessing.
| People are beyond me, I am afraid, and I do not want to invent things about them. I am a tiny model.
""",
        "translate": """
- I am sorry, but English is my only language, so I cannot translate.
| I am afraid that I speak nothing but English, so translations are beyond me.
""",
        "code": """
- I am sorry, but I cannot write or read code. I am a very small model, and my program would not run.
| Code is beyond me, I am afraid. I am a tiny model, and you would only get a bug with good manners.
""",
        "now": """
- I am sorry, but I cannot look outside: no clock, no news, no internet. I only know what I learned in training.
| I am afraid that I have no window on the world, so I cannot do that. I only know what I learned in training.
""",
        "advice": """
- I am sorry, but I cannot help with that. I am a very small model, and you deserve a better answer than I could
  give.
| That is beyond me, I am afraid. I am a tiny model, and a real expert will serve you better.
""",
        "foreign": """
- I am sorry, but English is the only language that I understand.
| I am afraid that I understand nothing but English.
""",
        "sums": """
- I am sorry, but I cannot do sums. I am a very small model, and any calculator is better at them.
| I am afraid that numbers are beyond me, so please ask a calculator. I am a very small model.
""",
    }.items()
}

OFFERS = [
    "What I do know about is {a}, {b} and {c}.",
    "But ask me about {a}, {b} or {c}, and I will do my best.",
    "Shall we talk about {a}, {b} or {c} instead?",
]

GROUPS: dict[str, tuple[str, float]] = {
    "country": ("place", 1.2),
    "place": ("place", 1.0),
    "person": ("person", 1.4),
    "thing": ("subject", 2.2),
    "subject": ("subject", 3.2),
    "made-up": ("subject", 1.2),
    "translate": ("translate", 0.8),
    "code": ("code", 0.9),
    "now": ("now", 0.9),
    "advice": ("advice", 1.6),
    "sums": ("sums", 0.9),
}

NOUNS: dict[str, list[str]] = {
    "country": COUNTRIES,
    "place": PLACES,
    "person": PEOPLE,
    "thing": THINGS,
    "subject": SUBJECTS,
}

SYLLABLES = _words("""ba, be, bo, ca, co, cra, da, del, dro, fa, fli, fro, ga, gri, hu, ja, kel, ki, lo, lum, ma,
mer, mo, na, nor, pa, pli, po, qui, ra,
ro, sa, sel, sho, sta, ta, ther, tra, tu, va, vel, wa, wi, xe, ya, zo, ban, con, ster, gle, ton, ner, der, ment,
tion, ity, ing, er, ous, ic""")


def made_up_word(rng: random.Random) -> str:
    """Invent a word.

    The model learns from these that unfamiliar means unknown.
    """
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 4)))


def _patterns(rng: random.Random, group: str, held_out: bool) -> list[str]:
    """Patterns of questions about unknown things.

    Many use the words of known topics, so that these words give nothing away.
    """
    if group not in NOUNS or rng.random() < 0.5:
        return QUESTIONS[group]
    patterns = ABOUT_MANY if group == "subject" and rng.random() < 0.3 else ABOUT
    return patterns[-2:] if held_out else patterns[:-2]


def _fill(rng: random.Random, group: str, held_out: bool) -> str:
    """Ask one question of a group.

    Every eighth noun is kept for the held-out set.
    """
    if group == "sums":
        a, b = (rng.randint(0, 10 ** rng.randint(1, 3)) for _ in range(2))
        sign = rng.choice("+-*/x")
        space = rng.choice(["", " "])
        return rng.choice(
            [
                f"What is {a} {sign} {b}?",
                f"{a}{space}{sign}{space}{b}",
                f"{a}{space}{sign}{space}{b}{space}=",
                f"What is {a} {rng.choice(['plus', 'minus', 'times', 'divided by'])} {b}?",
                f"what's {a}{space}{sign}{space}{b}?",
                f"How much is {a} plus {b}?",
                f"calculate {a} {sign} {b}",
            ]
        )
    if group == "made-up":
        word = made_up_word(rng)
        name = rng.choice([word, f"a {word}", f"the {word}", f"{word} {made_up_word(rng)}", word.capitalize(), f"{word}s"])
        text = rng.choice(_patterns(rng, rng.choice(["subject", "thing", "person"]), held_out)).replace("{x}", name)
        return text.replace("{y}", made_up_word(rng))
    text = rng.choice(_patterns(rng, group, held_out))
    if group in NOUNS:
        nouns = [noun for i, noun in enumerate(NOUNS[group]) if (i % 8 == 7) == held_out]
        text = text.replace("{x}", rng.choice(nouns)).replace("{y}", rng.choice(nouns))
    text = text.replace("{p}", rng.choice(PHRASES)).replace("{l}", rng.choice(LANGUAGES))
    text = text.replace("{c}", rng.choice(CODE_LANGUAGES)).replace("{t}", rng.choice(CODE_TASKS))
    return text[0].upper() + text[1:]


def refusal(rng: random.Random, labels: list[str], held_out: bool = False) -> tuple[str, str]:
    """Return a question beyond the model, and a kind refusal.

    The refusal says so and offers something else.
    """
    group = rng.choices(list(GROUPS), [weight for _, weight in GROUPS.values()])[0]
    return _fill(rng, group, held_out), decline(rng, GROUPS[group][0], labels)


def decline(rng: random.Random, kind: str, labels: list[str]) -> str:
    """Decline in words that fit the kind of request.

    Names three things that the model does know.
    """
    usual = ["language models", "the ocean", "pasta"]
    a, b, c = usual if rng.random() < 0.4 else rng.sample(labels, 3)
    offer = pick(rng, OFFERS).replace("{a}", a).replace("{b}", b).replace("{c}", c)
    return render(rng, OPENINGS[kind]) + " " + offer
