"""Small tokenizers of every kind that models come with, made with the library that reads theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from orcinus.text.token_names import CHARACTER_BYTES
from orcinus.text.tokenizer import Tokenizer

SPELLED = {byte: char for char, byte in CHARACTER_BYTES.items()}
SPECIAL = ["<s>", "</s>", "<|turn|>"]
PLAIN = ["<tool>", "日本"]  # added, but not special


def byte_level(words: Sequence[bytes]) -> Backend:
    """As GPT-2's, Llama 3's and Qwen's: every token is some bytes, not always whole characters."""
    names = dict.fromkeys([*(bytes([byte]) for byte in range(256)), *words])
    vocabulary = {"".join(SPELLED[byte] for byte in name): number for number, name in enumerate(names)}
    backend = Backend(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def pieces(words: Sequence[str], decoder: Any, byte_tokens: Sequence[int] = ()) -> Backend:
    """A vocabulary of text, with tokens for single bytes if it falls back to them."""
    names = ["<unk>", *(f"<0x{byte:02X}>" for byte in byte_tokens), *words]
    backend = Backend(models.BPE({name: number for number, name in enumerate(names)}, [], unk_token="<unk>"))
    if decoder is not None:
        backend.decoder = decoder
    return backend


def sentencepiece(*after: Any, byte_tokens: Sequence[int] = range(256)) -> Backend:
    """As Llama 2's, Mistral's and Gemma's: words with a sign for the space before them, and bytes for all else."""
    chain = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *after]
    return pieces(["▁", "▁▁", "▁the", "the", "▁a", "a", "▁▁b", "é", "\ufffd", "▁日"], decoders.Sequence(chain), byte_tokens)


WORDS = [
    b" the",
    b"the",
    b" a\xe2",
    b"\x82\xac",
    b"\xac b",
    b"\x9f\x90",
    b"\xf0\x9f",
    "日".encode(),
    b"\xef\xbf\xbd",
    b"x\x80y",
    b" ",
]
SPACED = ["▁", "▁▁", "▁the", "the", "▁a", "a", "b"]
LETTERS = ["the", "##re", "a", "b", ".", ",", "'s", "##", "n't"]
ENDINGS = ["the</w>", "a</w>", "b", "the", "</w>", ".</w>"]
ASCII = [0x20, 0x41, 0xC3, 0xA9, 0x80]

MAKERS: dict[str, Callable[[], Backend]] = {
    "byte-level": lambda: byte_level(WORDS),
    "llama-2": lambda: sentencepiece(decoders.Strip(" ", 1, 0)),
    "gemma": sentencepiece,
    "few-bytes": lambda: sentencepiece(decoders.Strip(" ", 1, 0), byte_tokens=ASCII),
    "strips-three": lambda: sentencepiece(decoders.Strip(" ", 3, 0)),
    "drops-a-word": lambda: pieces(
        [*SPACED, "blank"],
        decoders.Sequence(
            [decoders.Replace("blank", ""), decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        ),
    ),
    "metaspace": lambda: pieces(SPACED, decoders.Metaspace()),
    "metaspace-never": lambda: pieces(SPACED, decoders.Metaspace(prepend_scheme="never")),
    "wordpiece": lambda: pieces(LETTERS, decoders.WordPiece()),
    "wordpiece-no-cleanup": lambda: pieces(LETTERS, decoders.WordPiece(cleanup=False)),
    "endings": lambda: pieces(ENDINGS, decoders.BPEDecoder()),
    "no-decoder": lambda: pieces(["the", "a", "b"], None),
}


def tokenizer(kind: str) -> Tokenizer:
    """A tokenizer of this kind with special and other added tokens. The ids from its length on are holes."""
    fast = PreTrainedTokenizerFast(tokenizer_object=MAKERS[kind](), unk_token=None if kind == "byte-level" else "<unk>")
    fast.add_tokens([AddedToken(name, normalized=False) for name in PLAIN])
    fast.add_special_tokens({"additional_special_tokens": SPECIAL})
    return Tokenizer(fast, frozenset())


def ids_of(made: Tokenizer, *names: str) -> list[int]:
    """The ids of tokens by their names in the vocabulary."""
    found: list[int] = made._tokenizer.convert_tokens_to_ids(list(names))
    assert None not in found
    return found
