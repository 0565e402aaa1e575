"""Foreign input: sentences in other languages, and keyboard noise."""

import random

SENTENCES = [
    line.strip()
    for line in """
Guten Tag
Hallo, wie geht es dir?
Wie heißt du?
Was ist die Hauptstadt von Deutschland?
Erzähl mir einen Witz
Kannst du Deutsch?
Was kannst du?
Ich habe Hunger
Wie wird das Wetter morgen?
Danke schön
Erkläre mir den KV-Cache
Schreib mir eine Geschichte
Wo ist der Bahnhof?
Bonjour
Bonjour, comment ça va ?
Comment tu t'appelles ?
Je ne comprends pas
Raconte-moi une histoire
Quelle est la capitale de la France ?
Merci beaucoup
Parlez-vous français ?
Où est la gare ?
Salut
Hola
Hola, ¿cómo estás?
¿Cómo te llamas?
¿Hablas español?
Cuéntame un chiste
¿Qué hora es?
Buenos días
Muchas gracias
¿Qué es la inteligencia artificial?
Escribe un poema
Ciao, come stai?
Buongiorno
Come ti chiami?
Parli italiano?
Raccontami una storia
Che cosa sai fare?
Grazie mille
Olá, tudo bem?
Bom dia
Você fala português?
Conte uma piada
Qual é o seu nome?
Hoi, hoe gaat het?
Spreek je Nederlands?
Goedemorgen
Vertel me een verhaal
Hej, hur mår du?
God morgon
Talar du svenska?
Hyvää päivää
Cześć, jak się masz?
Dzień dobry
Czy mówisz po polsku?
Привет
Как дела?
Расскажи анекдот
Ты говоришь по-русски?
Доброе утро
你好
你是谁？
你会说中文吗？
给我讲个故事
今天天气怎么样？
こんにちは
お元気ですか
日本語を話せますか？
안녕하세요
한국어 할 줄 알아요?
مرحبا
كيف حالك؟
שלום
नमस्ते
आप कैसे हैं?
Merhaba, nasılsın?
Türkçe biliyor musun?
Γειά σου
Xin chào
Selamat pagi
Jambo
Salve, quid agis?
Saluton
""".strip().splitlines()
]

# Small words that show which language a text is in, to put new sentences together.
WORDS = [
    line.split()
    for line in """
der die das und ist nicht ich du wir ein eine was wie warum wo Haus Hund Wasser kannst machen heute morgen bitte mir
le la les et est ne pas je tu nous un une que comment pourquoi maison chien eau peux faire demain avec pour dans
el la los y es no yo tú un una qué cómo por dónde casa perro agua puedes hacer hoy mañana con para muy bien
il lo gli e non io tu noi un una che come perché dove casa cane acqua puoi fare oggi domani con per molto bene
o os as não eu você um uma que como porque onde casa cão água pode fazer hoje amanhã com para muito bem obrigado
de het een en niet ik jij wij wat hoe waarom waar huis hond kan maken vandaag morgen met voor heel goed graag
och det är inte jag du vi en ett vad hur varför var hus vatten kan göra idag imorgon med för mycket bra tack
и не я ты мы что как почему где дом собака вода можешь сегодня завтра очень хорошо спасибо это мой
""".strip().splitlines()
]

ROWS = ["qwertyuiop", "asdfghjkl", "zxcvbnm", "asdfjkl", "1234567890", "sdfg", "hjkl", "asd", "!?.,;:", "xyz"]


def sentence(rng: random.Random) -> str:
    """A sentence that is not English.

    Half of them are words of one language in random order.
    """
    if rng.random() < 0.5:
        return rng.choice(SENTENCES)
    words = rng.choice(WORDS)
    return " ".join(rng.choice(words) for _ in range(rng.randint(2, 7))).capitalize() + rng.choice(["", "", "?", "."])


def mash(rng: random.Random) -> str:
    """The text of a cat that walks over the keyboard."""
    words = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        row = rng.choice(ROWS)
        words.append("".join(rng.choice(row) for _ in range(rng.randint(2, 9))))
    return " ".join(words)
