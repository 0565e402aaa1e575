"""Rows of a trace that nothing can be served from are counted and passed over, unless they are to end the reading."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orcinus.errors import ConfigError
from orcinus.workload.file_position import Skipped
from orcinus.workload.lengths import Empirical, make_lengths
from orcinus.workload.summary import statistics
from orcinus.workload.trace import Trace
from orcinus.workload.workload import make_workload

AZURE = b"TIMESTAMP,ContextTokens,GeneratedTokens\n"
BURST = b"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
VIDUR = b"arrived_at,num_prefill_tokens,num_decode_tokens\n"
MESSAGES = b'{"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}\n'
ENGINE = b'{"kind": "engine", "version": 1}\n'
SUBMIT = (
    b'{"kind": "submit", "at": 1, "id": "a", "prompt": [1, 2], "params": {}, "client": "", "priority": 0, "cache_salt": ""}\n'
    b'{"kind": "launch", "at": 2, "batch": 0, "chunks": [["a", 0, 2, 1]]}\n'
    b'{"kind": "return", "at": 3, "batch": 0, "tokens": [[7]]}\n'
)


def written(folder: Path, content: bytes) -> str:
    path = folder / "trace"
    path.write_bytes(content)
    return str(path)


def read(path: str) -> tuple[list[tuple[float, int, int]], Skipped]:
    skipped = Skipped()
    found = [(each.at, each.prompt_tokens, each.output_tokens) for each in Trace(path).arrivals(len, skipped)]
    return found, skipped


@pytest.mark.parametrize(
    ("content", "found", "rows", "first"),
    [
        (VIDUR + b"0,10,5\nsoon,1,1\n2,20,6\n", [(0, 10, 5), (2, 20, 6)], 1, "line 3 of .*: arrived_at must be a number"),
        (VIDUR + b"0,10,5\n1,2\n1,,\n3,4,5\n", [(0, 10, 5), (3, 4, 5)], 2, "line 3 of .*: it has 2 fields"),
        (VIDUR + b"0,10,5\n1,1.5,1\n2,1,1,1\n", [(0, 10, 5)], 2, "line 3 of .*: num_prefill_tokens must be a whole number"),
        (VIDUR + b'0,10,5\n1,"2,3\n3,4,5\n', [(0, 10, 5), (3, 4, 5)], 1, "line 3 of .*: it has 2 fields"),  # a stray quote
        (VIDUR + b"0,10,5\n1,\xff,3\n3,4,5\n", [(0, 10, 5), (3, 4, 5)], 1, "line 3 of .*: it is no text in UTF-8"),
        (VIDUR + b"0,10,5\n9,1,1\n3,4,5\n10,1,2\n", [(0, 10, 5), (9, 1, 1), (10, 1, 2)], 1, "line 4 of .*: time goes back"),
        (VIDUR + b"bad\n5,10,5\n6,1,1\n", [(0, 10, 5), (1, 1, 1)], 1, "line 2 of .*: it has 1 fields"),
        (AZURE + b"yesterday,1,1\n2023-11-16 18:00:01,1,2\n", [(0, 1, 2)], 1, "line 2 of .*: TIMESTAMP must be a date"),
        (
            AZURE + b"2023-11-16 18:00:01,1,2\n2023-11-16 18:00:00,9,9\n2023-11-16 18:00:03,3,4\n",
            [(0, 1, 2), (2, 3, 4)],
            1,
            "line 3 of .*: it is earlier than the first request",
        ),
        (BURST + b"5,ChatGPT,472,18,490,API log\n45,GPT-4,0,0,0,API log\n", [(0, 472, 18)], 1, "line 3 of .*: Request tokens"),
        (
            b'{"timestamp": 0, "input_length": 5, "output_length": 6}\n{"timestamp": 1, "inp\n[]\n{"timestamp": 2000, '
            b'"input_length": 7, "output_length": 8, "hash_ids": []}\n',
            [(0, 5, 6), (2, 7, 8)],
            2,
            "line 2 of .*: it is no JSON object",
        ),
        (b'{"timest\n{"timestamp": 0, "input_length": 5, "output_length": 6}\n', [(0, 5, 6)], 1, "line 1 of .*: it is no JSON"),
        (MESSAGES + b"null\n" + MESSAGES, [(0, 2, 4), (0, 2, 4)], 1, "line 2 of .*: it is no JSON object"),
        (MESSAGES + b'{"messages": []}\n', [(0, 2, 4)], 1, "line 2 of .*: messages must be a list"),
        (ENGINE + SUBMIT + b'{"kind": "finish", "id": "never"}\n{"kind"', [(0, 2, 1)], 2, "line 5 of .*: it does not fit"),
        (
            b'[{"conversations": 1}, {"conversations": [{"from": "human", "value": "abc"}, {"from": "gpt", "value": "de"}]}]',
            [(0, 3, 2)],
            1,
            "conversation 1 of .*: it has no list",
        ),
    ],
)
def test_a_bad_row_is_skipped_and_the_others_are_served(
    tmp_path: Path, content: bytes, found: list[tuple[float, int, int]], rows: int, first: str
) -> None:
    path = written(tmp_path, content)
    served, skipped = read(path)
    assert (served, skipped.rows) == (found, rows)
    with pytest.raises(ConfigError, match=first) as refused:
        list(Trace(path, reject_bad_rows=True).arrivals(len))
    assert str(refused.value) == skipped.first


def test_packed_traces_are_read_like_others(tmp_path: Path) -> None:
    content = VIDUR + b"0,10,5\r\nx,1,1\r\n2,20,6\r\n"
    plain = read(written(tmp_path, content))
    packed = read(written(tmp_path, gzip.compress(b"\xef\xbb\xbf" + content)))
    assert packed == plain == ([(0, 10, 5), (2, 20, 6)], Skipped(1, plain[1].first))
    with pytest.raises(ConfigError, match="cannot be unpacked|is no text"):
        read(written(tmp_path, gzip.compress(content * 1000, mtime=0)[:-20]))


def test_a_file_of_bad_rows_only_says_what_is_wrong(tmp_path: Path) -> None:
    path = written(tmp_path, VIDUR + b"0,0,1\n1,0,1\n")
    with pytest.raises(ConfigError, match="holds no requests: 2 rows of the trace were skipped; the first: line 2 of"):
        read(path)


def test_every_reading_counts_anew(tmp_path: Path) -> None:
    workload = make_workload("trace", f"trace:file={written(tmp_path, VIDUR + b'0,1,1' + bytes([10]) + b'x' + bytes([10]))}")
    for _ in range(2):
        assert statistics(workload).requests == 1
        assert workload.skipped.rows == 1


def test_what_was_not_read_is_not_counted(tmp_path: Path) -> None:
    path = written(tmp_path, VIDUR + b"0,1,1\nx\n1,1,1\ny\n")
    workload = make_workload("trace", f"trace:file={path}", requests=1)
    assert len(list(workload)) == 1
    assert workload.notes() == [f"requests come at the times of {path}"]


def test_lengths_drawn_from_a_trace_say_it_too(tmp_path: Path) -> None:
    path = written(tmp_path, VIDUR + b"0,1,1\nx\n1,1,1\n")
    workload = make_workload("all-at-once", f"empirical:file={path}", requests=3)
    assert [note.split(";")[0] for note in workload.notes()] == ["1 row of the trace was skipped"]
    with pytest.raises(ConfigError, match="line 3 of"):
        Empirical(path, reject_bad_rows=True)
    with pytest.raises(ConfigError, match="line 3 of"):
        make_lengths(f"empirical:file={path}:reject_bad_rows=true")


@pytest.mark.parametrize(
    ("arrivals", "said"),
    [
        ("trace", "requests come at the times of {}"),
        (None, "requests come at the times of {}"),
        ("poisson:rate=2", "requests come as poisson says, not at the times of {}"),
        ("all-at-once", "requests come as all-at-once says, not at the times of {}"),
    ],
)
def test_it_is_said_when_the_requests_come(tmp_path: Path, arrivals: str | None, said: str) -> None:
    path = written(tmp_path, VIDUR + b"0,1,1\n1,1,1\n")
    assert make_workload(arrivals, f"trace:file={path}").notes() == [said.format(path)]


def test_equal_times_keep_the_order_of_the_file(tmp_path: Path) -> None:
    rows = [f"{at},{number},1" for number, at in enumerate([0] * 12 + [1] * 15 + [1.0] * 3, 1)]
    content = VIDUR + "\n".join(rows).encode()
    path = written(tmp_path, content)
    assert [prompt for _, prompt, _ in read(path)[0]] == list(range(1, 31))
    workload = make_workload("trace", f"trace:file={path}")
    assert [arrival.prompt_tokens for arrival in workload] == list(range(1, 31))


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    "lines",
    [
        [
            "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type",
            "5,ChatGPT,472,18,490,Conversation log",
            "",
            '"45","GPT-4","1087","230","1317","API log"',
        ],
        [
            '"Timestamp", "Session ID","Elapsed time","Model", "Request tokens","Response tokens","Total tokens","Log Type"',
            "5.0,,2.5,ChatGPT,472,18,490,Conversation log",
            "45.0,7f3,10.1,GPT-4,1087,230,1317,Conversation log",
            "   ",
        ],
    ],
)
def test_burstgpt_is_read_in_all_its_shapes(
    tmp_path: Path, lines: list[str], ending: str, mark: str, pack: Callable[[bytes], bytes]
) -> None:
    text = mark + ending.join([*lines, ""])
    path = written(tmp_path, pack(text.encode()))
    assert Trace(path).kind.timed
    assert read(path) == ([(0, 472, 18), (40, 1087, 230)], Skipped())


def test_failed_requests_of_burstgpt_are_skipped(tmp_path: Path) -> None:
    rows = b"5,ChatGPT,472,18,490,API log\n6,ChatGPT,30,0,30,API log\n6,ChatGPT,9,9,18,API log\n"
    found, skipped = read(written(tmp_path, BURST + rows))
    assert found == [(0, 472, 18), (1, 9, 9)]
    assert "Response tokens must be a whole number of tokens of at least 1, not '0'" in skipped.said


def test_a_line_for_the_whole_reading() -> None:
    skipped = Skipped()
    assert skipped.said == ""
    skipped.add(ValueError("line 3 of x: bad"))
    assert skipped.said == "1 row of the trace was skipped; the first: line 3 of x: bad"
    skipped.add(ValueError("line 4 of x: worse"))
    assert skipped.said == "2 rows of the trace were skipped; the first: line 3 of x: bad"


def test_json_lines_may_hold_what_a_line_of_text_may_not(tmp_path: Path) -> None:
    good = json.dumps({"messages": [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "cde"}]}).encode()
    content = good + b'\n{"messages": [{"role": "user", "content": "\xff"}]}\n' + good + b"\n"
    found, skipped = read(written(tmp_path, content))
    assert (found, skipped.rows) == ([(0, 2, 3), (0, 2, 3)], 1)
