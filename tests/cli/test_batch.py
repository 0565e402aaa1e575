"""`orcinus batch`: the bundled model answers a file as a server would, and a run that was interrupted goes on."""

from __future__ import annotations

import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.commands import orcinus
from tests.product import part
from tests.serve.conftest import Running
from tests.serve.in_process import engines_in_threads
from tests.waiting import wait_until

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
STORY = [{"role": "user", "content": "Tell me a story about a fox."}]
BODIES: dict[str, tuple[str, Any]] = {
    "chat": (CHAT, {"messages": STORY, "temperature": 0, "max_tokens": 30}),
    "several": (COMPLETIONS, {"prompt": ["Once", "The fox"], "n": 2, "max_tokens": 8, "seed": 3}),
    "named": (CHAT, {"model": "orcinus-tiny", "messages": STORY, "temperature": 0, "max_completion_tokens": 5}),
    "respond": (RESPONSES, {"input": "Tell me a story about a fox.", "temperature": 0, "max_output_tokens": 9}),
    "hot": (CHAT, {"messages": STORY, "temperature": 9}),
    "elsewhere": (CHAT, {"model": "gpt-4o-mini", "messages": STORY}),
    "empty": (COMPLETIONS, {}),
    "list": (COMPLETIONS, [1, 2]),
    "stream": (CHAT, {"messages": STORY, "stream": True}),
}
STATUSES = {
    "chat": 200,
    "several": 200,
    "named": 200,
    "respond": 200,
    "hot": 400,
    "elsewhere": 404,
    "empty": 400,
    "list": 400,
    "stream": None,
}
OWN = {"id", "created", "created_at", "completed_at", "timings", "usage", "system_fingerprint"}  # of one response or server


LONG = {f"long-{number}": (COMPLETIONS, {"prompt": "Once", "ignore_eos": True, "max_tokens": 200}) for number in range(99)}


def write(path: Path, bodies: dict[str, tuple[str, Any]]) -> Path:
    """A file of requests, after a line that is none."""
    lines = [{"custom_id": name, "method": "POST", "url": url, "body": body} for name, (url, body) in bodies.items()]
    path.write_text("{cut\n" + "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def read(path: Path) -> dict[str | None, Any]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = {line["custom_id"]: line for line in lines}
    assert len(found) == len(lines)
    return found


@dataclass
class Interrupted:
    """A run that got Ctrl-C when all but the long lines were answered."""

    requests: Path
    responses: Path
    status: int = 0
    stderr: str = ""
    found: dict[str | None, Any] = field(default_factory=dict)


@pytest.fixture(scope="module", params=part(engines_in_threads, full=[nullcontext]), ids=["thread", "process"])
def interrupted(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    """With the engine in a thread of this process, and in a process of its own as users have it."""
    folder = tmp_path_factory.mktemp("batch")
    run = Interrupted(write(folder / "in.jsonl", BODIES | LONG), folder / "out.jsonl")
    ended = threading.Event()

    def interrupt() -> None:
        wait_until(lambda: ended.is_set() or (run.responses.exists() and {*BODIES, None} <= set(read(run.responses))), 120)
        if not ended.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    with request.param(), ThreadPoolExecutor(1) as threads:
        threads.submit(interrupt)
        done = orcinus("batch", str(run.requests), str(run.responses), "--dtype", "float32", "--max-batch-size", "4")
        ended.set()
    run.status, run.stderr, run.found = done.returncode, done.stderr, read(run.responses)
    return run


def test_each_line_is_answered(interrupted: Interrupted) -> None:
    found = {name: line for name, line in interrupted.found.items() if name not in LONG}
    assert {name: line["response"] and line["response"]["status_code"] for name, line in found.items()} == STATUSES | {
        None: None
    }
    assert found["chat"]["response"]["body"]["object"] == "chat.completion"
    assert len(found["several"]["response"]["body"]["choices"]) == 4
    assert found["named"]["response"]["body"]["usage"]["completion_tokens"] == 5
    assert found["respond"]["response"]["body"]["usage"]["output_tokens"] == 9
    assert found["hot"]["response"]["body"]["error"]["param"] == "temperature"
    assert found["stream"]["error"]["param"] == "body.stream"
    assert found[None]["error"] | {"message": ""} == {"code": "invalid_json_line", "message": "", "param": None, "line": 1}
    assert len({line["response"]["request_id"] for line in found.values() if line["response"]}) == 8


def test_ctrl_c_leaves_whole_lines_and_says_that_it_can_go_on(interrupted: Interrupted) -> None:
    answered = len(interrupted.found) - 6
    assert 4 <= answered < 4 + len(LONG)
    count = f"{interrupted.responses}: {answered} answered, 6 failed; the same command goes on from there"
    assert interrupted.stderr.splitlines() == [count, "interrupted"]
    assert interrupted.status == 130


def test_the_next_run_goes_on_with_the_lines_that_are_left(interrupted: Interrupted, server: Running, tmp_path: Path) -> None:
    left = "short", (COMPLETIONS, {"prompt": "Once", "max_tokens": 3})
    requests, responses = write(tmp_path / "in.jsonl", BODIES | dict([left])), tmp_path / "out.jsonl"
    responses.write_bytes(interrupted.responses.read_bytes() + b'{"id":"batch_req_0')  # as after a kill
    done = orcinus("batch", str(requests), str(responses), "--url", server.url)
    assert done.stdout == f"{responses}: {len(interrupted.found) - 6 + 1} answered, 6 failed\n"
    assert done.returncode == 1
    assert done.stderr.startswith("the first failure: line 1: the line is not valid JSON")
    assert done.stderr.count("\n") == 1
    found = read(responses)
    assert found["short"]["response"]["status_code"] == 200
    answered = {name: line for name, line in interrupted.found.items() if line["response"]}
    assert answered == {name: found[name] for name in answered}


def test_a_server_gives_the_same_responses(interrupted: Interrupted, server: Running, tmp_path: Path) -> None:
    requests, responses = write(tmp_path / "in.jsonl", BODIES), tmp_path / "out.jsonl"
    there = orcinus("batch", str(requests), str(responses), "--url", f"{server.url}/v1")
    assert there.returncode == 1

    def shared(value: Any) -> Any:
        if isinstance(value, list):
            return [shared(one) for one in value]
        return {name: shared(one) for name, one in value.items() if name not in OWN} if isinstance(value, dict) else value

    def answers(found: dict[str | None, Any]) -> dict[str | None, Any]:
        return {
            name: (line["error"], line["response"] and shared(line["response"]["body"]))
            for name, line in found.items()
            if name not in LONG
        }

    assert answers(read(responses)) == answers(interrupted.found)


def test_a_finished_file_needs_no_engine(interrupted: Interrupted, tmp_path: Path) -> None:
    requests, responses = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    answered = dict(list(BODIES.items())[:3])
    write(requests, answered)
    requests.write_text(requests.read_text(encoding="utf-8").removeprefix("{cut\n"), encoding="utf-8")
    lines = interrupted.responses.read_text(encoding="utf-8").splitlines(keepends=True)
    responses.write_text("".join(line for line in lines if json.loads(line)["custom_id"] in answered), encoding="utf-8")
    again = orcinus("batch", str(requests), str(responses), "--model", "nowhere")
    assert (again.stdout, again.stderr, again.returncode) == (f"{responses}: 3 answered, 0 failed\n", "", 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.jsonl", "out.jsonl"], "cannot read requests from none.jsonl: there is no such file"),
        (["in.jsonl", "in.jsonl"], "in.jsonl is the file of requests"),
        (["in.jsonl", "."], "is not a regular file"),
        (["in.jsonl", "notes"], "line 1 of notes is no response of a batch"),
        (["in.jsonl", "out.jsonl", "--url", "::nonsense::"], "is no URL of a server"),
        (["in.jsonl", "out.jsonl", "--url", "http://127.0.0.1:1", "--kv", "paged"], "--kv would have no effect on the server"),
        (["in.jsonl", "out.jsonl", "--url", "http://127.0.0.1:1", "--replicas", "2"], "--replicas would have no effect"),
        (["in.jsonl", "out.jsonl", "--url", "http://127.0.0.1:1", "--patience", "0"], "1 failed; the same command goes on"),
        (["in.jsonl", "out.jsonl", "--router", "least-work"], "--router chooses among replicas"),
    ],
)
def test_errors_are_one_line(arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").write_text("Dear diary\n", encoding="utf-8")
    write(tmp_path / "in.jsonl", {"chat": BODIES["chat"]})
    failed = orcinus("batch", *arguments)
    assert failed.returncode == 1
    assert message in failed.stderr
    assert failed.stderr.startswith("error: ")
    assert failed.stderr.count("\n") == 1
