"""What the documentation shows of HTTP, sent as it stands there."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.serve.conftest import Running

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/structured-output.md", "docs/tools.md")
HERE = "http://127.0.0.1:8000"  # where the server of the examples is
OPTIONS = {"-H": "header", "-d": "data"}


@dataclass
class Example:
    """One call of curl."""

    page: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


def examples(page: str) -> list[Example]:
    """The calls of curl in the shell blocks of a page. Only the options in `OPTIONS` are known."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL):
        for command in re.split(r"^(?=curl |orcinus )", block, flags=re.MULTILINE):
            if command.startswith(f"curl {HERE}"):
                _, url, *rest = shlex.split(command.replace("\\\n", " "), comments=True)
                given = [(OPTIONS[option], value) for option, value in zip(rest[::2], rest[1::2], strict=True)]
                headers = dict(value.split(": ", 1) for kind, value in given if kind == "header")
                (data,) = (value for kind, value in given if kind == "data")
                found.append(Example(page, url.removeprefix(HERE), headers, json.loads(data)))
    return found


EXAMPLES = [example for page in PAGES for example in examples(page)]


def send(server: Running, example: Example) -> dict[str, Any]:
    answer = server.http.post(example.path, json=example.body, headers=example.headers)
    assert answer.status_code == 200, answer.text
    assert "x-ignored-fields" not in answer.headers, "an example has no field that means nothing"
    found: dict[str, Any] = answer.json()
    return found


def of(page: str) -> list[Example]:
    return [example for example in EXAMPLES if example.page == page]


def test_there_is_one_for_every_api() -> None:
    assert {page: [example.path for example in of(page)] for page in PAGES} == {
        "README.md": ["/v1/chat/completions"],
        "docs/structured-output.md": ["/v1/chat/completions"],
        "docs/tools.md": ["/v1/chat/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages"],
    }


def test_the_first_call_of_readme(server: Running) -> None:
    (example,) = of("README.md")
    with server.http.stream("POST", example.path, json=example.body, headers=example.headers) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert example.body["stream"] is True
    assert (lines[0][:7], lines[-1]) == ("data: {", "data: [DONE]")


def test_the_answer_follows_the_schema(server: Running) -> None:
    (example,) = of("docs/structured-output.md")
    person = json.loads(send(server, example)["choices"][0]["message"]["content"])
    assert set(person) == {"name", "age"}
    assert 0 <= person["age"] <= 120


def test_the_tool_is_called_in_every_api_and_its_result_is_read(server: Running) -> None:
    call, result, response, message = of("docs/tools.md")
    (made,) = send(server, call)["choices"][0]["message"]["tool_calls"]
    (item,) = send(server, response)["output"]
    (block,) = send(server, message)["content"]
    arguments = [json.loads(made["function"]["arguments"]), json.loads(item["arguments"]), block["input"]]
    assert [made["function"]["name"], item["name"], block["name"]] == ["get_weather"] * 3
    assert all(set(one) == {"city"} for one in arguments)
    with_result = send(server, result)["usage"]["prompt_tokens"]
    assert with_result > send(server, call)["usage"]["prompt_tokens"]
    mentioned = {one["tool_call_id"] for one in result.body["messages"] if one["role"] == "tool"}
    assert mentioned == {one["id"] for turn in result.body["messages"] for one in turn.get("tool_calls", [])}
