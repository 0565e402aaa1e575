"""What `simulate`, `sweep` and `capacity` say of their own figures: why not to believe them, and on what they rest."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.commands import orcinus

ORCA = ("--lengths", "orca")
SHORT = ("--lengths", "uniform:low=20:high=200,uniform:low=5:high=20")
LONG = ("--arrivals", "poisson:rate=2", "--requests", "30", *ORCA)
TRACE = "arrived_at,num_prefill_tokens,num_decode_tokens\n"


def trace(folder: Path, *rows: str) -> str:
    (folder / "trace.csv").write_text(TRACE + "\n".join(rows))
    return f"trace:file={folder / 'trace.csv'}"


def even(count: int, gap: float) -> list[str]:
    return [f"{number * gap},100,10" for number in range(count)]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_simulation_that_is_too_short_says_how_many_requests_are_enough() -> None:
    command = ("simulate", "--arrivals", "poisson:rate=5", *ORCA, "--json", "--requests")
    short = json.loads(orcinus(*command, "20").stdout)
    (doubt,) = short["doubts"]
    assert doubt.startswith("the workload is too short: requests come for ")
    enough = doubt.rsplit(" ", 1)[1]
    assert int(enough) > 20
    assert json.loads(orcinus(*command, enough).stdout)["doubts"] == []


def test_the_doubts_stand_in_the_terminal_too() -> None:
    done = orcinus("simulate", "--arrivals", "poisson:rate=5", *ORCA, "--requests", "20")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("! ")]
    assert "the workload is too short" in line
    assert any("--seeds 5" in line for line in done.stdout.splitlines() if line.startswith("- "))


def test_a_queue_that_grows_and_requests_that_are_turned_away_are_said(tmp_path: Path) -> None:
    over = json.loads(orcinus("simulate", "--requests", "1200", "--arrivals", "poisson:rate=200", *SHORT, "--json").stdout)
    assert any("the queue keeps growing" in doubt for doubt in over["doubts"])
    lengths = trace(tmp_path, *even(150, 1.0), "150,99999,5")
    away = json.loads(orcinus("simulate", "--lengths", lengths, "--json").stdout)
    assert [doubt.split(":")[0] for doubt in away["doubts"]] == ["1 of 151 requests were rejected as too long"]


def test_all_at_once_is_never_too_short() -> None:
    done = json.loads(orcinus("simulate", "--arrivals", "all-at-once", "--requests", "3", *ORCA, "--json").stdout)
    assert done["doubts"] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--device", "h200"), [("norms and activations", "borrowed"), ("attention", "assumed")]),
        (("--device", "a100-40g", "--software", "orca"), [("linear layers", "fitted"), ("attention", "fitted")]),
        (("--device", "l4", "--tp", "2"), [("linear layers", "borrowed"), ("sums over devices", "borrowed")]),
        (("--device", "h200", "--tp", "2", "--pp", "2"), [("sums over devices", "measured")]),
    ],
)  # fmt: skip
def test_where_costs_come_from_is_said_in_the_terminal_and_in_json(
    options: tuple[str, ...], said: list[tuple[str, str]]
) -> None:
    few = ("--requests", "3", "--arrivals", "all-at-once", *ORCA)
    found = json.loads(orcinus("simulate", *few, *options, "--json").stdout)["costs"]
    assert {(each["operators"], each["basis"]) for each in found} >= set(said)
    shown = orcinus("simulate", *few, *options).stdout
    (line,) = [line for line in shown.splitlines() if line.startswith("- costs: ")]
    assert all(operators in line and basis in line for operators, basis in said)
    weak = any(each["basis"] in ("borrowed", "derived", "assumed") for each in found)
    assert line.endswith("absolute times are estimates") == weak


def test_all_three_commands_say_what_costs_are_borrowed() -> None:
    few = ("--requests", "30", *ORCA, "--device", "h200")
    sweep = orcinus("sweep", *few, "--vary", "rate=1,2", "--workers", "1")
    capacity = orcinus("capacity", *few, "--p99-ttft", "0.2", "--tolerance", "0.5")
    assert "linear layers, norms and activations borrowed from h100" in sweep.stderr
    assert "linear layers, norms and activations borrowed from h100" in capacity.stdout


@pytest.mark.full
def test_a_capacity_from_few_requests_is_none_and_says_how_many_are_enough() -> None:
    command = ("capacity", *ORCA, "--p99-ttft", "0.4", "--tolerance", "0.2", "--requests")
    few = orcinus(*command, "20")
    (doubt,) = [line for line in few.stdout.splitlines() if line.startswith("! ")]
    assert "requests/s is no capacity: 20 requests come within" in doubt
    assert [line.split()[1][-1] for line in few.stdout.splitlines() if line.startswith(" stall-free")] == ["?"]
    enough = doubt.rsplit(" ", 1)[1]
    found = json.loads(orcinus(*command, enough, "--json").stdout)
    assert found["doubts"] == []
    assert found["rate"] > 0


def test_requests_that_end_before_anything_is_late_have_no_capacity() -> None:
    done = orcinus("capacity", *ORCA, "--requests", "10")
    assert done.returncode == 1
    assert "the workload is too short to tell: give --requests 1" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_capacity_of_nothing_names_what_fails_and_by_how_much() -> None:
    command = ("capacity", *ORCA, "--requests", "10", "--p99-tbt", "0.001", "--p99-ttft", "0.001", "--tolerance", "0.5")
    lines = [line for line in orcinus(*command).stdout.splitlines() if line.startswith("0: ")]
    assert len(lines) == 2
    for line, name in zip(lines, ("P99 TBT", "P99 TTFT"), strict=True):
        assert f"requests/s the {name} is " in line
        found, times = float(line.split(" is ")[1].split(" ms")[0]), float(line.split(", ")[1].split(" times")[0])
        assert times == pytest.approx(found / 1.0, rel=0.01)
        assert times > 1
    assert json.loads(orcinus(*command, "--json").stdout)["missed"] == [line.removeprefix("0: ") for line in lines]


def test_seeds_give_medians_and_intervals_in_all_three_commands(tmp_path: Path) -> None:
    seeds, load = ("--seeds", "3", "--seed", "3"), ("--arrivals", "poisson:rate=2", "--requests", "15", *ORCA)
    one = [
        json.loads(orcinus("simulate", *load, "--seed", str(3 + number), "--json").stdout)["ttft"]["p99"] for number in range(3)
    ]
    record = json.loads(orcinus("simulate", *load, *seeds, "--json").stdout)
    assert record["seeds"] == [3, 4, 5]
    assert record["ttft"]["p99"] == sorted(one)[1]
    assert record["intervals"]["ttft.p99"] == {"low": min(one), "high": max(one), "level": 0.75}
    file = tmp_path / "sweep.csv"
    orcinus("sweep", *load, *seeds, "--vary", "rate=2", "--workers", "1", "--csv", str(file))
    (row,) = table(file)
    assert (row["ttft_p99_s_low"], row["ttft_p99_s"], row["ttft_p99_s_high"]) == tuple(
        map(str, (min(one), sorted(one)[1], max(one)))
    )
    search = ("--requests", "20", *SHORT, "--max-batch-size", "4", "--p99-ttft", "0.4", "--tolerance", "0.2", "--json")
    rates = [json.loads(orcinus("capacity", *search, "--seed", str(seed)).stdout)["rate"] for seed in (3, 4, 5)]
    assert len(set(rates)) > 1
    found = json.loads(orcinus("capacity", *search, *seeds).stdout)
    assert found["rates"] == rates
    assert (found["rate"], found["low"], found["high"], found["level"]) == (sorted(rates)[1], min(rates), max(rates), 0.75)
    assert {trial["seed"] for trial in found["trials"]} == {3, 4, 5}


def test_seeds_that_change_nothing_are_said(tmp_path: Path) -> None:
    done = orcinus("simulate", "--lengths", trace(tmp_path, *even(120, 1.0)), "--seeds", "3")
    assert "all 3 seeds give equal results: nothing in this workload is random" in done.stdout


def test_requests_come_when_the_trace_says_unless_something_else_is_asked_for(tmp_path: Path) -> None:
    lengths = ("--lengths", trace(tmp_path, *even(21, 0.5)))
    own = orcinus("simulate", *lengths)
    assert f"- requests come at the times of {tmp_path / 'trace.csv'}" in own.stdout.splitlines()
    record = json.loads(orcinus("simulate", *lengths, "--json").stdout)
    assert (record["config"]["arrivals"], record["workload"]["seconds"]) == ("trace", 10.0)
    other = orcinus("simulate", *lengths, "--arrivals", "poisson:rate=2")
    assert any("requests come as poisson says, not at the times of" in line for line in other.stdout.splitlines())


def test_rates_stretch_the_times_of_a_trace(tmp_path: Path) -> None:
    lengths = ("--lengths", trace(tmp_path, *even(41, 0.5)))
    done = orcinus("sweep", *lengths, "--vary", "rate=2,8", "--workers", "1", "--json")
    points = [json.loads(line) for line in done.stdout.splitlines()]
    assert [point["settings"] for point in points] == [{"rate": "2"}, {"rate": "8"}]
    assert [point["seconds"] for point in points] == [pytest.approx(20, abs=0.5), pytest.approx(5, abs=0.5)]
    capacity = json.loads(orcinus("capacity", *lengths, "--p99-ttft", "0.1", "--tolerance", "0.3", "--json").stdout)
    assert capacity["config"]["arrivals"] == "trace"
    assert capacity["rate"] > 2


SWEEP, CAPACITY = ("sweep", "--vary", "policy=orca", "--workers", "1"), ("capacity", "--p99-ttft", "0.1", "--tolerance", "0.5")


@pytest.mark.parametrize("command", [("simulate",), SWEEP, CAPACITY])
def test_bad_rows_are_counted_in_one_line_or_end_the_command(tmp_path: Path, command: tuple[str, ...]) -> None:
    lengths = ("--lengths", trace(tmp_path, "0,100,10", "soon,1,1", *even(20, 0.5)[1:], "20,-3,1"))
    done = orcinus(*command, *lengths)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in (done.stdout + done.stderr).splitlines() if "skipped" in line]
    assert line.startswith(f"- 2 rows of the trace were skipped; the first: line 3 of {tmp_path / 'trace.csv'}: arrived_at")
    refused = orcinus(*command, *lengths, "--reject-bad-rows")
    assert refused.returncode == 1
    assert "line 3 of" in refused.stdout + refused.stderr


def test_options_about_traces_are_refused_without_one() -> None:
    for option in (("--reject-bad-rows",), ("--tokenizer", "/nowhere")):
        done = orcinus("simulate", *ORCA, *option)
        assert done.returncode == 1
        assert "is about a trace" in done.stderr


def test_numbers_are_written_with_their_units(tmp_path: Path) -> None:
    file = tmp_path / "simulate.csv"
    assert orcinus("simulate", *LONG, "--policy", "orca,stall-free", "--seeds", "2", "--csv", str(file)).returncode == 0
    rows = table(file)
    assert [(row["run"], row["seed"]) for row in rows] == [
        ("orca", "0"),
        ("orca", "1"),
        ("stall-free", "0"),
        ("stall-free", "1"),
    ]
    assert float(rows[0]["ttft_p50_s"]) < float(rows[0]["e2e_p50_s"])
    assert {"request_throughput_requests_per_s", "normalized_latency_p99_s_per_token", "kv_used_share", "seconds"} <= rows[
        0
    ].keys()
    sweep = tmp_path / "sweep.csv"
    vary = ("--vary", "chunk_size=128,256", "--policy", "sarathi", "--vary", "tp=1,3")
    assert orcinus("sweep", *LONG, *vary, "--workers", "1", "--csv", str(sweep)).returncode == 0
    rows = table(sweep)
    assert [(row["chunk_size_tokens"], row["tp"]) for row in rows] == [("128", "1"), ("128", "3"), ("256", "1"), ("256", "3")]
    assert "does not divide" in rows[1]["error"]
    capacity = tmp_path / "capacity.csv"
    orcinus("capacity", *ORCA, "--requests", "40", "--p99-ttft", "0.4", "--tolerance", "0.5", "--csv", str(capacity))
    rows = table(capacity)
    kept = [float(row["rate_requests_per_s"]) for row in rows if row["kept"] == "True"]
    assert float(rows[0]["capacity_requests_per_s"]) == max(kept)
    assert {"p99_tbt_s", "p99_ttft_s", "median_delay_s"} <= rows[0].keys()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("simulate", "--csv", "/nowhere/x.csv"), "cannot write /nowhere/x.csv"),
        (("sweep", "--vary", "rate=1", "--csv", "/nowhere/x.csv"), "cannot write /nowhere/x.csv"),
        (("capacity", "--csv", "/"), "cannot write /"),
        (("simulate", "--requests-file", "/nowhere/x"), "cannot write /nowhere/x"),
        (("simulate", "--requests", "3", "--requests-file", "/dev/full"), "cannot write /dev/full: No space left"),
        (("simulate", "--seeds", "0"), "seeds must be a whole number of at least 1, not 0"),
        (("capacity", "--seeds", "5000"), "seeds must be at most 1000, not 5000"),
        (("simulate", "--seeds", "2", "--record", "x"), "one run"),
        (("simulate", "--lengths", "trace:file=/nowhere"), "cannot read the trace /nowhere"),
        (("sweep", "--vary", "rate=1", "--lengths", "trace:file=/nowhere"), "cannot read the trace /nowhere"),
    ],
)
def test_what_cannot_be_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = orcinus(*arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
