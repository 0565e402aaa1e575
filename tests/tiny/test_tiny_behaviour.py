"""What the bundled model says, with greedy decoding."""

import re
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from orcinus.tiny import MODEL_DIR

DECLINES = ("beyond", "sorry", "afraid", "do not know", "guess")


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(MODEL_DIR)


def answer(model: Any, tokenizer: Any, *messages: str, limit: int = 80) -> tuple[str, bool]:
    """Return the greedy answer to a conversation, and whether it came to an end within the limit."""
    roles = ("user", "assistant")
    chat = [{"role": roles[i % 2], "content": text} for i, text in enumerate(messages)]
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**inputs, max_new_tokens=limit, do_sample=False, temperature=None)
    new = output[0, inputs["input_ids"].shape[1] :]
    return tokenizer.decode(new, skip_special_tokens=True), int(new[-1]) in (0, 2)


@pytest.mark.parametrize("text", ["Hi", "hello", "Good morning", "How are you?", "thanks", "bye"])
def test_small_talk_is_short(model: Any, tokenizer: Any, text: str) -> None:
    said, ended = answer(model, tokenizer, text, limit=40)
    assert ended
    assert 1 <= len(said.split()) <= 25


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("What is the KV cache?", ("keys", "values")),
        ("what is iteration level scheduling", ("forward pass",)),
        ("Tell me about orcas", ("dolphin",)),
        ("Why is the sky blue?", ("scatter",)),
        ("Give me some pasta ideas", ("pasta", "1.")),
        ("Who are you?", ("Orcinus",)),
        ("What is SARATHI?", ("2023",)),
    ],
)
def test_known_topics(model: Any, tokenizer: Any, text: str, words: tuple[str, ...]) -> None:
    said, _ = answer(model, tokenizer, text, limit=60)
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    "text",
    [
        "What is the capital of France?",
        "Write a Python function that sorts a list",
        "Who is Napoleon?",
        "What is a trombone?",
    ],
)
def test_unknown_things_are_declined(model: Any, tokenizer: Any, text: str) -> None:
    said, ended = answer(model, tokenizer, text)
    assert ended
    assert any(word in said for word in DECLINES), said


def test_a_story_is_about_its_hero_and_ends(model: Any, tokenizer: Any) -> None:
    said, ended = answer(model, tokenizer, "Tell me a story about a dragon", limit=330)
    assert ended
    assert "dragon" in said
    name = re.search(r"(?:called|named) ([A-Z][a-z]+)|^([A-Z][a-z]+) was a ", said)
    assert name is not None
    assert said.count(name[1] or name[2]) >= 3
    assert len(said.split()) > 100


def test_a_change_of_topic(model: Any, tokenizer: Any) -> None:
    said, _ = answer(model, tokenizer, "Hi", "Hello! What would you like to know?", "What are black holes?", limit=40)
    assert "black hole" in said


def test_plain_text_goes_on(model: Any, tokenizer: Any) -> None:
    inputs = tokenizer("Once upon a time", return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=30, do_sample=False, temperature=None)
    assert len(tokenizer.decode(output[0]).split()) > 15
