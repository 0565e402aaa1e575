"""A line of a batch file is a request, or an error that says what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orcinus.batch_files import batch_line
from orcinus.batch_files.batch_line import LineError, numbered_lines, parse_line

GOOD: dict[str, Any] = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "Hi"}}


@pytest.mark.parametrize("url", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_a_request_keeps_its_body_byte_by_byte(url: str) -> None:
    raw = (
        b'{"body": {"prompt":"Hi",  "seed": 1e0, "seed": 2}, "url": "%s", "method": "POST", "custom_id": "a"}\n' % url.encode()
    )
    line = parse_line(7, raw)
    assert (line.number, line.custom_id, line.url) == (7, "a", url)
    assert line.body == b'{"prompt":"Hi",  "seed": 1e0, "seed": 2}'


@pytest.mark.parametrize("body", [{"stream": False}, {"stream": None}, {"stream": "yes"}, [], None, 3])
def test_the_mistakes_of_a_body_are_left_to_the_server(body: Any) -> None:
    assert json.loads(parse_line(1, json.dumps(GOOD | {"body": body}).encode()).body) == body


@pytest.mark.parametrize(
    ("changed", "code", "param", "message"),
    [
        ({"custom_id": None}, "invalid_type", "custom_id", "custom_id must be a string"),
        ({"custom_id": 3}, "invalid_type", "custom_id", "custom_id must be a string"),
        ({"custom_id": ""}, "invalid_value", "custom_id", "custom_id is empty"),
        ({"method": "GET"}, "invalid_method", "method", "method must be POST, not 'GET'"),
        ({"url": "/v1/embeddings"}, "invalid_url", "url", "/v1/responses, not '/v1/embeddings'"),
        ({"url": "/v1/scheduler"}, "invalid_url", "url", "not '/v1/scheduler'"),
        ({"url": ["/v1/completions"]}, "invalid_type", "url", "url must be a string"),
        ({"body": {"stream": True}}, "unsupported_value", "body.stream", "stream must be false"),
    ],
)
def test_a_wrong_field_is_named(changed: dict[str, Any], code: str, param: str, message: str) -> None:
    with pytest.raises(LineError, match=message) as caught:
        parse_line(4, json.dumps(GOOD | changed).encode())
    error = caught.value
    assert (error.number, error.code, error.param) == (4, code, param)
    assert error.custom_id == (None if "custom_id" in changed else "a")


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(LineError, match=f"{name} is missing") as caught:
        parse_line(1, json.dumps({key: value for key, value in GOOD.items() if key != name}).encode())
    assert (caught.value.code, caught.value.param) == ("missing_required_parameter", name)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"custom_id": "a"', "not valid JSON"),
        (b'{"custom_id": "a", "body": NaN}', "not valid JSON"),
        (b"[1]", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b'{"custom_id": "\xff"}', "not UTF-8: byte 15 is 0xff"),
        (b"[" * 100_000, "not valid JSON|must be a JSON object"),
        (b'{"body": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not valid JSON"),
    ],
    ids=["cut", "NaN", "list", "string", "bytes", "deep", "deep body"],
)
def test_a_line_that_is_no_json_object(raw: bytes, message: str) -> None:
    with pytest.raises(LineError, match=message) as caught:
        parse_line(1, raw)
    assert (caught.value.code, caught.value.custom_id) == ("invalid_json_line", None)


def test_lines_are_numbered_as_an_editor_does(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_bytes(b"\xef\xbb\xbf{}\r\n\n  \n[]\n{}")
    assert list(numbered_lines(file)) == [(1, b"{}\r\n"), (4, b"[]\n"), (5, b"{}")]


def test_a_line_that_is_too_large_is_refused_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_line, "MOST_BYTES", 10)
    file = tmp_path / "in.jsonl"
    file.write_bytes(b"123456789\n" + b"x" * 95 + b"\n{}\n")
    lines = list(numbered_lines(file))
    assert lines == [(1, b"123456789\n"), (2, b"x" * 11), (3, b"{}\n")]
    with pytest.raises(LineError, match="larger than") as caught:
        parse_line(*lines[1])
    assert caught.value.code == "line_too_large"
