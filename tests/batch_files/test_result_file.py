"""The file of responses: continued, mended, and never mixed with something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from orcinus.batch_files.batch_line import LineError
from orcinus.batch_files.result_file import LineResponse, ResultFile
from orcinus.errors import ConfigError

ANSWER = LineResponse(200, "req-1", msgspec.Raw(b'{"object":"chat.completion"}'))
REFUSAL = LineResponse(400, "req-2", msgspec.Raw(b'{"error":{"code":"invalid_value"}}'))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with an answer (a), a refusal (b) and a line that could not be sent."""
    path = tmp_path / "out.jsonl"
    with ResultFile(path) as results:
        results.add_response("a", ANSWER)
        results.add_response("b", REFUSAL)
        results.add_error(LineError(3, "invalid_json_line", "the line is not valid JSON"))
        assert (results.succeeded, results.failed) == (1, 2)
    return path


def test_the_first_failure_of_a_run_is_told_in_a_line(tmp_path: Path) -> None:
    def first(name: str, body: bytes) -> str | None:
        with ResultFile(tmp_path / "out.jsonl", overwrite=True) as results:
            results.add_response("a", ANSWER)
            assert results.first_failure is None
            results.add_response(name, LineResponse(400, "req-2", msgspec.Raw(body)))
            results.add_error(LineError(3, "invalid_json_line", "the line is not valid JSON"))
            return results.first_failure

    assert first("b", b'{"error":{"message":"temperature:\\nis too low"}}') == "b (status 400): temperature: is too low"
    assert first("b", b'{"detail":"no error of ours"}') == "b (status 400)"
    assert first("b\n" * 100, b'{"error":7}') == f"{'b ' * 58}b... (status 400)"


def test_a_line_has_openai_s_shape(path: Path) -> None:
    answer, refusal, error = lines(path)
    assert answer.pop("id").startswith("batch_req_")
    assert answer == {
        "custom_id": "a",
        "response": {"status_code": 200, "request_id": "req-1", "body": {"object": "chat.completion"}},
        "error": None,
    }
    assert refusal["response"] == {"status_code": 400, "request_id": "req-2", "body": {"error": {"code": "invalid_value"}}}
    assert refusal["error"] is None
    assert (error["custom_id"], error["response"]) == (None, None)
    assert error["error"] == {"code": "invalid_json_line", "message": "the line is not valid JSON", "param": None, "line": 3}
    assert len({line["id"] for line in lines(path)}) == 3


def test_a_later_run_keeps_responses_and_removes_what_was_not_sent(path: Path) -> None:
    with ResultFile(path) as results:
        assert results.done == {"a", "b"}
        assert (results.succeeded, results.failed) == (1, 1)
        results.add_response("c", ANSWER)
    assert [line["custom_id"] for line in lines(path)] == ["a", "b", "c"]


def test_failed_lines_can_be_sent_again(path: Path) -> None:
    with ResultFile(path, retry_failed=True) as results:
        assert (results.done, results.succeeded, results.failed) == ({"a"}, 1, 0)
    assert [line["custom_id"] for line in lines(path)] == ["a"]
    assert list(path.parent.iterdir()) == [path]


def test_overwriting_begins_anew(path: Path) -> None:
    with ResultFile(path, overwrite=True) as results:
        assert (results.done, results.succeeded, results.failed) == (set(), 0, 0)
    assert path.read_bytes() == b""


@pytest.mark.parametrize("cut", [1, 5, 60, 999])
def test_a_last_line_that_was_cut_is_run_again(path: Path, cut: int) -> None:
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(whole[0] + (whole[1][:-cut] or whole[1][:1]))
    with ResultFile(path) as results:
        results.add_response("z", ANSWER)
    kept = ["a", "b"] if cut == 1 else ["a"]  # only the end of the line was missing
    assert [line["custom_id"] for line in lines(path)] == [*kept, "z"]


@pytest.mark.parametrize("other", ["Dear diary,\n", "Dear diary", '{"custom_id": "a", "method": "POST"}\n', "\n", "[]\n"])
def test_another_kind_of_file_is_left_as_it_is(tmp_path: Path, other: str) -> None:
    path = tmp_path / "notes"
    path.write_text(other, encoding="utf-8")
    with pytest.raises(ConfigError, match="line 1 of .* is no response of a batch: choose another file, or --overwrite"):
        ResultFile(path)
    assert path.read_text(encoding="utf-8") == other


def test_two_runs_cannot_write_one_file(path: Path) -> None:
    before = path.read_bytes()
    with ResultFile(path), pytest.raises(ConfigError, match="another process is writing"):
        ResultFile(path, overwrite=True)
    assert path.read_bytes() == before.rsplit(b"\n", 2)[0] + b"\n"
    with ResultFile(path):  # the lock ends with its holder
        pass


@pytest.mark.parametrize("name", [".", "no/such/folder"])
def test_a_file_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="not a regular file|cannot write responses to .*: No such file"):
        ResultFile(tmp_path / name)
