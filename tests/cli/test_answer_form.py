"""`orcinus generate --json-schema`, `--regex`, `--choice` and `--grammar`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from orcinus.cli.answer_form import answer_form
from orcinus.core.structured_outputs import StructuredOutputs
from orcinus.errors import ConfigError
from tests.commands import orcinus

LEGS = {"type": "object", "properties": {"legs": {"enum": [0, 2, 4]}}, "required": ["legs"], "additionalProperties": False}


def test_answers_have_the_form_of_the_schema() -> None:
    done = orcinus("generate", "--json", "What is a fox?", "Tell me a story.", "--json-schema", json.dumps(LEGS))
    assert (done.returncode, done.stderr) == (0, "")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [json.loads(answer["text"])["legs"] in (0, 2, 4) for answer in answers] == [True, True]
    assert [answer["finish_reason"] for answer in answers] == ["stop", "stop"]


def test_other_forms_are_kept_too(tmp_path: Path) -> None:
    grammar = tmp_path / "list.lark"
    grammar.write_text('start: "[" NUMBER ("," NUMBER)* "]"\nNUMBER: /[0-9]/\n', encoding="utf-8")
    forms = {
        r"(yes|no)": ("--choice", "yes", "--choice", "no"),
        r"[0-9]{4}-[0-9]{2}": ("--regex", "[0-9]{4}-[0-9]{2}"),
        r"\[[0-9](,[0-9])*\]?": ("--grammar", str(grammar)),
    }
    for pattern, flags in forms.items():
        done = orcinus("generate", "What is a fox?", "--max-tokens", "20", *flags)
        assert re.fullmatch(pattern, done.stdout.strip()), (flags, done)


def test_a_schema_is_a_file_or_the_schema_itself(tmp_path: Path) -> None:
    text = json.dumps(LEGS)
    (tmp_path / "legs.json").write_text(text, encoding="utf-8")
    assert answer_form(json_schema=str(tmp_path / "legs.json")) == answer_form(json_schema=text) == StructuredOutputs(json=text)
    assert answer_form() is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"json_schema": "nowhere.json"}, "--json-schema: cannot read nowhere.json: No such file or directory"),
        ({"grammar": "nowhere.lark"}, "--grammar: cannot read nowhere.lark"),
        ({"json_schema": "{"}, "--json-schema: json must be a JSON schema; this text is no JSON"),
        ({"regex": ""}, "--regex: regex must be a string that is not empty"),
        ({"regex": "a", "choice": ["b"]}, "--regex and --choice ask for different forms of the answer: give one of them"),
    ],
)
def test_a_form_that_cannot_be_used(flags: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        answer_form(**flags)  # type: ignore[arg-type]


def test_what_a_grammar_cannot_express_is_one_line() -> None:
    done = orcinus("generate", "Hi", "--json-schema", '{"type": "object", "properties": {"a": {"type": "colour"}}}')
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "json: " in done.stderr
