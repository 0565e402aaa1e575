"""The file that a benchmark leaves: what is written is read again, and what is wrong is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orcinus.bench.result import encode, read_result, result_schema, write_result
from orcinus.errors import ConfigError
from tests.bench.made_up_runs import result, run_of, side

RESULT = result(side("a", run_of(1.25, load=0.5), kv="paged", max_batch_size=8), objectives={"ttft": 0.5})


def changed(**fields: Any) -> bytes:
    return json.dumps(json.loads(encode(RESULT)) | fields).encode()


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write_result(tmp_path / "a.json", RESULT)
    assert read_result(tmp_path / "a.json") == RESULT


def test_moments_are_kept_to_the_microsecond(tmp_path: Path) -> None:
    write_result(tmp_path / "a.json", result(side("a", run_of(1.23456789))))
    (request,) = read_result(tmp_path / "a.json").sides[0].repeats[0].requests
    assert request.ended == 1.234568


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no result of orcinus bench"),
        (b"[]", "is no result of orcinus bench"),
        (b"{}", "is no result of orcinus bench: Object missing required field `version`"),
        (changed(version=3), "has version 3 of the format, and this orcinus reads versions 1 to 2"),
        (changed(version=0), "has version 0 of the format, and this orcinus reads versions 1 to 2"),
        (changed(kind="guess"), r"is no result of orcinus bench: Invalid enum value 'guess' - at `\$.kind`"),
        (changed(sides=[{"name": 3}]), r"Expected `str`, got `int` - at `\$.sides\[0\].name`"),
        (changed(complete="yes"), r"Expected `bool`, got `str` - at `\$.complete`"),
        (encode(RESULT)[:200], "is no result of orcinus bench"),
        (b"[" * 100_000, "is no result of orcinus bench"),
        (b"\xff\xfe", "is no result of orcinus bench"),
    ],
)
def test_what_is_wrong_is_said(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ConfigError, match=said) as error:
        read_result(tmp_path / "a.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("settings", "kept"), [({}, False), ({"url": "http://x"}, True)])
def test_files_of_version_1_are_read(settings: dict[str, str], kept: bool, tmp_path: Path) -> None:
    """Then servers were sent the same prompts in every run; engines in this process start empty."""
    old = json.loads(encode(result(side("a", run_of(1.25), **settings)))) | {"version": 1}
    del old["work"]["keep_prompts"], old["work"]["shared_tokens"], old["sides"][0]["repeats"][0]["draw"]
    (tmp_path / "a.json").write_text(json.dumps(old))
    found = read_result(tmp_path / "a.json")
    assert (found.version, found.work.keep_prompts, found.work.shared_tokens) == (2, kept, None)


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_result(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="cannot write"):
        write_result(tmp_path / "nowhere" / "a.json", RESULT)


def test_there_is_a_schema_for_other_programs() -> None:
    schema: Any = result_schema()
    fields = schema["$defs"]["Result"]
    assert set(json.loads(encode(RESULT))) == set(fields["properties"])
    assert {"version", "machine", "sides"} - set(fields["required"]) == {"version"}
