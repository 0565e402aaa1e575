"""`orcinus chat --tools`: definitions, and a conversation in which a scripted backend calls tools."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orcinus.cli.chat import MOST_CALLS, Conversation
from orcinus.cli.chat_backends import AnswerPiece, Messages, Note, forget_oldest
from orcinus.cli.chat_tools import load_tools
from orcinus.cli.demo_tools import calculator
from orcinus.errors import ConfigError, RequestError
from orcinus.text.tools.tool_call import ToolCallDelta, ToolChoice
from orcinus.text.tools.tool_chat import ToolInvocation
from tests.commands import orcinus
from tests.serve.conftest import Running

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
SUM = '{"a": 2, "operator": "+", "b": 3}'


class Scripted:
    """Answers with these texts and calls, and keeps what it was sent."""

    name = "scripted"

    def __init__(self, *answers: str | list[tuple[str, str]] | RequestError) -> None:
        self.answers = list(answers)
        self.sent: list[Messages] = []
        self.choices: list[ToolChoice] = []

    def answer(self, messages: Messages, note: Note, choice: ToolChoice = ToolChoice()) -> Iterator[AnswerPiece]:  # noqa: B008
        self.sent.append(deepcopy(messages))
        self.choices.append(choice)
        answer = self.answers.pop(0)
        if isinstance(answer, RequestError):
            raise answer
        if isinstance(answer, str):
            yield AnswerPiece(answer, 1)
            return
        for index, (name, arguments) in enumerate(answer):
            yield AnswerPiece("", 1, [ToolCallDelta(index, f"call_{index}", name)])
            yield AnswerPiece(
                "", 1, [ToolCallDelta(index, arguments=arguments[:4]), ToolCallDelta(index, arguments=arguments[4:])]
            )


def conversation(backend: Scripted, *sources: str) -> tuple[Conversation, io.StringIO]:
    written = io.StringIO()
    return Conversation(backend, Console(file=written, width=100), "Be brief.", load_tools(sources)), written


def test_a_built_in_tool_runs_and_its_result_is_answered() -> None:
    backend = Scripted([("calculator", SUM), ("calculator", '{"a": 1}')], "It is 5.", "Bye")
    chat, written = conversation(backend, "demo")
    chat.turn("/tools What is 2 + 3?")
    chat.turn("Thanks")
    call = {"type": "function", "function": {"name": "calculator", "arguments": SUM}, "id": "call_0"}
    wrong = {"type": "function", "function": {"name": "calculator", "arguments": '{"a": 1}'}, "id": "call_1"}
    assert backend.sent[1] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 2 + 3?"},
        {"role": "assistant", "content": "", "tool_calls": [call, wrong]},
        {"role": "tool", "tool_call_id": "call_0", "content": "5"},
        {"role": "tool", "tool_call_id": "call_1", "content": "error: a and b must be numbers"},
    ]
    assert backend.sent[2][-2:] == [{"role": "assistant", "content": "It is 5."}, {"role": "user", "content": "Thanks"}]
    assert backend.choices == [ToolChoice("required"), ToolChoice(), ToolChoice()]
    assert f"call calculator({SUM})" in written.getvalue()
    assert "calculator says: 5" in written.getvalue()


CLOCK, SUM_UP = "/tool clock What time is it?\n", "/tool calculator What is 2 + 3?\n"


def test_the_bundled_model_calls_tools() -> None:
    done = orcinus("chat", "--tools", "demo", "--temperature", "0", stdin=CLOCK + SUM_UP)
    assert (done.returncode, done.stderr) == (0, "")
    zone = re.search(r'call clock\(\{"zone": "(local|UTC)"\}\)\n\d+ tokens.*\nclock says: \w+day, ', done.stdout)
    assert zone is not None, done.stdout
    found = re.search(r"call calculator\((\{.*\})\)\n\d+ tokens.*\ncalculator says: (.*)\n", done.stdout)
    assert found is not None, done.stdout
    assert found[2] == calculator(json.loads(found[1]))
    assert done.stdout.count("tokens/s") == 4  # each result was answered


def test_a_server_s_model_calls_them_too(server: Running) -> None:
    done = orcinus("chat", "--tools", "demo", "--temperature", "0", "--url", server.url, stdin=CLOCK)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r'call clock\(\{"zone": "(local|UTC)"\}\)\n\d+ tokens.*\nclock says: ', done.stdout)
    assert done.stdout.count("tokens/s") == 2  # the result was answered


def test_a_tool_can_be_named(tmp_path: Path) -> None:
    backend = Scripted("yes", "yes")
    chat, _ = conversation(backend, "demo")
    for line in ("/tool clock What time is it?", "/tools clock"):
        chat.turn(line)
    assert backend.choices == [ToolChoice("required", "clock"), ToolChoice("required")]
    assert [sent[-1]["content"] for sent in backend.sent] == ["What time is it?", "clock"]


@pytest.mark.parametrize("line", ["/tool nope hi", "/tool nope", "/tool nope  clock"])
def test_an_unknown_tool_is_an_error_in_one_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    backend = Scripted()
    chat, written = conversation(backend, "demo")
    chat.turn(line)
    told = "error: there is no tool 'nope': name one of clock, calculator, or let /tools TEXT choose\n"
    assert (capsys.readouterr().err, written.getvalue()) == (told, "")
    assert (backend.sent, chat.failed) == ([], 1)


@pytest.mark.parametrize("line", ["/tool", "/tool clock"])
def test_a_line_without_a_text_is_told_how_to_write_one(line: str) -> None:
    chat, written = conversation(Scripted(), "demo")
    chat.turn(line)
    assert written.getvalue() == "/tool NAME TEXT asks for a call of clock or calculator, /tools TEXT of any of them\n"
    chat.turn("/tools")
    assert written.getvalue().endswith("/tools TEXT asks for a call of clock or calculator\n")


def test_the_user_says_what_another_tool_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tools.json"
    file.write_text(json.dumps([WEATHER]), encoding="utf-8")
    backend = Scripted([("weather", "{}")], "Take an umbrella.", [("weather", "{}")])
    chat, written = conversation(backend, str(file))
    monkeypatch.setattr(sys, "stdin", io.StringIO("rain\n"))
    chat.turn("What is the weather?")
    assert backend.sent[1][-1] == {"role": "tool", "tool_call_id": "call_0", "content": "rain"}
    before = list(chat.messages)
    chat.turn("And now?")  # the input is at its end
    assert "the turn is undone" in written.getvalue()
    assert chat.messages == before


def test_a_failed_answer_undoes_the_whole_turn() -> None:
    backend = Scripted([("calculator", SUM)], RequestError("the server is gone"))
    chat, _ = conversation(backend, "demo")
    chat.turn("What is 2 + 3?")
    assert chat.messages == [{"role": "system", "content": "Be brief."}]
    assert chat.failed == 1


def test_a_model_that_calls_without_end_is_stopped() -> None:
    backend = Scripted(*[[("calculator", SUM)]] * 99)
    chat, written = conversation(backend, "demo")
    chat.turn("What is 2 + 3?")
    assert len(backend.sent) == MOST_CALLS
    assert f"stopped after {MOST_CALLS} answers" in written.getvalue()


def test_without_tools_no_call_can_be_asked_for() -> None:
    backend = Scripted()
    chat, written = conversation(backend)
    chat.turn("/tool clock What time is it?")
    chat.turn("/tools What time is it?")
    assert written.getvalue().count("start with --tools demo") == 2


@pytest.mark.parametrize("arguments", ["{", "[1]", '"x"', "[" * 100_000])
def test_arguments_that_are_no_object_are_an_error_for_the_model(arguments: str) -> None:
    result = load_tools(["demo"]).run(ToolInvocation("a", "calculator", arguments))
    assert result is not None
    assert result.startswith("error: ")


def test_the_oldest_turn_is_forgotten_with_its_calls() -> None:
    turn: list[dict[str, Any]] = [
        {"role": role, "content": role} for role in ("user", "assistant", "tool", "tool", "assistant")
    ]
    system = {"role": "system", "content": "Be brief."}
    messages = [system, *turn, *turn]
    assert forget_oldest(messages)
    assert messages == [system, *turn]
    assert not forget_oldest(messages)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold a list of tools"),
        ('{"name": "weather"}', "must hold a list of tools"),
        ('[{"name": "weather"}]', "--tools: tools\\[0\\]"),
        ('[{"type": "function", "function": {"name": 3}}]', "--tools: tools\\[0\\]"),
        (json.dumps([WEATHER, WEATHER]), "'weather' is defined twice"),
    ],
)
def test_a_file_that_holds_no_tools(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "tools.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_tools([str(file)])


def test_several_sources_are_joined(tmp_path: Path) -> None:
    file = tmp_path / "tools.json"
    file.write_text(json.dumps({"tools": [WEATHER]}), encoding="utf-8")
    assert load_tools(["demo", str(file)]).names == ["clock", "calculator", "weather"]
    with pytest.raises(ConfigError, match="cannot read tools from nowhere: No such file"):
        load_tools(["nowhere"])
