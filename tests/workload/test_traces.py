"""Trace files: every kind is known by its columns or keys, read line by line, and what is wrong in it is named."""

from __future__ import annotations

import json
import math
import random
import tracemalloc
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.policies import Orca
from orcinus.errors import ConfigError
from orcinus.observe.recorder import StepRecorder
from orcinus.workload.arrival import Arrival
from orcinus.workload.lengths import make_lengths
from orcinus.workload.prompts import prompt_ids
from orcinus.workload.token_counts import CountTokens
from orcinus.workload.trace import Trace
from tests.worlds import build_world, random_jobs, run

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
VIDUR = "arrived_at,num_prefill_tokens,num_decode_tokens\n"
MOONCAKE = '{"timestamp": %s, "input_length": %s, "output_length": %s, "hash_ids": %s}\n'


def written(folder: Path, text: str, name: str = "trace") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return str(path)


def read(
    folder: Path, text: str, scale: float = 1.0, *, reject: bool = False, count: CountTokens | None = None
) -> list[Arrival]:
    return list(Trace(written(folder, text), scale, reject_bad_rows=reject).arrivals(count))


def quarter(text: str) -> int:
    """A token for four characters."""
    return math.ceil(len(text) / 4)


def test_azure_dates_become_seconds_since_the_first(tmp_path: Path) -> None:
    rows = "2023-11-16 18:17:03.9799600,4808,10\r\n2023-11-16 18:17:04.4799600,110,27\r\n"
    assert read(tmp_path, AZURE + rows) == [Arrival(0.0, 4808, 10), Arrival(0.5, 110, 27)]
    zoned = "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 01:00:00.009930+00:00,1,1\n"
    assert [arrival.at for arrival in read(tmp_path, AZURE + zoned)] == [0.0, 3600.0]


def test_vidur_columns_may_stand_in_any_order_among_others(tmp_path: Path) -> None:
    text = "num_decode_tokens,pd_ratio,num_prefill_tokens,arrived_at\n5,2.0,10,1.5\n\n6,2.0,12.0,2.5\n"
    assert read(tmp_path, text) == [Arrival(0.0, 10, 5), Arrival(1.0, 12, 6)]


def test_a_byte_order_mark_is_no_column(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff" + VIDUR + "0,10,5\n") == [Arrival(0.0, 10, 5)]


def test_scale_stretches_time(tmp_path: Path) -> None:
    assert [arrival.at for arrival in read(tmp_path, VIDUR + "3,1,1\n4,1,1\n6,1,1\n", scale=0.5)] == [0, 0.5, 1.5]


def test_without_times_a_trace_says_so(tmp_path: Path) -> None:
    lengths = written(tmp_path, "num_prefill_tokens,num_decode_tokens\n10,5\n", "a")
    assert not Trace(lengths).kind.timed
    assert Trace(written(tmp_path, VIDUR + "0,10,5\n", "b")).kind.timed


def test_mooncake_prompts_share_blocks_of_512_tokens(tmp_path: Path) -> None:
    first, second = read(tmp_path, MOONCAKE % (1000, 1100, 7, [1, 2, 3]) + MOONCAKE % (3500, 1030, 8, [1, 2, 4]))
    assert (first.at, second.at, first.output_tokens) == (0.0, 2.5, 7)
    one, other = prompt_ids(first, 0, 1000), prompt_ids(second, 1, 1000)
    assert (len(one), len(other)) == (1100, 1030)
    assert one[:1024] == other[:1024]
    assert one[1024:1030] != other[1024:1030]


def test_qwen_prompts_share_blocks_of_16_tokens_and_come_in_seconds(tmp_path: Path) -> None:
    line = '{"chat_id": %s, "timestamp": %s, "input_length": 40, "output_length": 3, "type": "text", "hash_ids": %s}\n'
    first, second = read(tmp_path, line % (1, 61.5, [8, 9, 10]) + line % (2, 62.0, [8, 11, 10]))
    assert second.at == 0.5
    one, other = prompt_ids(first, 0, 1000), prompt_ids(second, 1, 1000)
    assert one[:16] == other[:16]
    assert one[16:32] != other[16:32]


def test_every_answer_of_a_chat_is_a_request_that_repeats_what_came_before(tmp_path: Path) -> None:
    turns = [("human", "a" * 8), ("gpt", "b" * 4), ("human", "c" * 9), ("gpt", ""), ("gpt", "d" * 20)]
    chat = {"id": "x", "conversations": [{"from": speaker, "value": text} for speaker, text in turns]}
    path = written(tmp_path, json.dumps([chat, {"id": "y", "conversations": []}]))
    first, second = Trace(path).arrivals(quarter)
    assert (first.prompt_tokens, first.output_tokens, second.prompt_tokens, second.output_tokens) == (2, 1, 6, 5)
    assert prompt_ids(second, 1, 99)[:2] == prompt_ids(first, 0, 99)
    assert [arrival.prompt_tokens for arrival in Trace(path).arrivals(count_tokens=len)] == [8, 21]


def test_a_recorded_run_arrives_again_as_it_was_served(tmp_path: Path) -> None:
    jobs = random_jobs(random.Random(3), 20)
    world = build_world(Orca(), "paged", num_blocks=12)
    recorder = StepRecorder(tmp_path / "steps.jsonl", {})
    world.engine.observers.append(recorder)
    requests = run(world, jobs)
    recorder.close()
    served = [request for request in requests if request.output]
    found = list(Trace(str(tmp_path / "steps.jsonl")).arrivals())
    assert len(found) > 5
    assert [(a.prompt_tokens, a.output_tokens) for a in found] == [(len(r.prompt), len(r.output)) for r in served]
    assert [a.at for a in found] == pytest.approx([r.arrival - served[0].arrival for r in served])
    assert [a.asked_tokens for a in found] == [r.params.max_tokens for r in served]


def test_recorded_prompts_share_what_they_shared(tmp_path: Path) -> None:
    who = {"priority": 2, "client": "alice", "cache_salt": ""}
    prompts = {"a": list(range(40)), "b": [*range(20), *range(50, 70)], "c": [*range(1, 17), *range(16, 32)], "silent": [1]}
    lines = [{"kind": "engine", "version": 1}]
    lines += [{"kind": "submit", "at": 7.0, "id": name, "prompt": ids, "params": {}, **who} for name, ids in prompts.items()]
    lines += [{"kind": "launch", "at": 8.0, "batch": 0, "chunks": [[name, 0, 9, 1] for name in "abc"]}]
    lines += [{"kind": "return", "at": 8.0, "batch": 0, "tokens": [[5], [5, 6], [5]]}]
    a, b, c = read(tmp_path, "\n".join(json.dumps(line) for line in lines))
    assert (b.output_tokens, b.client, b.priority, b.at) == (2, "alice", 2, 0.0)
    ids = [prompt_ids(arrival, number, 1000) for number, arrival in enumerate((a, b, c))]
    assert [len(prompt) for prompt in ids] == [40, 40, 32]
    assert ids[0][:16] == ids[1][:16]
    assert ids[0][16:32] != ids[1][16:32]
    assert ids[0][:16] != ids[2][:16]
    assert ids[0][16:32] != ids[2][16:32]  # the same tokens after others are another prefix


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n1,2\n", "line 1 of .*: its columns are a, b, but those of a trace are TIMESTAMP, ContextTokens"),
        ("\na,b\n1,2\n", "line 2 of .*: its columns are"),
        (VIDUR, "holds no requests"),
        (VIDUR + "0,1\n", "line 2 of .*: it has 2 fields where the header has 3"),
        (VIDUR + "0,1,1\n-1,1,1\n", "line 3 of .*: arrived_at must be a finite time of at least 0, not '-1'"),
        (VIDUR + "0,1,1\nnan,1,1\n", "line 3 of .*: arrived_at must be a finite time"),
        (VIDUR + "0,1,1\n\nsoon,1,1\n", "line 4 of .*: arrived_at must be a number, not 'soon'"),
        (VIDUR + "0,1,1\n5,1,1\n4,1,1\n", "line 4 of .*: time goes back from 5.0 to 4.0: sort the trace by time"),
        (VIDUR + "0,0,1\n", "line 2 of .*: num_prefill_tokens must be a whole number of tokens of at least 1, not '0'"),
        (VIDUR + "0,1,1.5\n", "line 2 of .*: num_decode_tokens must be a whole number"),
        (VIDUR + "0,inf,1\n", "line 2 of .*: num_prefill_tokens must be a whole number"),
        (AZURE + "yesterday,1,1\n", "line 2 of .*: TIMESTAMP must be a date like"),
        (AZURE + "2023-11-16 18:00:01,1,1\n2023-11-16 18:00:00,1,1\n", "line 3 of .*: .* sort the trace by time"),
        (MOONCAKE % (0, 5, 5, "[]") + "{\n", "line 2 of .*: it is no JSON object: was the file cut short?"),
        (MOONCAKE % (0, 5, 5, "[]") + "[]\n", "line 2 of .*: it is no JSON object"),
        (MOONCAKE % (0, 5, 5, "[]") + '{"timestamp": 1}\n', "line 2 of .*: input_length is missing"),
        (MOONCAKE % ("true", 5, 5, "[]"), "line 1 of .*: timestamp must be a number, not True"),
        (MOONCAKE % ("NaN", 5, 5, "[]"), "line 1 of .*: timestamp must be a finite time"),
        (MOONCAKE % (0, "1" * 400, 5, "[]"), "line 1 of .*: input_length must be a number"),
        (MOONCAKE % (0, 5, 5, '["a"]'), "line 1 of .*: hash_ids must be a list of whole numbers"),
        ('{"prompt": "x"}\n', "line 1 of .*: its keys are of no trace"),
        ('{"kind": "engine", "version": 99}\n', "or a recorded run of version 1 or 2"),
        ('{"kind": "engine", "version": 1}\n{"kind": "finish", "id": "x"}\n', "line 2 of .*: it does not fit into a record"),
        ('{"kind": "engine", "version": 1}\n{"kind": "subm', "line 2 of .*: it is no JSON object: was the file cut short?"),
        ('{"kind": "engine", "version": 1}\n{"kind": "submit", "at": 0, "prompt": 5}\n', "line 2 of .*: it does not fit"),
        ('{"kind": "engine", "version": 1}\n{"at": 1}\n', "line 2 of .*: it does not fit into a record"),
        ("[{]", "line 1 of .*: it is no JSON"),
        ("[1]", "conversation 1 of .*: it has no list of conversations"),
        ('[{"conversations": [{"from": "human"}]}]', "conversation 1 of .*: a turn needs texts as from and value"),
        ("[]", "holds no requests"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        read(tmp_path, text, reject=True, count=len)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", VIDUR.encode() + b"0,1,1\n\xff,1,1\n"])
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "binary"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is no text"):
        list(Trace(str(path), reject_bad_rows=True).arrivals())


def test_a_file_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the trace .*: No such file or directory"):
        Trace(str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="cannot read the trace .*: Is a directory"):
        Trace(str(tmp_path))
    with pytest.raises(ConfigError, match="scale"):
        Trace(written(tmp_path, VIDUR), scale=0)


@given(
    st.text(alphabet='{}[]",:0123456789.-eE\n\r\x00 naNtruf' + "timestamp_input_length", max_size=80),
    st.sampled_from(["", AZURE, VIDUR]),
)
def test_no_text_makes_anything_but_requests_or_a_complaint(
    tmp_path_factory: pytest.TempPathFactory, text: str, head: str
) -> None:
    path = written(tmp_path_factory.getbasetemp(), head + text, "fuzz")
    found, complaint = [], ""
    try:
        found = list(Trace(path).arrivals())
    except ConfigError as error:
        complaint = str(error)
    assert bool(found) != bool(complaint)
    assert "\n" not in complaint


@pytest.mark.parametrize("line", ["{},10,5\n", None])
def test_memory_does_not_grow_with_the_trace(tmp_path: Path, line: str | None) -> None:
    rows = (line.format(at) if line else MOONCAKE % (at, 10, 5, [at]) for at in range(30_000))
    path = written(tmp_path, (VIDUR if line else "") + "".join(rows))
    tracemalloc.start()
    assert sum(1 for _ in Trace(path).arrivals()) == 30_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000


def test_the_beginning_of_a_trace_needs_not_the_rest(tmp_path: Path) -> None:
    path = written(tmp_path, VIDUR + "0,10,5\nbroken\n")
    assert list(islice(Trace(path).arrivals(), 1)) == [Arrival(0.0, 10, 5)]


def test_empirical_lengths_are_pairs_of_the_trace(tmp_path: Path) -> None:
    path = written(tmp_path, VIDUR + "0,10,5\n0,20,6\n0,20,6\n")
    lengths = make_lengths(f"empirical:file={path}")
    assert not isinstance(lengths, Trace)
    found = [tuple(pair) for pair in lengths.pairs(np.random.default_rng(0).random((3000, 2))).tolist()]
    assert set(found) == {(10, 5), (20, 6)}
    assert found.count((20, 6)) / 3000 == pytest.approx(2 / 3, abs=0.03)
