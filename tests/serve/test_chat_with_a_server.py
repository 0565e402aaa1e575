"""`orcinus chat --url`: the same conversation, with a server."""

from __future__ import annotations

import pytest

from tests.commands import Done, orcinus
from tests.serve.conftest import Running


def chat(*arguments: str, lines: str) -> Done:
    return orcinus("chat", "--temperature", "0", *arguments, stdin=lines)


def test_it_answers_with_history_and_commands(server: Running) -> None:
    done = chat("--url", server.url, lines="Hi\n/system Be brief.\n/nonsense\nHi\n/reset\nHi\n")
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert said.startswith(f"orcinus-tiny at {server.url}")
    assert said.count("Hello") == 3
    assert said.count("tokens/s") == 3
    assert "system message set" in said
    assert "unknown command /nonsense" in said
    assert "the conversation starts anew" in said


def test_it_says_what_the_engine_in_the_process_says(server: Running) -> None:
    lines = "Tell me a story about a fox.\nAnother one\n"

    def answers(text: str) -> list[str]:
        return [line for line in text.splitlines()[2:] if "tokens/s" not in line]

    there = answers(chat("--url", f"{server.url}/v1/", "--max-tokens", "20", lines=lines).stdout)
    here = answers(chat("--dtype", "float32", "--max-tokens", "20", lines=lines).stdout)
    assert there[-2:] == here[-2:] != []


def test_it_forgets_the_oldest_turns_when_the_context_is_full(server: Running) -> None:
    long = "word " * 900
    done = chat("--url", server.url, "--max-tokens", "5", lines=f"{long}\n{long}\n{long}\nHi\n")
    assert done.returncode == 0, done.stderr
    assert "forgot" in done.stdout


def test_a_message_that_leaves_less_room_than_the_default_is_answered(server: Running) -> None:
    done = chat("--url", server.url, "--ignore-eos", lines="word " * 2000 + "\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tokens/s" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "because"),
    [
        (["--url", "http://127.0.0.1:1"], "no answer from http://127.0.0.1:1"),
        (["--url", "::nonsense::"], "is no URL of a server"),
        (["--url", "{server}", "--kv", "paged"], "--kv would have no effect on the server"),
        (["--url", "{server}", "--model", "gpt-4"], "the server answers 404: the model 'gpt-4' is not served here"),
        (["--url", "{server}/nowhere"], "the server answers 404"),
    ],
)
def test_errors_are_one_line(server: Running, arguments: list[str], because: str) -> None:
    done = chat(*(one.format(server=server.url) for one in arguments), lines="Hi\n")
    assert done.returncode == 1
    assert because in done.stderr
    assert "Traceback" not in done.stderr
