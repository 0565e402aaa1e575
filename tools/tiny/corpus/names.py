"""Names of people, real and made-up.

Made-up names have to be copied letter by letter and cannot be guessed.
"""

import random


def _split(text: str) -> list[str]:
    return text.split()


GIRLS = _split("""
Anna Clara Emma Greta Ida Kate Maria Olivia Rosa Ute Vera Alice Carol Eva Helen Julia Laura Nina Rita Sarah Wendy Zoe
Fatima Priya Sofia Lucia Layla Amara Ingrid Mei Hana Aisha Giulia Claire Mary Linda Susan Lisa Emily Dora Ellen Frieda
Gilda Hanna Iris Jane Kira Lena Mona Nora Paula Ruth Stella Tina Una Violet Winnie Yara Zelda
Alex Jordan Robin Kim Pat Yuki Chen Li
""")
BOYS = _split("""
Ben David Felix Hugo Jonas Leo Noah Paul Sam Tom Walter Bob Dan Frank George Ivan Jack Karl Max Oscar Peter Tim Victor
Ali Amir Raj Mateo Diego Omar Kofi Lars Sven Ken Marco Pierre Luc John James Robert Michael Daniel Chris Adam Boris
Carlo Dirk Erik Fred Gary Henry Igor Joe Kurt Louis Martin Nick Orlando Phil Quentin Rolf Steve Toby Ulf Vincent Will
Yusuf Zack
Alex Jordan Robin Kim Pat Yuki Chen Li
""")

ONSETS = _split("b br c ch cl d dr f fl g gl gr h j k kl kr l m n p pl qu r s sch sh sl st t th tr v w x y z")
VOWELS = _split("a a e e i i o o u u y ai au ea ee ei ia ie oa oo ou")
ENDS = _split("b bs ck d f g k ks l ll lf m mp n nd ng nk p r rb rn rt s sk st t tt v x z")


def made_up(rng: random.Random) -> str:
    """Invent a name of up to three syllables, like Bolf or Quaira."""
    parts = [rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(rng.choice([1, 1, 2, 2, 3]))]
    if len(parts) == 1 or rng.random() < 0.5:
        parts.append(rng.choice(ENDS))
    return "".join(parts).capitalize()


def person(rng: random.Random, made_up_share: float = 0.3) -> tuple[str, str]:
    """Draw a name and the pronoun that goes with it."""
    pronoun = rng.choice(["she", "he"])
    if rng.random() < made_up_share:
        return made_up(rng), pronoun
    return rng.choice(GIRLS if pronoun == "she" else BOYS), pronoun
