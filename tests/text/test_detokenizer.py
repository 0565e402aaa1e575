"""Text as it comes is what the answer adds to its prompt: any tokenizer, any tokens, cut anywhere, at a constant cost."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.text.tokenizer import Tokenizer
from tests.examples import examples
from tests.text.vocabularies import MAKERS, ids_of, tokenizer

KINDS = sorted(MAKERS)
made = cache(tokenizer)
NO = "\ufffd"


def byte_of(one: Tokenizer, token: int) -> int | None:
    """The byte that a token spells, for tokenizers that fall back to bytes."""
    name = one._tokenizer.convert_ids_to_tokens(token) or ""
    return int(name[3:5], 16) if name.startswith("<0x") else None


def whole(one: Tokenizer, ids: Sequence[int]) -> str:
    """The text of all ids at once. A byte that is part of no character is U+FFFD and does not touch those beside it.

    `tokenizers` itself makes U+FFFD of a whole run of bytes with one such byte in it, those of good characters too.
    """
    voiced = [token for token in ids if one.decode([token, token]) or byte_of(one, token) is not None or token in loud(one)]
    mended: list[int] = []
    run: list[int] = []
    for token in [*voiced, None]:
        byte = None if token is None else byte_of(one, token)
        if byte is not None:
            run.append(byte)
            continue
        mended += [
            -1 if "\udc80" <= char <= "\udcff" else ord(char) + 10**6 for char in bytes(run).decode(errors="surrogateescape")
        ]
        run = []
        mended += [] if token is None else [token]
    return joined(one, mended)


def loud(one: Tokenizer) -> frozenset[int]:
    """Tokens that are neither special nor holes."""
    return frozenset(range(len(one._tokenizer))) - one.special_ids


def joined(one: Tokenizer, mended: Sequence[int]) -> str:
    """The text of tokens, of characters that were spelled (their code point + a million) and of bad bytes (-1)."""
    stand_in = "\ue123"  # decodes to itself in every one of these tokenizers, as a character of the text
    backend = one._backend
    names = []
    spelled: list[str] = []
    for token in mended:
        if token == -1 or token >= 10**6:
            spelled.append(NO if token == -1 else chr(token - 10**6))
            names.append(" " if spelled[-1] == " " else stand_in)
        else:
            names.append(one._tokenizer.convert_ids_to_tokens(token))
    text: str = backend.decoder.decode(names) if backend.decoder is not None else " ".join(names)
    parts = text.split(stand_in)
    kept = [char for char in spelled if char != " "]
    return "".join(part + char for part, char in zip(parts, [*kept, ""], strict=True))


def streamed(one: Tokenizer, prompt: Sequence[int], answer: Sequence[int], **options: bool) -> list[str]:
    """The pieces of an answer, one for each token and one for its end."""
    detokenizer = one.detokenizer(prompt, **options)
    return [*map(detokenizer.add, answer), detokenizer.finish()]


def added(one: Tokenizer, prompt: Sequence[int], answer: Sequence[int]) -> str:
    """What an answer adds to the text of its prompt, by decoding everything."""
    before, after = whole(one, prompt), whole(one, [*prompt, *answer])
    same = next((i for i, (old, new) in enumerate(zip(before, after, strict=False)) if old != new), len(before))
    return after[same:]


@st.composite
def some_ids(draw: st.DrawFn, one: Tokenizer, max_size: int) -> list[int]:
    """Ids of the vocabulary, holes too; often bytes, special tokens, and repetitions of one token."""
    size = len(one._tokenizer)
    letters = [token for token in range(size) if byte_of(one, token) is None]
    spelled = [token for char in "aé€🐋 " for token in spell(one, char)]
    token = st.sampled_from(letters[-40:]) | st.integers(0, size + 5) | st.sampled_from(sorted(one.special_ids))
    runs = st.tuples(token, st.integers(1, 6)).map(lambda run: [run[0]] * run[1])
    group = runs | (st.sampled_from(spelled).map(lambda one: [one]) if spelled else runs)
    return [token for run in draw(st.lists(group, max_size=max_size)) for token in run]


def spell(one: Tokenizer, char: str) -> list[int]:
    """A character as byte tokens, if there are such."""
    by_byte = {byte_of(one, token): token for token in range(len(one._tokenizer))}
    if one._bytewise:
        return list(char.encode())
    return [by_byte[byte] for byte in char.encode()] if all(byte in by_byte for byte in char.encode()) else []


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@examples(40)
def test_pieces_joined_are_what_the_answer_adds_wherever_the_prompt_ends(kind: str, data: st.DataObject) -> None:
    one = made(kind)
    ids = data.draw(some_ids(one, 10))
    for cut in range(len(ids) + 1):
        prompt, answer = ids[:cut], ids[cut:]
        assert "".join(streamed(one, prompt, answer)) == added(one, prompt, answer), (prompt, answer)


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_after_every_other_and_after_nothing(kind: str) -> None:
    one = made(kind)
    size = len(one._tokenizer)
    some = sorted({*range(0, min(size, 256), 37), *range(max(0, size - 25), size + 2)})
    for first in some:
        for second in some:
            assert "".join(streamed(one, [first], [second])) == added(one, [first], [second])
            assert "".join(streamed(one, [], [first, second])) == whole(one, [first, second])


def test_the_space_before_the_first_word_of_an_answer_is_kept() -> None:
    one = made("llama-2")
    the, a, begin = ids_of(one, "▁the", "▁a", "<s>")
    assert streamed(one, [begin, the], [a, the]) == [" a", " the", ""]
    assert streamed(one, [], [a, the]) == ["a", " the", ""], "the text's own first space is none"
    assert streamed(one, [begin], [a, the]) == ["a", " the", ""]
    assert streamed(one, ids_of(one, "▁"), [a]) == [" a", ""], "the prompt was that space"


@pytest.mark.parametrize("kind", ["byte-level", "llama-2", "gemma", "few-bytes"])
@pytest.mark.parametrize("char", ["é", "€", "🐋"])
def test_a_character_over_the_prompts_end_is_the_answers(kind: str, char: str) -> None:
    one = made(kind)
    ids = spell(one, char)
    if not ids:
        pytest.skip("its vocabulary does not spell this character")
    (letter,) = ids_of(one, "a")
    for cut in range(1, len(ids)):
        prompt = [letter, *ids[:cut]]
        assert streamed(one, prompt, [*ids[cut:], letter]) == [*[""] * (len(ids) - cut - 1), char, "a", ""]
        assert "".join(streamed(one, prompt, [letter])) == "a", "the U+FFFD is the prompt's"
        shown = NO if kind == "byte-level" else NO * cut
        assert "".join(streamed(one, prompt, [letter], echo=True)) == shown + "a", "unless the prompt is shown, too"
        assert "".join(streamed(one, prompt, [])) == ""
        assert "".join(streamed(one, prompt, [], echo=True)) == shown


@pytest.mark.parametrize("kind", ["byte-level", "llama-2"])
@pytest.mark.parametrize(
    ("raw", "pieces"),
    [
        (b"\x80\x80", [NO, NO]),
        (b"\xff", [NO]),
        (b"\xe2\x82\xac\x80", ["", "", "€", NO]),  # what is complete stays, whatever follows
        (b"\x80\xc3\xa9", [NO, "", "é"]),
        (b"\xe2\x82\xe2\x82\xac", ["", "", "..", "", "€"]),
        (b"\xf0\x9f\xc3\xa9", ["", "", "..", "é"]),
        (b"\xed\xa0\x80", ["", NO + NO, NO]),  # half of a surrogate pair
        (b"\xf4\x90", ["", NO + NO]),  # beyond Unicode
        (b"\xc0\x80", [NO, NO]),
        (b"\xef\xbf\xbd", ["", "", NO]),
    ],
)
def test_bytes_are_shown_as_soon_as_it_is_known_what_they_are(kind: str, raw: bytes, pieces: list[str]) -> None:
    one = made(kind)
    by_byte = {byte_of(one, token): token for token in range(len(one._tokenizer))}
    ids = list(raw) if kind == "byte-level" else [by_byte[byte] for byte in raw]
    broken = NO if kind == "byte-level" else NO * 2  # of a character cut after two bytes: as the tokenizer itself says
    assert streamed(one, [], ids)[:-1] == [broken if piece == ".." else piece for piece in pieces]


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_costs_the_same_however_many_there_were(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = tokenizer(kind)
    sizes: list[int] = []
    decode = one._decode_all

    def counting(ids: Sequence[int]) -> str:
        sizes.append(len(ids))
        return decode(ids)

    _ = one._filler
    monkeypatch.setattr(one, "_decode_all", counting)
    size = len(one._tokenizer)
    plain, special = min(loud(one)), min(one.special_ids)
    bad = [token for token in range(size) if byte_of(one, token) == 0x80] or [0x80 if one._bytewise else plain]
    blank = one._tokenizer.convert_tokens_to_ids("blank") or plain
    for token in (*bad, special, size + 3, plain, blank):
        detokenizer = one.detokenizer([plain, special] * 3)
        sizes.clear()
        for _ in range(2000):
            detokenizer.add(token)
        assert len(sizes) <= 4000
        assert max(sizes, default=0) <= 2 * 4 * 4 + 4
    sizes.clear()
    one.detokenizer([plain, special] * 5000)
    assert sum(sizes) < 2000, "of a long prompt only the end is read"


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@examples(25)
def test_tokens_without_text_between_others_change_nothing(kind: str, data: st.DataObject) -> None:
    one = made(kind)
    ids = data.draw(some_ids(one, 10))
    silent = st.sampled_from([*sorted(one.special_ids), len(one._tokenizer) + 7])
    between = [
        token
        for pair in zip(ids, data.draw(st.lists(silent, min_size=len(ids), max_size=len(ids))), strict=True)
        for token in pair
    ]
    cut = data.draw(st.integers(0, len(ids)))
    found = streamed(one, between[: 2 * cut], between[2 * cut :])
    assert "".join(found) == "".join(streamed(one, ids[:cut], ids[cut:]))
    assert set(found[1:-1:2]) <= {""}


def test_special_tokens_are_shown_if_they_are_not_to_be_skipped() -> None:
    one = made("llama-2")
    turn, the = ids_of(one, "<|turn|>", "▁the")
    assert streamed(one, [the], [turn, the], skip_special_tokens=False) == ["<|turn|>", " the", ""]
    assert streamed(one, [the], [turn, the]) == ["", " the", ""]
