"""`make conformance`: the checklist, and clients as people install them, each against a server process of the bundled model.

python -m tests.clients.run [NAME ...]       # all, or those named: checklist, openai, litellm, ...
python -m tests.clients.run --write NAME     # the same, and puts what was seen into docs/clients.md
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from orcinus.tiny import MODEL_DIR
from tests.clients.client_list import CLIENTS, HERE, Client
from tests.clients.feature_table import PAGE, FeatureRow, merged, plain
from tests.clients.forced_calls import forcing
from tests.serve.conftest import Running, serving

MOST_S = 1800


@dataclass(frozen=True)
class Outcome:
    """What came of one client."""

    name: str
    passed: int
    failed: int
    seconds: float
    note: str = ""
    features: dict[str, bool] = field(default_factory=dict)  # those that it has: whether all checks of it passed


def show_log(running: Running, defects: list[str]) -> None:
    """Print what a server says, but for the broken requests that it was sent on purpose; keep what is a defect."""
    assert running.process.stderr is not None
    for line in running.process.stderr:
        if "Invalid HTTP request" not in line:
            print(f"      server: {line}", end="", flush=True)
        if line.startswith(("Traceback", "ERROR")):
            defects.append(line.strip())


@contextmanager
def server(defects: list[str], *arguments: str) -> Iterator[Running]:
    """A server whose log is read, so that it never waits for a reader."""
    with serving(*arguments) as running:
        reader = threading.Thread(target=show_log, args=(running, defects))
        reader.start()
        try:
            yield running
        finally:
            running.process.terminate()
            reader.join()


def keyed(stack: ExitStack, defects: list[str]) -> str:
    """The address of a server with an API key, or nothing if it cannot have one."""
    try:
        return stack.enter_context(server(defects, "--api-key", "secret")).url
    except AssertionError:
        return ""


def run(client: Client, known: dict[str, str]) -> Outcome:
    """Run one client's script, showing its lines as they come."""
    print(f"\n== {client.name}", flush=True)
    if not Path(client.needs).exists():
        return Outcome(client.name, 0, 1, 0, "not installed")
    began = time.monotonic()
    environment = os.environ | known | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # litellm and dspy fetch no price list
    counts, features = {"pass": 0, "FAIL": 0}, dict[str, bool]()
    process = subprocess.Popen(
        client.command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=HERE
    )
    assert process.stdout is not None
    guard = threading.Timer(MOST_S, process.kill)
    guard.start()
    for line in process.stdout:
        word = line[:4]
        if word in (*counts, "skip", "    "):
            print(line, end="", flush=True)
        counts[word] = counts.get(word, 0) + 1
        if named := re.match(r"(pass|FAIL)  \[([a-z ]+)\]", line):
            features[named[2]] = features.get(named[2], True) and named[1] == "pass"
    guard.cancel()
    status = process.wait()
    ended_badly = status not in (0, 1) or (status == 1 and not counts["FAIL"]) or not counts["pass"] + counts["FAIL"]
    note = f"ended with status {status}" if ended_badly else ""
    return Outcome(client.name, counts["pass"], counts["FAIL"] + bool(note), time.monotonic() - began, note, features)


def checklists(known: dict[str, str]) -> list[Client]:
    """Our own checklist, against a server without and with a key."""
    command = (sys.executable, "-m", "orcinus", "conformance", "--url")
    found = [Client("checklist", (*command, known["ORCINUS_URL"]), sys.executable)]
    if known["ORCINUS_KEYED_URL"]:
        url = known["ORCINUS_KEYED_URL"]
        found.append(
            Client("checklist_with_key", (*command, url, "--api-key", "secret", "--only", "keys|routes"), sys.executable)
        )
    return found


def table(outcomes: list[Outcome]) -> str:
    """The outcomes, a client a line."""
    width = max(len(one.name) for one in outcomes)
    return "\n".join(
        f"{'FAIL' if one.failed else 'pass'}  {one.name:{width}} {one.passed:5} passed"
        f" {one.failed:4} failed {one.seconds:6.0f} s  {one.note}"
        for one in outcomes
    )


def rows_of(clients: list[Client], outcomes: list[Outcome]) -> list[FeatureRow]:
    """What the table of clients and features says of those that ran."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    found = {outcome.name: outcome.features for outcome in outcomes}
    return [
        FeatureRow(client.title, client.version, found[client.name], today)
        for client in clients
        if client.title and found.get(client.name)
    ]


def main() -> int:
    """Start the servers, run all clients, print the tables."""
    write = "--write" in sys.argv
    wanted = set(sys.argv[1:]) - {"--write"}
    unknown = wanted - {client.name for client in CLIENTS} - {"checklist", "checklist_with_key"}
    if unknown or not shutil.which("node"):
        print(f"no such client: {', '.join(unknown)}" if unknown else "the AI SDK needs node 20 or newer", file=sys.stderr)
        return 2
    defects: list[str] = []
    with ExitStack() as stack:
        url = stack.enter_context(server(defects)).url
        known = {
            "ORCINUS_URL": url,
            "ORCINUS_CALLING_URL": stack.enter_context(forcing(url)),
            "ORCINUS_NARROW_URL": stack.enter_context(server(defects, "--max-queue", "2")).url,
            "ORCINUS_KEYED_URL": keyed(stack, defects),
            "ORCINUS_MODEL": "orcinus-tiny",
            "ORCINUS_MODEL_DIR": str(MODEL_DIR),
            "ORCINUS_SITE": str(Path(torch.__file__).parents[1]),
        }
        clients = [*checklists(known), *CLIENTS]
        outcomes = [run(client, known) for client in clients if not wanted or client.name in wanted]
    rows = rows_of(CLIENTS, outcomes)
    outcomes.append(Outcome("server_log", 0, len(defects), 0, defects[0] if defects else "no traceback, no error"))
    print(f"\n{table(outcomes)}\n\n{plain(rows)}")
    if write:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(merged(page, rows, [client.title for client in CLIENTS]), encoding="utf-8")
    return 1 if any(one.failed for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
