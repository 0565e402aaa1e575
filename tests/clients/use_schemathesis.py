"""schemathesis: thousands of requests made from the server's own /openapi.json, every answer held to that document."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from report import URL, check, leave

HERE = Path(__file__).parent
CASES = int(os.environ.get("ORCINUS_CASES", "5000"))
SEED = os.environ.get("ORCINUS_SEED", "1")
DISRUPTIVE = ("/pause", "/drain", "/v1/scheduler/load")  # what these do on purpose would fail every case after them
ENDLESS = ("/v1/scheduler/iterations",)  # a stream that does not end by itself


def run(examples: int, reports: Path) -> dict[str, Any]:
    """The report of one run of all operations."""
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        "--config-file",
        str(HERE / "schemathesis.toml"),
        "run",
        f"{URL}/openapi.json",
        "--checks",
        "all",
        "--no-color",
    ]
    command += ["--workers", "1", "--seed", SEED, "--max-examples", str(examples), "--continue-on-failure", "--no-shrink"]
    command += ["--request-timeout", "60", "--report", "json", "--report-json-path", str(reports / "run.json")]
    command += ["--max-response-time", "120"]  # how fast a machine answers is no part of the contract
    for path in (*DISRUPTIVE, *ENDLESS):
        command += ["--exclude-path", path]
    found_in = {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE)}
    done = subprocess.run(command, env=os.environ | found_in, capture_output=True, text=True, cwd=reports, check=False)
    if not (reports / "run.json").exists():
        raise AssertionError(done.stdout[-300:] + done.stderr[-300:])
    (HERE / "schemathesis.log").write_text(done.stdout, encoding="utf-8")
    report: dict[str, Any] = json.loads((reports / "run.json").read_text(encoding="utf-8"))
    return report


report: dict[str, Any] = {}
generated = 0


@check(f"{CASES} cases or more")
def enough() -> None:
    global report, generated
    examples = int(os.environ.get("ORCINUS_EXAMPLES", "40"))
    with tempfile.TemporaryDirectory() as folder:
        report = run(examples, Path(folder))
    generated = report["test_cases"]["generated"]
    print(f"      {generated} cases in {report['running_time']:.0f} s, seed {SEED}", flush=True)
    assert generated >= CASES, f"only {generated}: the document has few operations, or ORCINUS_EXAMPLES is too small"


@check("every operation was tested, without an error of schemathesis itself")
def tested() -> None:
    operations = report["operations"]
    assert operations["tested"] == operations["selected"], operations
    assert not report["errors"], report["errors"]


for failure in report.get("failures", []):

    @check(f"{failure['title']} ({failure['code']})")
    def failed(failure: dict[str, Any] = failure) -> None:
        raise AssertionError(f"{', '.join(failure['operations'])}; see tests/clients/schemathesis.log")


leave()
