"""Writes the model card from the numbers of a finished run."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

CARD = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---

# The tiny model bundled with Orcinus

A very small chat model, so that the engine can be tried at once on a fresh machine, without a download. It answers
greetings, explains how language models are served (Orca, SARATHI, batching, the K/V cache and their relatives), chats
about the sea and its animals, simple science, food and everyday things, and tells stories, jokes and short poems.
Asked about anything else, it says kindly that it does not know.

## What it is

| | |
|---|---|
| Architecture | Qwen3: 5 layers, hidden size 256, 4 query and 2 key and value heads of size 64, feed-forward 640 |
| Weights | {weights:,}, tied embeddings, stored in bfloat16 |
| Tokenizer | byte-level BPE, 2,048 tokens, learned from the same texts; every byte sequence round-trips |
| Context | 2,048 tokens |
| Chat format | ChatML: `<|im_start|>role`, newline, content, `<|im_end|>`, newline; no BOS token |
| End of answer | `<|im_end|>`; plain texts end with `<|endoftext|>`, which is also the padding token |
| Licence | Apache-2.0 |
| SHA-256 of model.safetensors | `{digest}` |

## Data

Every text was written for this model and is part of the source code, in `tools/tiny/corpus`: {topics} topics whose
answers are built from interchangeable sentences, {exchanges} kinds of small talk, {plots} story plots for {heroes}
heroes, verses, jokes, and many hundreds of things to be declined. A seeded sampler combines them into conversations
of one to eighteen turns, with follow-up questions, changes of topic, typing mistakes, and some plain texts. There is
no downloaded data in it.

## Training

    python -m tools.tiny.train --out DIR

in a clone of Orcinus's repository. The defaults of the command are the values of this run:

{settings}

The run made {steps:,} steps on {tokens:,} tokens (padding included) in {minutes:.0f} minutes on 2 CPU cores that were
shared with other work, in single precision, and the result was rounded to bfloat16. A phase that uses up its share
of the minutes ends early, with its decay complete, so a busy machine makes a few steps fewer than the settings say.{note}

The loss counts the answers and the plain texts in full, the first words of an answer four times, names and the
pronouns of heroes five times, since they have to be copied, and the questions a little. Many conversations are single
questions that are cut off where the answer has begun, for the first words decide what it will be about, and so many
more questions can be met in the same time. The hidden matrices are trained with Muon, the embedding and the norms
with AdamW; linear warm-up, then a cosine to zero. The final steps are a second phase at a lower rate, from the
rounded weights of the first: it has more single words, more questions without capitals and more stories with all
sorts of names. The loss rises where it begins, since that mixture is harder. The texts and their order are the same
in every run with the same seed, but the last digits of the weights depend on the processor, the number of threads and
the version of torch, and so does the checksum.

| Step | Tokens | Smoothed training loss |
|---:|---:|---:|
{table}

Held-out perplexity of the answers, on conversations drawn with another seed, with phrasings and unknown nouns that
training never uses, measured on the rounded weights: **{perplexity:.3f}**. The number is low because the language of
the corpus is small. It says nothing about English at large.

## Limits

The model knows only its own few topics and puts its sentences together from what it has read. It may answer a detailed
question with the general text on that topic, take an unfamiliar thing for a familiar one, or decline something it
knows if the wording is unusual. In a story, a name that the reader has chosen may come out changed, and at a higher
temperature the hero may change names. It cannot do sums. It speaks English only, has no
news, no clock and no tools, and should not be relied on for anything that matters.
"""


@dataclass
class Result:
    """A run's results for the card."""

    settings: dict[str, object]
    log: list[dict[str, float]]
    minutes: float
    perplexity: float
    weights: int
    sizes: dict[str, int]
    note: str = ""


def loss_table(log: list[dict[str, float]], rows: int = 12) -> str:
    """Pick some lines of the log, evenly spaced, including the last."""
    chosen = sorted({round(i * (len(log) - 1) / (rows - 1)) for i in range(rows)}) if log else []
    return "\n".join(f"| {log[i]['step']:,} | {log[i]['tokens']:,} | {log[i]['loss']:.3f} |" for i in chosen)


def write(folder: Path, result: Result) -> None:
    """Write the card beside the checkpoint."""
    text = CARD.format(
        digest=hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        settings="\n".join(f"- {key.replace('_', ' ')}: {value}" for key, value in result.settings.items()),
        steps=int(result.log[-1]["step"]),
        tokens=int(result.log[-1]["tokens"]),
        table=loss_table(result.log),
        minutes=result.minutes,
        perplexity=result.perplexity,
        weights=result.weights,
        note=result.note and "\n\n" + result.note,
        **result.sizes,
    )
    (folder / "README.md").write_text(text)
