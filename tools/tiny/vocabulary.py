"""The bundled model's tokenizer: byte-level BPE with ChatML tokens.

It is learned from the corpus.
"""

import json
import random
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tools.tiny.corpus import chat
from tools.tiny.corpus.final_mixture import words_to_keep

IM_START, IM_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
VOCAB_SIZE = 2048
OPENING, OPENING_WEIGHT, ASKED_WEIGHT, KEEP_WEIGHT = 6, 4.0, 0.1, 5.0

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def build_tokenizer(seed: int, documents: int = 12_000) -> PreTrainedTokenizerFast:
    """Learn the merges from a sample of the corpus.

    All 256 bytes are in the alphabet, so any text round-trips.
    """
    rng = random.Random(seed)
    texts = []
    for _ in range(documents):
        document = chat.draw(rng)
        texts += [document] if isinstance(document, str) else [message["content"] for message in document]
    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(token, special=True, normalized=False) for token in (END_OF_TEXT, IM_START, IM_END)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=IM_END,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
        extra_special_tokens=[IM_START],
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def encode(tokenizer: PreTrainedTokenizerFast, document: list[dict[str, str]] | str) -> tuple[list[int], list[float]]:
    """Turn a document into tokens and their weights in training.

    Answers and plain texts count in full. The first words of an answer count more, because they decide what it will be about,
    and the rest nearly follows. Questions count a little, which teaches which words belong together in them. Names, and the
    pronouns in stories, count more too, because they have to stay the same.
    """
    backend = tokenizer.backend_tokenizer
    if isinstance(document, str):
        whole = backend.encode(document + END_OF_TEXT)
        return whole.ids, [0.0, *stress(document, whole.offsets, [1.0] * len(whole.ids))[1:]]
    ids, weights = [], []
    for message in document:
        head = backend.encode(f"{IM_START}{message['role']}\n").ids
        coded = backend.encode(message["content"] + IM_END)
        body = coded.ids
        tail = backend.encode("\n").ids
        ids += head + body + tail
        if message["role"] == "assistant":
            counts = [OPENING_WEIGHT if n < OPENING else 1.0 for n in range(len(body))]
            counts = stress(message["content"], coded.offsets, counts)
        else:
            counts = [ASKED_WEIGHT] * len(body)
        weights += [0.0] * len(head) + counts + [0.0] * len(tail)
    return ids, weights


def stress(text: str, offsets: list[tuple[int, int]], weights: list[float]) -> list[float]:
    """Give their weight to the words that must not change."""
    pattern = words_to_keep(text)
    if pattern is None:
        return weights
    spans = [found.span() for found in pattern.finditer(text)]
    kept = [any(start < end_ and end > begin for begin, end_ in spans) for start, end in offsets]
    return [max(weight, KEEP_WEIGHT) if stay else weight for weight, stay in zip(weights, kept, strict=True)]


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the tokenizer under a class name that older transformers know."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings.pop("backend", None)
    path.write_text(json.dumps(settings, indent=2) + "\n")
