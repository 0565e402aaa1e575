"""The tokenizer of the bundled model: nothing is lost, and chats look as ChatML does."""

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from orcinus.tiny import MODEL_DIR
from tests.examples import examples

TOKENIZER = AutoTokenizer.from_pretrained(MODEL_DIR)
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")


@examples(200)
@given(st.text())
def test_any_text_round_trips(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@examples(100)
@given(st.binary())
def test_any_bytes_round_trip(raw: bytes) -> None:
    text = raw.decode("latin-1")
    assert TOKENIZER.decode(TOKENIZER.encode(text)).encode("latin-1") == raw


def test_all_bytes_are_in_the_alphabet() -> None:
    backend = TOKENIZER.backend_tokenizer
    assert all(backend.token_to_id(letter) is not None for letter in pre_tokenizers.ByteLevel.alphabet())


def test_special_tokens() -> None:
    assert TOKENIZER.eos_token == "<|im_end|>"
    assert TOKENIZER.pad_token == "<|endoftext|>"
    for token in SPECIAL:
        assert len(TOKENIZER.encode(token)) == 1
    assert TOKENIZER.encode("Hello") == TOKENIZER.encode("Hello", add_special_tokens=False)


def test_chat_template() -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Bye"},
    ]
    assert TOKENIZER.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    )
