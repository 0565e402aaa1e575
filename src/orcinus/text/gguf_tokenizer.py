"""The tokenizer in a GGUF file, built with the `tokenizers` library.

A file holds the vocabulary, and the name of the way in which texts are split before merges; llama.cpp's source is the reference
for these names. transformers reads such tokenizers, too; by its source it takes unknown names for GPT-2's (ADR 45).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from orcinus.errors import ModelError, shown
from orcinus.gguf_file import GgufFile
from orcinus.text.fast_tokenizer import TokenizerFacts
from orcinus.text.token_names import BYTE_TOKEN

KIND = "tokenizer.ggml.model"
NO_TOKENIZER = (None, "none", "no_vocab")  # what files without one say
UNKNOWN, CONTROL, USER_DEFINED, BYTE = 2, 3, 4, 6  # kinds of tokens
NAMED = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
ENDS = ("eos", "eot", "eom")  # tokens that end a text, a turn or a message
END_NAMES = {
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
    "</s>",
    "<EOT>",
}
PHI3 = ("phi3", "llama")  # an architecture and a kind of tokenizer: its added tokens swallow the space behind them,
KEEPING = ("<unk>", "<s>", "<|endoftext|>")  # but for these
SPACE = "▁"  # SentencePiece's sign for a space
MOST_PIECE = 512  # characters of a token: splits of longer ones are not looked for

# Splits of byte-level vocabularies, from the tokenizer.json files that they were made from.
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORDS = (
    rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{digits}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3, QWEN2 = WORDS.replace("{digits}", "{1,3}"), WORDS.replace("{digits}", "")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BEFORE = r"[^\r\n\p{L}\p{N}]?"
TEKKEN = rf"{BEFORE}{UPPER}*{LOWER}+|{BEFORE}{UPPER}+{LOWER}*|\p{{N}}|{REST}"
GPT4O = rf"{BEFORE}{UPPER}*{LOWER}+{CONTRACTIONS}?|{BEFORE}{UPPER}+{LOWER}*{CONTRACTIONS}?|\p{{N}}{{1,3}}|{REST}"


class PreTokenizer(NamedTuple):
    """How texts are split before merges."""

    split: str = ""  # "": GPT-2's way
    digits: bool = False  # one digit at a time, before that
    composed: bool = False  # characters are composed first (NFC)
    ignore_merges: bool = False  # a word that is a token is that token
    add_bos: bool = False  # if the file does not say it


GPT2, ONE_DIGIT = PreTokenizer(), PreTokenizer(digits=True)
OF_LLAMA3 = PreTokenizer(LLAMA3, ignore_merges=True, add_bos=True)
OF_QWEN2 = PreTokenizer(QWEN2, composed=True)
OF_GPT4O = PreTokenizer(GPT4O)
PRE_TOKENIZERS = {
    "default": GPT2,
    **dict.fromkeys(("gpt-2", "phi-2", "olmo", "mpt", "jais", "trillion", "gigachat", "mellum"), GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), ONE_DIGIT),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"), OF_LLAMA3),
    **dict.fromkeys(("dbrx", "smaug-bpe", "glm4", "chatglm-bpe"), PreTokenizer(LLAMA3)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "megrez"), OF_QWEN2),
    "stablelm2": PreTokenizer(QWEN2),
    "tekken": PreTokenizer(TEKKEN, ignore_merges=True, add_bos=True),
    **dict.fromkeys(("gpt-4o", "llama4"), OF_GPT4O),
}


class GgufVocabulary(NamedTuple):
    """The tokens of a file, by id."""

    tokens: list[str]
    kinds: list[int]  # one for each token, or none
    ids: dict[str, int]

    @classmethod
    def of(cls, file: GgufFile) -> GgufVocabulary:
        """Raises `ModelError` if there are no tokens, or their lists disagree."""
        tokens = file.values("tokenizer.ggml.tokens") or []
        kinds = file.values("tokenizer.ggml.token_type") or []
        if not tokens or not all(isinstance(token, str) for token in tokens):
            raise ModelError(f"the tokenizer in {file.path} has no list of tokens")
        if kinds and (len(kinds) != len(tokens) or not all(isinstance(kind, int) for kind in kinds)):
            raise ModelError(f"the tokenizer in {file.path} has {len(tokens)} tokens, but {len(kinds)} kinds of them")
        return cls(tokens, kinds, {token: number for number, token in enumerate(tokens)})

    def named(self, file: GgufFile, name: str) -> str | None:
        """The token whose id a field of the file holds. Raises `ModelError` if there is no such token."""
        number: int | None = file.get(f"tokenizer.ggml.{name}_token_id", int)
        if number is None:
            return None
        if not 0 <= number < len(self.tokens):
            raise ModelError(
                f"the tokenizer in {file.path} has {len(self.tokens)} tokens, but its {name} token is number {number}"
            )
        return self.tokens[number]


def gguf_tokenizer(file: GgufFile) -> TokenizerFacts | None:
    """The tokenizer of a file; None if it holds none. Raises `ModelError` if it is broken or of an unknown kind."""
    kind = file.get(KIND, str)
    if kind in NO_TOKENIZER:
        return None
    if kind not in BUILDERS:
        known = ", ".join(BUILDERS)
        raise ModelError(f"the tokenizer in {file.path} is of kind {shown(kind)}, which is not supported: known are {known}")
    vocabulary = GgufVocabulary.of(file)
    backend, adds_bos = BUILDERS[kind](file, vocabulary)
    strips = (file.architecture, kind) == PHI3
    added = [
        AddedToken(token, normalized=False, special=of_kind == CONTROL, rstrip=strips and token not in KEEPING)
        for token, of_kind in zip(vocabulary.tokens, vocabulary.kinds, strict=False)
        if of_kind in (CONTROL, USER_DEFINED) and token
    ]
    backend.add_tokens(added)
    names = {name: vocabulary.named(file, key) for name, key in NAMED.items()}
    _add_around(backend, file, vocabulary, adds_bos)
    special = {name: token for name, token in names.items() if token is not None}
    return TokenizerFacts(backend.to_str(), "PreTrainedTokenizerFast", special, _templates(file), split_special_tokens=False)


def gguf_end_ids(file: GgufFile) -> frozenset[int]:
    """Every token id that ends a text: those that the file names, and control tokens with usual names."""
    if file.get(KIND, str) in NO_TOKENIZER:
        return frozenset()
    vocabulary = GgufVocabulary.of(file)
    numbers = [file.get(f"tokenizer.ggml.{name}_token_id", int) for name in ENDS]
    usual = [number for name in END_NAMES if (number := vocabulary.ids.get(name)) is not None]
    control = [number for number in usual if vocabulary.kinds and vocabulary.kinds[number] == CONTROL]
    return frozenset(number for number in [*numbers, *control] if number is not None)


def _byte_level(file: GgufFile, vocabulary: GgufVocabulary) -> tuple[Backend, bool]:
    """A byte-level vocabulary with merges, as GPT-2's."""
    name = file.get("tokenizer.ggml.pre", str, "default")
    if name not in PRE_TOKENIZERS:
        raise ModelError(f"the tokenizer in {file.path} splits texts like {shown(name)}, which is not supported")
    merges = _stored_merges(file, vocabulary)
    kind = PRE_TOKENIZERS[name]
    backend = Backend(models.BPE(vocabulary.ids, merges, ignore_merges=kind.ignore_merges))
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if kind.digits else []
    if kind.split:
        steps.append(pre_tokenizers.Split(Regex(kind.split), behavior="isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not kind.split))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    if kind.composed:
        backend.normalizer = normalizers.NFC()
    backend.decoder = decoders.ByteLevel()
    return backend, kind.add_bos


def _stored_merges(file: GgufFile, vocabulary: GgufVocabulary) -> list[tuple[str, str]]:
    """The merges of a file, first ones first. Raises `ModelError` if they are not of tokens."""
    merges = list[tuple[str, str]]()
    for merge in file.values("tokenizer.ggml.merges") or []:
        left, _, right = str(merge).partition(" ")
        if not {left, right, left + right} <= vocabulary.ids.keys():
            raise ModelError(f"the tokenizer in {file.path} merges {shown(merge)}, which are no tokens")
        merges.append((left, right))
    return merges


def _sentencepiece(file: GgufFile, vocabulary: GgufVocabulary) -> tuple[Backend, bool]:
    """SentencePiece's BPE, as Llama 2's: the merge of the token with the highest score comes first."""
    scores = file.values("tokenizer.ggml.scores")
    if scores is None or len(scores) != len(vocabulary.tokens) or not all(isinstance(score, float) for score in scores):
        raise ModelError(f"the tokenizer in {file.path} has no scores, one for each token")
    unknown = vocabulary.named(file, "unknown")
    falls_back = any(BYTE_TOKEN.fullmatch(token) for token in vocabulary.tokens)
    merges = _merges(vocabulary, scores)
    backend = Backend(models.BPE(vocabulary.ids, merges, unk_token=unknown, fuse_unk=True, byte_fallback=falls_back))
    prefix: bool = file.get("tokenizer.ggml.add_space_prefix", bool, True)
    before = [normalizers.Prepend(SPACE)] if prefix else []
    backend.normalizer = normalizers.Sequence([*before, normalizers.Replace(" ", SPACE)])
    after = [decoders.Strip(" ", 1, 0)] if prefix else []
    backend.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *after])
    return backend, True


def _merges(vocabulary: GgufVocabulary, scores: Sequence[float]) -> list[tuple[str, str]]:
    """Every way to make a token of two others, best score first."""
    ids, found = vocabulary.ids, list[tuple[float, int, int, int, tuple[str, str]]]()
    other = {UNKNOWN, CONTROL, BYTE}
    for number, token in enumerate(vocabulary.tokens):
        if (vocabulary.kinds and vocabulary.kinds[number] in other) or len(token) > MOST_PIECE or ids[token] != number:
            continue
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in ids and right in ids:
                found.append((-scores[number], number, ids[left], ids[right], (left, right)))
    return [pair for *_, pair in sorted(found)]


def _add_around(backend: Backend, file: GgufFile, vocabulary: GgufVocabulary, adds_bos: bool) -> None:
    """Make the backend add BOS and EOS as the file asks."""
    around = []
    for name, default in (("bos", adds_bos), ("eos", False)):
        token = vocabulary.named(file, name)
        wanted = file.get(f"tokenizer.ggml.add_{name}_token", bool, default)
        around.append(token if wanted else None)
    bos, eos = around
    if bos is None and eos is None:
        return
    names = [name for name in (bos, "$A", eos) if name is not None]
    used = [(name, vocabulary.ids[name]) for name in {bos, eos} if name is not None]
    backend.post_processor = processors.TemplateProcessing(single=names, special_tokens=used)


def _templates(file: GgufFile) -> str | dict[str, str] | None:
    """The chat template, or several by name."""
    default: str | None = file.get("tokenizer.chat_template", str)
    names = [name for name in file.values("tokenizer.chat_templates") or [] if isinstance(name, str)]
    found = {name: template for name in names if (template := file.get(f"tokenizer.chat_template.{name}", str))}
    if not found:
        return default
    return found if default is None else {"default": default, **found}


BUILDERS = {"gpt2": _byte_level, "llama": _sentencepiece}
