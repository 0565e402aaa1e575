"""`orcinus simulate`: runs beside each other, JSON, files, pictures, and one clear line for what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import orcinus

FEW = ("--requests", "30", "--lengths", "orca")


def test_papers_beside_each_other() -> None:
    done = orcinus("simulate", "--paper", "orca,vllm,sarathi-serve", *FEW)
    assert done.returncode == 0, done.stderr
    assert "mistral-7b on 1 x a100-80g (tp 1, pp 1, 1 replica)" in done.stdout
    assert "30 requests, " in done.stdout
    (names,) = [line.split() for line in done.stdout.splitlines() if "sarathi-serve" in line]
    assert names == ["orca", "vllm", "sarathi-serve"]
    for row in ("requests served", "TTFT (", "TBT (", "scheduling delay", "K/V used", "slots used"):
        assert row in done.stdout
    assert "bubbles" not in done.stdout


def test_a_pipeline_shows_its_bubbles() -> None:
    layout = ("--model", "gpt3-175b", "--device", "a100-40g", "--tp", "8", "--pp", "2")
    done = orcinus("simulate", *layout, "--paper", "orca", "--max-batch-size", "8", "--arrivals", "poisson:rate=4", *FEW)
    assert "gpt3-175b on 16 x a100-40g" in done.stdout
    assert "bubbles" in done.stdout


def test_json_is_a_line_for_every_run_and_repeats() -> None:
    command = ("simulate", "--policy", "orca,stall-free", "--json", *FEW)
    first, second = ([json.loads(line) for line in orcinus(*command).stdout.splitlines()] for _ in range(2))
    assert [record["run"] for record in first] == ["orca", "stall-free"]
    for record, again in zip(first, second, strict=True):
        assert record | {"wall_seconds": 0} == again | {"wall_seconds": 0}
        assert record["endings"] == {"length": 30}
        assert record["config"]["lengths"] == "orca"
        assert record["workload"]["requests"] == 30
        assert 0 < record["ttft"]["p50"] <= record["ttft"]["p99"] <= record["e2e"]["max"]


def test_other_seeds_are_other_requests() -> None:
    times = {orcinus("simulate", "--seed", seed, *FEW).stdout.split("E2E (")[1].split("\n")[0] for seed in ("1", "2")}
    assert len(times) == 2


def test_files_of_requests_iterations_and_pictures(tmp_path: Path) -> None:
    requests, record, plot = (str(tmp_path / name) for name in ("requests.jsonl", "record.jsonl", "plot.png"))
    done = orcinus("simulate", *FEW, "--requests-file", requests, "--record", record, "--plot", plot)
    assert done.returncode == 0, done.stderr
    served = [json.loads(line) for line in Path(requests).read_text().splitlines()]
    assert len(served) == 30
    assert all(one["arrival"] <= one["launched"] < one["first_token"] <= one["finished"] for one in served)
    assert Path(plot).read_bytes()[:4] == b"\x89PNG"
    assert "The same decisions: " in orcinus("replay", record).stdout


def test_a_trace_with_its_own_times(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,100,10\n3.0,50,5\n")
    (record,) = [json.loads(orcinus("simulate", "--arrivals", "trace", "--lengths", f"trace:file={trace}", "--json").stdout)]
    assert record["endings"] == {"length": 2}
    assert record["workload"]["seconds"] == 3.0


def write(folder: Path, text: str) -> str:
    (folder / "trace.csv").write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n" + text)
    return f"trace:file={folder / 'trace.csv'}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "gpt3-175b"), "does not fit on 1 x a100-80g"),
        (("--tp", "3"), "tp=3 does not divide the 32 heads of mistral-7b: choose one of 1, 2, 4"),
        (("--pp", "99"), "more than the 32 layers"),
        (("--model", "gpt5"), "unknown model 'gpt5'"),
        (("--device", "tpu"), "unknown device 'tpu': choose one of a100-40g"),
        (("--network", "token-ring"), "unknown network"),
        (("--software", "tgi"), "unknown software 'tgi'"),
        (("--policy", "magic"), "unknown policy 'magic'"),
        (("--kv", "magic"), "unknown K/V manager 'magic'"),
        (("--router", "magic"), "unknown router 'magic'"),
        (("--paper", "magic"), "unknown paper 'magic'"),
        (("--arrivals", "poisson:rate=0"), "rate"),
        (("--arrivals", "poisson:rate=-1"), "rate"),
        (("--arrivals", "poisson"), "needs rate"),
        (("--arrivals", "magic"), "unknown arrival process"),
        (("--lengths", "magic"), "unknown length"),
        (("--requests", "0"), "at least 1 request"),
        (("--max-batch-size", "0"), "max_batch_size must be a whole number of at least 1"),
        (("--gpu-memory-utilization", "1.5"), "above 0 and at most 1"),
        (("--arrivals", "trace"), "nothing says when requests come"),
        (("--plot", "picture.xyz"), "must end in .png, .svg or .pdf"),
        (("--plot", "/nowhere/picture.png"), "cannot be written there"),
        (("--paper", "orca", "--kv", "paged"), "says which kv to use"),
        (("--paper", "vllm", "--policy", "stall-free"), "says which policy to use"),
        (("--policy", "orca,stall-free", "--record", "x"), "one run"),
        (("--num-blocks", "5000000"), "does not fit beside the weights"),
        (("--num-blocks", "50000000"), "at most 10000000"),
        (("--max-tokens", "pow3"), "or pow2"),
        (("--requests-file", "/nowhere/file"), "cannot write /nowhere/file"),
    ],
)
def test_what_cannot_be_is_one_clear_line(arguments: tuple[str, ...], said: str) -> None:
    done = orcinus("simulate", "--requests", "3", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("-1,5,5\n", "line 2"),
        ("0,5,5\n1,0,5\n", "line 3"),
        ("0,5\n", "line 2"),
        ("nan,5,5\n", "line 2"),
        ("2,5,5\n1,5,5\n", "line 3"),
    ],
)
def test_a_bad_trace_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    command = ("simulate", "--arrivals", "trace", "--lengths", write(tmp_path, text), "--reject-bad-rows")
    done = orcinus(*command)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_trace_without_the_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("a,b\n1,2\n")
    done = orcinus("simulate", "--arrivals", "trace", "--lengths", f"trace:file={tmp_path / 'trace.csv'}")
    assert done.returncode == 1
    assert "num_prefill_tokens" in done.stderr


def test_many_runs_keep_their_labels() -> None:
    done = orcinus("simulate", "--policy", "request-level,orca,prefill-first,sarathi,stall-free,latency-target", *FEW)
    rows = [line for line in done.stdout.splitlines() if line.startswith(" TTFT (")]
    assert len(rows) == 1  # a pipe is as wide as it needs to be
    assert len(rows[0].split()) == 2 + 6 * 3


def test_what_a_prefix_cache_found_is_told(tmp_path: Path) -> None:
    lines = [{"timestamp": i * 100, "input_length": 1024, "output_length": 4, "hash_ids": [1, i + 2]} for i in range(20)]
    trace = tmp_path / "mooncake.jsonl"
    trace.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = orcinus("simulate", "--arrivals", "trace", "--lengths", f"trace:file={trace}", "--kv", "prefix-cache", "--json")
    assert json.loads(done.stdout)["prefix_hit_rate"] > 0.3
    assert json.loads(orcinus("simulate", "--json", *FEW).stdout)["prefix_hit_rate"] is None
