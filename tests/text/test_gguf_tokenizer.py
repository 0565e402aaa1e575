"""Tokenizers in GGUF files: the ids of the tokenizer that they were made from, and of llama.cpp's rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import gguf
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from orcinus.core.sampling_params import SamplingParams
from orcinus.errors import ModelError
from orcinus.gguf_file import read_gguf
from orcinus.text.generation_config import default_params, end_of_text_ids
from orcinus.text.gguf_tokenizer import PRE_TOKENIZERS, gguf_tokenizer
from orcinus.text.token_names import CHARACTER_BYTES
from orcinus.text.tokenizer import Tokenizer as OurTokenizer
from orcinus.text.tokenizer import load_tokenizer
from orcinus.tiny import MODEL_DIR
from tests.gguf_files import write_gguf

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
TEXTS = ["Hello world", "  two  blanks\n\nand lines", "It's 12345 o'clock", "naïve café 日本語 🦊", "<|im_end|> is a mark", ""]
Write = Callable[[gguf.GGUFWriter], None]


def write(
    file: Path, kind: str, tokens: Sequence[str], kinds: Sequence[int], *more: Write, architecture: str = "llama"
) -> Path:
    """A file that holds a tokenizer alone."""
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_tokenizer_model(kind)
    writer.add_token_list(list(tokens))
    writer.add_token_types(list(kinds))
    for change in more:
        change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return file


def read(file: Path) -> OurTokenizer:
    found = load_tokenizer(file)
    assert found is not None
    return found


def test_the_bundled_tokenizer_survives(tmp_path: Path) -> None:
    ours, theirs = read(write_gguf(MODEL_DIR, tmp_path / "model.gguf", "Q8_0")), read(MODEL_DIR)
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text)
        assert ours.decode(ours.encode(text)) == theirs.decode(theirs.encode(text))
    messages = [{"role": "user", "content": "Hi <|im_end|>"}]
    assert ours.encode_chat(messages) == theirs.encode_chat(messages)
    assert (ours.special_ids, ours.eos_ids, ours.added_ids) == (theirs.special_ids, theirs.eos_ids, theirs.added_ids)
    assert ours.facts() | {"tokenizer_class": None} == theirs.facts() | {"tokenizer_class": None}


# Words between which no merge may reach, by the tokenizer.json files of models that have these names.
SPLITS = {
    "gpt-2": ["It", "'s", " 12345", "!!", "  ", " DON", "'", "T", "\n", "\n", "x"],
    "smollm": ["It", "'s", " ", "1", "2", "3", "4", "5", "!!", "  ", " DON", "'", "T", "\n", "\n", "x"],
    "llama-bpe": ["It", "'s", " ", "123", "45", "!!", "  ", " DON", "'T", "\n\n", "x"],
    "qwen2": ["It", "'s", " ", "1", "2", "3", "4", "5", "!!", "  ", " DON", "'T", "\n\n", "x"],
    "tekken": ["It", "'s", " ", "1", "2", "3", "4", "5", "!!", "  ", " DON", "'T", "\n\n", "x"],
    "gpt-4o": ["It's", " ", "123", "45", "!!", "  ", " DON'T", "\n\n", "x"],
}
SPELLED = {byte: char for char, byte in CHARACTER_BYTES.items()}


@pytest.mark.parametrize("name", SPLITS)
def test_texts_are_split_as_the_file_says(tmp_path: Path, name: str) -> None:
    text = "".join(SPLITS[name])
    facts = gguf_tokenizer(
        read_gguf(write(tmp_path / "model.gguf", "gpt2", ["a"], [NORMAL], lambda w: w.add_tokenizer_pre(name)))
    )
    assert facts is not None
    pre_tokenizer = Tokenizer.from_str(facts.backend).pre_tokenizer
    assert [text[start:end] for _, (start, end) in pre_tokenizer.pre_tokenize_str(text)] == SPLITS[name]


def test_all_ways_to_split_can_be_built(tmp_path: Path) -> None:
    for name in PRE_TOKENIZERS:
        file = write(tmp_path / "model.gguf", "gpt2", ["a"], [NORMAL], lambda w, name=name: w.add_tokenizer_pre(name))  # type: ignore[misc]
        assert read(file).decode(read(file).encode("a")) == "a"


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, list[str]]:
    """A tokenizer like Llama 2's, and its tokens in the order of their merges."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("▁+[^▁]*"), "isolated")  # to learn from; Llama's has none
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    corpus = (MODEL_DIR / "README.md").read_text()
    backend.train_from_iterator([corpus], trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False))
    backend.pre_tokenizer = None
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    vocabulary = backend.get_vocab()
    return backend, sorted(vocabulary, key=vocabulary.__getitem__)


def write_sentencepiece(file: Path, tokens: Sequence[str], *more: Write, architecture: str = "llama") -> Path:
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256]
    kinds += [USER_DEFINED if token == "<|user|>" else NORMAL for token in tokens[259:]]
    scores = [0.0] * 259 + [-float(number) for number in range(len(tokens) - 259)]
    return write(
        file, "llama", tokens, kinds, lambda w: w.add_token_scores(scores), lambda w: w.add_bos_token_id(1),
        lambda w: w.add_eos_token_id(2), lambda w: w.add_unk_token_id(0), *more,
        architecture=architecture,
    )  # fmt: skip


def test_sentencepiece_merges_by_score(sentencepiece: tuple[Tokenizer, list[str]], tmp_path: Path) -> None:
    backend, tokens = sentencepiece
    ours = read(write_sentencepiece(tmp_path / "model.gguf", tokens))
    for text in ["The bundled model", "a  b\n c", "日 é 🦊", *(MODEL_DIR / "README.md").read_text().splitlines()]:
        assert ours.encode(text, special=False) == tuple(backend.encode(text, add_special_tokens=False).ids)
        assert ours.decode(ours.encode(text)) == text
    assert ours.encode("a")[0] == 1, "Llama's begin with bos, unless the file says otherwise"
    assert ours.eos_ids == {2}


def test_a_file_says_what_stands_around_texts(sentencepiece: tuple[Tokenizer, list[str]], tmp_path: Path) -> None:
    _, tokens = sentencepiece
    number = {token: index for index, token in enumerate(tokens)}
    plain = read(write_sentencepiece(tmp_path / "plain.gguf", tokens))
    bare = read(
        write_sentencepiece(
            tmp_path / "bare.gguf", tokens, lambda w: w.add_add_bos_token(False), lambda w: w.add_add_space_prefix(False)
        )
    )
    both = read(write_sentencepiece(tmp_path / "both.gguf", tokens, lambda w: w.add_add_eos_token(True)))
    assert bare.encode("t") == (number["t"],)
    assert plain.encode("t") == (1, number["▁t"])
    assert both.encode("t") == (1, number["▁t"], 2)
    assert [each.decode(each.encode("t")) for each in (bare, plain, both)] == ["t"] * 3


@pytest.mark.parametrize(("architecture", "strips"), [("phi3", True), ("llama", False)])
def test_added_tokens_of_phi_3_swallow_space(
    sentencepiece: tuple[Tokenizer, list[str]], tmp_path: Path, architecture: str, strips: bool
) -> None:
    """As its tokenizer_config.json says (`rstrip`); a file has no place for that."""
    tokens = [*sentencepiece[1], "<|user|>"]
    file = write_sentencepiece(tmp_path / "model.gguf", tokens, architecture=architecture)
    ids = read(file).encode("<|user|>\n t<s> t", special=False)
    user, letter, bos = len(tokens) - 1, tokens.index("▁t"), 1
    assert ids[0] == user
    assert (ids[1] == letter) is strips
    assert len(ids[ids.index(bos) :]) == 3, "its <s> keeps the space, which is a token here"


def test_a_file_may_say_that_it_has_none(tmp_path: Path) -> None:
    file = write(tmp_path / "model.gguf", "none", ["a"], [NORMAL])
    assert load_tokenizer(file) is None
    assert end_of_text_ids(file) == frozenset()


def test_user_defined_tokens_are_whole_and_shown(tmp_path: Path) -> None:
    tokens = [SPELLED[byte] for byte in range(256)] + ["<think>", "<|im_end|>", "<｜end｜>"]
    kinds = [NORMAL] * 256 + [USER_DEFINED, CONTROL, CONTROL]
    ours = read(write(tmp_path / "model.gguf", "gpt2", tokens, kinds, lambda w: w.add_eos_token_id(258)))
    assert ours.encode("<think>a<|im_end|><｜end｜>") == (256, ord("a"), 257, 258)
    assert ours.decode([256, 257, 258]) == "<think>"
    assert ours.special_ids == {257, 258}
    assert ours.eos_ids == {257, 258}, "the file's, and a control token that ends turns"


def test_sampling_and_templates_of_a_file(tmp_path: Path) -> None:
    def recommend(writer: gguf.GGUFWriter) -> None:
        writer.add_float32("general.sampling.temp", 0.5)
        writer.add_int32("general.sampling.top_k", 20)
        writer.add_chat_template([{"name": "default", "template": "one"}, {"name": "tool_use", "template": "two"}])

    file = write(tmp_path / "model.gguf", "gpt2", ["a"], [NORMAL], recommend)
    assert default_params(file) == SamplingParams(temperature=0.5, top_k=20)
    assert read(file).chat_template == "one\ntwo"
    assert end_of_text_ids(file) == frozenset()


def field(name: str, value: object) -> Write:
    def change(writer: gguf.GGUFWriter) -> None:
        if isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        else:
            writer.add_uint32(name, value)  # type: ignore[arg-type]

    return change


@pytest.mark.parametrize(
    ("kind", "tokens", "kinds", "change", "message"),
    [
        ("bert", ["a"], [1], [], "is of kind 'bert', which is not supported: known are gpt2, llama"),
        ("gpt2", ["a"], [1, 1], [], "has 1 tokens, but 2 kinds of them"),
        ("gpt2", ["a"], [1], [field("tokenizer.ggml.pre", "new")], "splits texts like 'new', which is not supported"),
        ("gpt2", ["a", "b"], [1, 1], [field("tokenizer.ggml.merges", ["a b"])], "merges 'a b', which are no tokens"),
        ("gpt2", ["a"], [1], [field("tokenizer.ggml.eos_token_id", 7)], "has 1 tokens, but its eos token is number 7"),
        ("llama", ["a"], [1], [], "has no scores, one for each token"),
    ],
)
def test_a_broken_tokenizer_says_why(
    tmp_path: Path, kind: str, tokens: list[str], kinds: list[int], change: list[Write], message: str
) -> None:
    file = write(tmp_path / "model.gguf", kind, tokens, kinds, *change)
    with pytest.raises(ModelError, match=message):
        load_tokenizer(file)


def test_a_file_may_hold_no_tokenizer(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert load_tokenizer(tmp_path / "model.gguf") is None
    assert end_of_text_ids(tmp_path / "model.gguf") == frozenset()
