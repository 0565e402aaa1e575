"""Tokenizers without transformers: what it says of a tokenizer is kept, and then done by the same library without it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from orcinus.errors import ModelError
from orcinus.text import tokenizer_files
from orcinus.text.fast_tokenizer import FastTokenizer, TokenizerFacts
from orcinus.text.tokenizer import load_tokenizer
from orcinus.tiny import MODEL_DIR
from tests.text.vocabularies import MAKERS, PLAIN, SPECIAL, tokenizer

TEXTS = ["", "the", " a b the", "日 é\U0001f600", f"a{SPECIAL[0]}b {SPECIAL[-1]}", f"the {PLAIN[0]}a", "\x00\u2581 the  "]


def pair(kind: str, **changes: Any) -> tuple[Any, FastTokenizer]:
    """Transformers' tokenizer of a kind, and ours made from it by way of bytes."""
    theirs = tokenizer(kind)._tokenizer
    for name, value in changes.items():
        setattr(theirs, name, value)
    facts = TokenizerFacts.of(theirs, PreTrainedTokenizerFast)
    assert facts is not None
    return theirs, FastTokenizer(TokenizerFacts.from_json(facts.to_json()))


@pytest.mark.parametrize("kind", MAKERS)
def test_it_does_what_transformers_does(kind: str) -> None:
    theirs, ours = pair(kind)
    for text in TEXTS:
        for how in ({}, {"split_special_tokens": True}, {"add_special_tokens": False}):
            assert ours(text, **how).input_ids == theirs(text, **how).input_ids
        ids = theirs(text).input_ids
        for skip in (True, False):
            assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(
                ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
            )
    assert [ours.convert_ids_to_tokens(each) for each in range(len(ours))] == theirs.convert_ids_to_tokens(
        [*range(len(theirs))]
    )
    assert ours.get_vocab() == theirs.get_vocab()
    assert {key: str(token) for key, token in ours.added_tokens_decoder.items()} == {
        key: str(token) for key, token in theirs.added_tokens_decoder.items()
    }
    assert (ours.special_tokens_map, ours.eos_token_id) == (theirs.special_tokens_map, theirs.eos_token_id)


def test_tokens_around_a_text() -> None:
    theirs = tokenizer("llama-2")._tokenizer
    begin, end = SPECIAL[0], SPECIAL[-1]
    ids = [(name, theirs.convert_tokens_to_ids(name)) for name in (begin, end)]
    theirs.backend_tokenizer.post_processor = processors.TemplateProcessing(single=f"{begin} $A {end}", special_tokens=ids)
    facts = TokenizerFacts.of(theirs, PreTrainedTokenizerFast)
    assert facts is not None
    ours = FastTokenizer(facts)
    assert (
        ours("the").input_ids
        == theirs("the").input_ids
        == [ids[0][1], *ours("the", add_special_tokens=False).input_ids, ids[1][1]]
    )


def test_special_tokens_that_are_plain_text_by_default() -> None:
    theirs, ours = pair("llama-2", split_special_tokens=True)
    text = f"a{SPECIAL[0]}"
    assert ours(text).input_ids == theirs(text).input_ids
    assert ours(text, split_special_tokens=False).input_ids == theirs(text, split_special_tokens=False).input_ids
    assert ours(text).input_ids != ours(text, split_special_tokens=False).input_ids


@pytest.mark.parametrize("tools", [None, [{"type": "function"}]])
@pytest.mark.parametrize(
    "template", [None, "one", {"default": "usual", "tool_use": "calls"}, {"tool_use": "calls"}, {"rag": "found"}]
)
def test_chat_templates(template: Any, tools: Any) -> None:
    theirs, ours = pair("gemma", chat_template=template)
    assert ours.chat_template == template
    try:
        expected = theirs.get_chat_template(tools=tools)
    except ValueError:
        with pytest.raises(ValueError, match="no chat template"):
            ours.get_chat_template(tools=tools)
    else:
        assert ours.get_chat_template(tools=tools) == expected


def test_a_class_with_ways_of_its_own_stays_what_it_is() -> None:
    class Odd(PreTrainedTokenizerFast):  # type: ignore[misc]
        def _decode(self, *args: Any, **kwargs: Any) -> str:
            return "odd"

    assert TokenizerFacts.of(Odd(tokenizer_object=MAKERS["gemma"]()), PreTrainedTokenizerFast) is None
    assert TokenizerFacts.of(object(), PreTrainedTokenizerFast) is None


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder, and a cache of its own."""
    private = tmp_path / "cache"
    private.mkdir(mode=0o700)
    monkeypatch.setenv("CACHE_DIRECTORY", str(private))
    return Path(shutil.copytree(MODEL_DIR, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors")))


def test_transformers_is_asked_once_until_a_file_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_tokenizer(folder)
    asked = []

    def ask(where: Path) -> Any:
        asked.append(where)
        return real(where)

    real = tokenizer_files._ask_transformers
    monkeypatch.setattr(tokenizer_files, "_ask_transformers", ask)
    again = load_tokenizer(folder)
    assert asked == []
    assert first is not None
    assert again is not None
    assert again.facts() == first.facts()
    assert again.encode("Hello <|im_end|>") == first.encode("Hello <|im_end|>")
    assert again.eos_ids == first.eos_ids
    (folder / "chat_template.jinja").write_text("changed")
    changed = load_tokenizer(folder)
    assert changed is not None
    assert (asked, changed.chat_template) == ([folder], "changed")


def test_a_broken_tokenizer_is_never_kept(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    for _ in range(2):
        with pytest.raises(ModelError, match="cannot be read"):
            load_tokenizer(folder)
