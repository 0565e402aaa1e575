"""`orcinus batch`: the bundled model answers a file as a server would, and a run that was interrupted goes on."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.commands import ENVIRONMENT, ORCINUS, Done, orcinus
from tests.serve.conftest import Running
from tests.waiting import wait_until

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
STORY = [{"role": "user", "content": "Tell me a story about a fox."}]
BODIES: dict[str, tuple[str, Any]] = {
    "chat": (CHAT, {"messages": STORY, "temperature": 0, "max_tokens": 30}),
    "several": (COMPLETIONS, {"prompt": ["Once", "The fox"], "n": 2, "max_tokens": 8, "seed": 3, "logprobs": 1}),
    "named": (CHAT, {"model": "orcinus-tiny", "messages": STORY, "temperature": 0, "max_completion_tokens": 5}),
    "hot": (CHAT, {"messages": STORY, "temperature": 9}),
    "elsewhere": (CHAT, {"model": "gpt-4o-mini", "messages": STORY}),
    "empty": (COMPLETIONS, {}),
    "list": (COMPLETIONS, [1, 2]),
    "stream": (CHAT, {"messages": STORY, "stream": True}),
}
STATUSES = {"chat": 200, "several": 200, "named": 200, "hot": 400, "elsewhere": 404, "empty": 400, "list": 400, "stream": None}
OWN = {"id", "created", "timings", "system_fingerprint"}  # of one response, or of one server


def write(path: Path, bodies: dict[str, tuple[str, Any]]) -> Path:
    lines = [{"custom_id": name, "method": "POST", "url": url, "body": body} for name, (url, body) in bodies.items()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{cut", encoding="utf-8")
    return path


def read(path: Path) -> dict[str | None, Any]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = {line["custom_id"]: line for line in lines}
    assert len(found) == len(lines)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batch")


@pytest.fixture(scope="module")
def done(folder: Path) -> Done:
    """A run with the engine in this process, which leaves `out.jsonl`."""
    write(folder / "in.jsonl", BODIES)
    return orcinus("batch", str(folder / "in.jsonl"), str(folder / "out.jsonl"), "--dtype", "float32", "--max-batch-size", "4")


def test_each_line_is_answered_and_the_status_says_that_some_failed(done: Done, folder: Path) -> None:
    assert done.stderr == ""
    assert done.stdout == f"{folder / 'out.jsonl'}: 3 answered, 6 failed\n"
    assert done.returncode == 1
    found = read(folder / "out.jsonl")
    assert {name: line["response"] and line["response"]["status_code"] for name, line in found.items()} == STATUSES | {
        None: None
    }
    assert found["chat"]["response"]["body"]["object"] == "chat.completion"
    assert len(found["several"]["response"]["body"]["choices"]) == 4
    assert found["named"]["response"]["body"]["usage"]["completion_tokens"] == 5
    assert found["hot"]["response"]["body"]["error"]["param"] == "temperature"
    assert found["stream"]["error"]["param"] == "body.stream"
    assert found[None]["error"] | {"message": ""} == {"code": "invalid_json_line", "message": "", "param": None, "line": 9}
    assert len({line["response"]["request_id"] for line in found.values() if line["response"]}) == 7


def test_a_server_gives_the_same_responses(done: Done, folder: Path, server: Running) -> None:
    there = orcinus("batch", str(folder / "in.jsonl"), str(folder / "there.jsonl"), "--url", f"{server.url}/v1")
    assert (there.returncode, there.stderr) == (1, "")

    def answers(path: Path) -> dict[str | None, Any]:
        return {
            name: (line["error"], line["response"] and {k: v for k, v in line["response"]["body"].items() if k not in OWN})
            for name, line in read(path).items()
        }

    assert answers(folder / "there.jsonl") == answers(folder / "out.jsonl")


def test_a_finished_file_needs_no_engine(done: Done, folder: Path) -> None:
    requests, responses = folder / "answered.jsonl", folder / "answers.jsonl"
    requests.write_text("".join((folder / "in.jsonl").read_text(encoding="utf-8").splitlines(True)[:3]), encoding="utf-8")
    responses.write_bytes((folder / "out.jsonl").read_bytes())
    again = orcinus("batch", str(requests), str(responses), "--model", "nowhere")
    assert (again.stdout, again.stderr) == (f"{responses}: 3 answered, 4 failed\n", "")
    assert again.returncode == 1  # some lines of the file failed
    assert read(responses) == {name: line for name, line in read(folder / "out.jsonl").items() if line["response"]}


def test_an_interrupted_run_goes_on_with_the_lines_that_are_left(tmp_path: Path) -> None:
    requests, responses = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    body = {"prompt": "Once", "ignore_eos": True, "max_tokens": 40, "temperature": 0}
    names = [f"line-{number}" for number in range(40)]
    requests.write_text(
        "".join(json.dumps({"custom_id": name, "method": "POST", "url": COMPLETIONS, "body": body}) + "\n" for name in names),
        encoding="utf-8",
    )
    command = ["batch", str(requests), str(responses), "--max-batch-size", "1"]
    process = subprocess.Popen([*ORCINUS, *command], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    try:
        wait_until(lambda: responses.exists() and responses.stat().st_size > 0)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    kept = read(responses)
    assert 0 < len(kept) < len(names)
    assert stderr.splitlines() == [
        f"{responses}: {len(kept)} answered, 0 failed; the same command goes on from there",
        "interrupted",
    ]
    with responses.open("ab") as file:
        file.write(b'{"id":"batch_req_0')  # as after a kill
    resumed = orcinus(*command[:3])
    assert (resumed.returncode, resumed.stderr) == (0, "")
    found = read(responses)
    assert set(found) == set(names)
    assert all(found[name] == line for name, line in kept.items())
    assert len({line["response"]["body"]["choices"][0]["text"] for line in found.values()}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.jsonl", "out.jsonl"], "cannot read requests from none.jsonl: there is no such file"),
        (["in.jsonl", "in.jsonl"], "in.jsonl is the file of requests"),
        (["in.jsonl", "."], "is not a regular file"),
        (["in.jsonl", "notes"], "line 1 of notes is no response of a batch"),
        (["in.jsonl", "out.jsonl", "--url", "::nonsense::"], "is not a URL"),
        (["in.jsonl", "out.jsonl", "--url", "http://127.0.0.1:1", "--kv", "paged"], "--kv would have no effect on the server"),
        (["in.jsonl", "out.jsonl", "--url", "http://127.0.0.1:1", "--replicas", "2"], "--replicas would have no effect"),
        (["in.jsonl", "out.jsonl", "--url", "http://127.0.0.1:1", "--patience", "0"], "0 answered, 0 failed; the same command"),
        (["in.jsonl", "out.jsonl", "--router", "least-work"], "--router chooses among replicas"),
        (["in.jsonl", "out.jsonl", "--model", "nowhere"], "no model folder at nowhere"),
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
