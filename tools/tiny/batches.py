"""Batches of whole documents of similar length.

Every conversation starts at position zero, as in use.
"""

import random
from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from tools.tiny.corpus import chat, final_mixture
from tools.tiny.vocabulary import IM_START, encode

MAX_LENGTH = 2048
LONG_SHARE = 0.006
POOL = 384
QUICK_SHARES = {"usual": 0.35, "final": 0.55, "held-out": 0.0}
NAMED_SHARES = {"usual": 0.10, "final": 0.10, "held-out": 0.0}
QUICK_CUT, NAMED_CUT = 16, 64


Document = tuple[list[int], list[float]]
Batch = tuple[Tensor, Tensor, Tensor]


def draw_encoded(rng: random.Random, tokenizer: PreTrainedTokenizerFast, mixture: str) -> Document:
    """Draw and encode a document, cut off at the longest context.

    `mixture` is `usual`, `final` or `held-out`. Quick questions and named heroes are cut off soon after the answer began: its
    first words show what it will be about, and whether a name is copied, so the same time covers many more questions.
    """
    chance, end = rng.random(), MAX_LENGTH
    document: final_mixture.Conversation | str
    if chance < QUICK_SHARES[mixture]:
        document, cut = final_mixture.quick(rng), QUICK_CUT
    elif chance < QUICK_SHARES[mixture] + NAMED_SHARES[mixture]:
        document, cut = final_mixture.named(rng), NAMED_CUT
    else:
        long = rng.random() < LONG_SHARE
        document = final_mixture.draw(rng, long) if mixture == "final" else chat.draw(rng, long, held_out=mixture == "held-out")
        cut = 0
    ids, weights = encode(tokenizer, document)
    if cut:
        end = len(ids) - ids[::-1].index(tokenizer.convert_tokens_to_ids(IM_START)) + cut
    return ids[:end], weights[:end]


def collate(documents: list[Document], pad: int) -> Batch:
    """Pad documents on the right.

    Returns inputs, the tokens that come next, and the weight of each of these.
    """
    longest = max(len(ids) for ids, _ in documents)
    inputs = torch.full((len(documents), longest), pad)
    targets = torch.full((len(documents), longest), pad)
    weights = torch.zeros((len(documents), longest))
    for row, (ids, counts) in enumerate(documents):
        inputs[row, : len(ids)] = torch.tensor(ids)
        targets[row, : len(ids) - 1] = torch.tensor(ids[1:])
        weights[row, : len(ids) - 1] = torch.tensor(counts[1:])
    return inputs, targets, weights


def batches(rng: random.Random, tokenizer: PreTrainedTokenizerFast, tokens: int, mixture: str = "usual") -> Iterator[Batch]:
    """Yield batches of about this many tokens, for ever.

    Draws a pool, sorts it by length, cuts it into batches, shuffles them.
    """
    pad = tokenizer.pad_token_id
    assert isinstance(pad, int)
    while True:
        pool = sorted((draw_encoded(rng, tokenizer, mixture) for _ in range(POOL)), key=lambda document: len(document[0]))
        groups: list[list[Document]] = [[]]
        for document in pool:
            if groups[-1] and (len(groups[-1]) + 1) * len(document[0]) > tokens:
                groups.append([])
            groups[-1].append(document)
        rng.shuffle(groups)
        for group in groups:
            yield collate(group, pad)
