"""`orcinus bench` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orcinus.bench.offline import EngineSystem, Watch
from orcinus.bench.record import Repeat
from orcinus.bench.result import Result, encode, read_result, write_result
from orcinus.workload.processes import AllAtOnce, Poisson
from orcinus.workload.workload import Workload
from tests.bench.made_up_runs import result, run_of, side
from tests.commands import orcinus

SMALL = ("--workload", "fixed:tokens=16,fixed:tokens=2", "--requests", "3", "--dtype", "float32")


def numbered(*seconds: float) -> Result:
    return result(side("a", *(run_of(each, number) for number, each in enumerate(seconds))))


def test_offline_measures_every_combination_and_leaves_a_file(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    done = orcinus("bench", "offline", *SMALL, "--policy", "request-level,orca", "--max-batch-size", "2,4", "-o", str(out))
    assert done.returncode == 0, done.stderr
    found = read_result(out)
    names = ["request-level, 2", "request-level, 4", "orca, 2", "orca, 4"]
    assert [each.name for each in found.sides] == names
    assert all(len(each.repeats) == 7 for each in found.sides)
    for name in names:
        assert name in done.stdout
    assert "All outputs are the same, token by token." in done.stdout
    assert "with 98%" in done.stdout
    assert "Which is better cannot be told. More repeats are needed: measure both at least 8 times." in done.stdout
    assert f"is in {out}" in done.stderr
    assert found.command[1:3] == ("bench", "offline")


def test_offline_prints_the_file_as_json() -> None:
    done = orcinus("bench", "offline", *SMALL, "--repeats", "1", "--json", "--goodput", "ttft=60")
    found = json.loads(done.stdout)
    assert (found["kind"], found["objectives"], len(found["sides"])) == ("offline", {"ttft": 60.0}, 1)


@pytest.mark.full
def test_a_configuration_can_be_compared_with_itself() -> None:
    done = orcinus("bench", "offline", *SMALL, "--repeats", "1", "--policy", "orca,orca", "--json")
    assert [each["name"] for each in json.loads(done.stdout)["sides"]] == ["orca", "orca (2)"]


def test_bad_rows_of_a_trace_are_counted_in_one_line_or_end_the_command(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,8,2\n0.1,x,2\n0.2,9,2\n")
    command = ("bench", "offline", "--workload", f"trace:file={trace}", "--repeats", "1", "--json")
    done = orcinus(*command, "--arrivals", "trace")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["work"]["requests"] == 2
    assert done.stderr.splitlines() == [
        f"- requests come at the times of {trace}",
        f"- 1 row of the trace was skipped; the first: line 3 of {trace}: num_prefill_tokens must be a number, not 'x'",
    ]
    assert orcinus(*command).stderr.startswith(f"- requests come as all-at-once says, not at the times of {trace}")
    refused = orcinus(*command, "--reject-bad-rows")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert "line 3 of" in refused.stderr


@pytest.mark.full
def test_sweep_prints_a_line_for_every_system_and_rate() -> None:
    done = orcinus("bench", "sweep", *SMALL, "--policy", "orca,stall-free", "--rates", "50,100", "--repeats", "1")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines if line and line[0] in ("50", "100")] == ["50", "100"]
    assert sum("orca" in line for line in lines) == sum("stall-free" in line for line in lines) == 2


PROMISE = ("--median-ttft", "0.05", "--first", "50", "--tolerance", "0.9")


def test_capacity_prints_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an engine that warms up in truth; then it keeps the promise as far as 100 requests per second."""
    measured = EngineSystem.measure

    def measure(system: EngineSystem, workload: Workload, number: int = 0, watch: Watch | None = None) -> Repeat:
        if isinstance(workload.arrivals, AllAtOnce):
            return measured(system, workload, number, watch)
        assert isinstance(workload.arrivals, Poisson)
        return run_of(0.02 if workload.arrivals.rate <= 100 else 0.2, number)

    monkeypatch.setattr(EngineSystem, "measure", measure)
    done = orcinus("bench", "capacity", *SMALL, "--policy", "orca", *PROMISE, "--json")
    found = json.loads(done.stdout)
    assert found["capacity"] == {"orca": pytest.approx(100)}
    assert [side["settings"]["kept"] for side in found["sides"]] == [True, True, False, True], (
        "at 50, 71, 141 and 100 requests per second"
    )


@pytest.mark.full
def test_capacity_is_found_by_serving() -> None:
    done = orcinus("bench", "capacity", *SMALL, "--requests", "600", "--policy", "orca", *PROMISE, "--json")
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert found["capacity"]["orca"] > 0
    assert len(found["sides"]) >= 2


def test_compare_ranks_what_can_be_ranked(tmp_path: Path) -> None:
    write_result(tmp_path / "a.json", numbered(1.0, 1.1, 1.2, 1.1, 1.0, 1.1, 1.2))
    write_result(tmp_path / "b.json", numbered(2.0, 2.1, 2.2, 2.1, 2.0, 2.1, 2.2))
    done = orcinus("bench", "compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"))
    assert done.returncode == 0, done.stderr
    assert "1.91x" in done.stdout
    assert "b in 0" in done.stdout


def test_compare_says_when_it_cannot_tell(tmp_path: Path) -> None:
    write_result(tmp_path / "a.json", numbered(1.0, 1.1, 2.2, 1.1, 1.0, 1.2, 1.1))
    done = orcinus("bench", "compare", str(tmp_path / "a.json"), str(tmp_path / "a.json"))
    assert done.returncode == 1
    assert "Which is better cannot be told." in done.stdout
    lines = [
        json.loads(line) for line in orcinus("bench", "compare", *[str(tmp_path / "a.json")] * 2, "--json").stdout.splitlines()
    ]
    assert {line["why"] for line in lines} == {"there is no difference beyond the noise"}


def test_report_writes_a_page_pictures_and_a_table(tmp_path: Path) -> None:
    write_result(tmp_path / "a.json", numbered(1.0, 1.1, 1.2, 1.1, 1.0))
    page, pictures, table = tmp_path / "a.html", tmp_path / "pictures", tmp_path / "a.md"
    flags = ("--html", str(page), "--pngs", str(pictures), "--markdown", str(table))
    done = orcinus("bench", "report", str(tmp_path / "a.json"), *flags)
    assert done.returncode == 0, done.stderr
    written = [Path(line) for line in done.stdout.splitlines()]
    assert {page, table} < set(written)
    assert any(path.parent == pictures and path.suffix == ".png" for path in written)
    assert all(path.stat().st_size > 100 for path in written)
    assert "<html" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("offline", "--workload", "nonsense"), "unknown length preset 'nonsense'"),
        (("offline", "--workload", "long-prompts", "--max-model-len", "512"), "are longer than the 512 tokens"),
        (("offline", "--max-batch-size", "8,x"), "--max-batch-size wants numbers with commas between, not '8,x'"),
        (("offline", "--max-batch-size", "0"), "max_batch_size must be a whole number of at least 1"),
        (("offline", "--policy", "orca,orcs"), "unknown policy 'orcs'"),
        (("offline", "--kv", "pagd"), "unknown K/V manager 'pagd'"),
        (("offline", "--repeats", "0"), "repeats must be a whole number of at least 1"),
        (("offline", "--goodput", "speed=1"), "an objective is one of ttft, tbt, tpot, e2e"),
        (("offline", "--arrivals", "poisson"), "arrival process 'poisson' needs rate"),
        (("offline", "--arrivals", "trace"), "nothing says when requests come"),
        (("offline", "--out", "nowhere/a.json"), "cannot write nowhere/a.json"),
        (("offline", "--model", "nowhere"), "nowhere"),
        (("serve",), "say which server: --url"),
        (("serve", "--url", "nonsense"), "is no URL of a server"),
        (("serve", "--url", "http://127.0.0.1:9"), "http://127.0.0.1:9"),
        (("serve", "--url", "http://127.0.0.1:9", "--timeout", "0"), "timeout must be above 0 seconds"),
        (("sweep", "--rates", "fast"), "--rates wants requests per second"),
        (("sweep", "--timeout", "3"), "--timeout is about a server: give its --url, or leave it out"),
        (("sweep", "--url", "http://127.0.0.1:9", "--kv", "paged"), "--kv is for an engine in this process"),
        (("capacity", "--arrivals", "closed:clients=3"), "has no rate to vary"),
        (("compare", "none.json", "none.json"), "cannot read none.json"),
        (("report", "none.json"), "cannot read none.json"),
        (("report", "a.json", "--html", "a.json"), "the report would overwrite a result"),
        (("offline", "--requests", "99999999999"), "requests must be at most 10000000"),
        (("capacity", "--p99-tbt", "nan"), "an objective must be a number of seconds above 0"),
        (("report", "none.json", "--html", "nowhere/a.html"), "cannot write nowhere/a.html: give --html a file"),
        (("compare", "README.md", "README.md"), "README.md is no result of orcinus bench"),
    ],
)
def test_wrong_input_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = orcinus("bench", *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_a_result_of_another_version_is_refused(tmp_path: Path) -> None:
    old = json.loads(encode(numbered(1.0))) | {"version": 0}
    (tmp_path / "old.json").write_text(json.dumps(old))
    done = orcinus("bench", "compare", *[str(tmp_path / "old.json")] * 2)
    assert "has version 0 of the format" in done.stderr
