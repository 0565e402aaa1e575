"""What README promises, run as it stands there."""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from orcinus.bench.result import Result, write_result
from orcinus.tiny import MODEL_DIR
from tests.bench.made_up_runs import result, run_of, side
from tests.commands import orcinus
from tests.fake_hub import Hub, Repository, files_of, running, use
from tests.serve.conftest import Running

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The code blocks of one language; lines that go on in the next one are joined."""
    found = re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    return [block.replace("\\\n", " ") for block in found]


COMMANDS = [
    shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines() if line.startswith("orcinus ")
]


FEWER = {  # requests and tokens; and a client that shares a busy machine may be as late as it likes
    "offline": ("--requests", "1", "--repeats", "1"),
    "serve": ("--requests", "1", "--max-delay", "60"),
    "simulate": ("--requests", "40"),
    "generate": ("--max-tokens", "24"),
    "chat": ("--max-tokens", "24"),
    "verify": ("--prompt-tokens", "40", "--max-tokens", "4"),
    "profile": ("--batch-size", "1", "--prompt", "16", "--repeats", "2"),
}


def measured() -> Result:
    """Seven repeats of two policies, made up: those of README take a minute."""
    sides = {"request-level": 2.0, "orca": 1.0}
    return result(*(side(name, *(run_of(took + 0.01 * k, k) for k in range(7))) for name, took in sides.items()))


RUN = (  # one iteration of one request
    {"kind": "engine", "version": 2, "policy": "orca", "limits": {"max_batch_tokens": 64}},
    {"kind": "launch", "at": 0.0, "batch": 1, "chunks": [["a", 0, 3, 1]]},
    {"kind": "return", "at": 0.1, "batch": 1, "tokens": [[5]]},
)
HERE = "http://127.0.0.1:8000"  # where README's server is


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running(Hub()) as hub:
        use(hub, tmp_path, monkeypatch)
        yield hub


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_works(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if HERE in command:
        running: Running = request.getfixturevalue("server")
        command = [running.url if part == HERE else part for part in command]
    (tmp_path / "prompts.txt").write_text("Hi\nWhat is a decode?\n", encoding="utf-8")
    line = {"custom_id": "1", "method": "POST", "url": "/v1/completions", "body": {"prompt": "Hi", "max_tokens": 3}}
    (tmp_path / "requests.jsonl").write_text(json.dumps(line), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    if command[1] == "show":
        (tmp_path / "run.jsonl").write_text("\n".join(map(json.dumps, RUN)), encoding="utf-8")
    if command[1] == "batch":  # tests/cli/test_batch.py runs one in this process
        command = [*command, "--url", request.getfixturevalue("server").url]
    if command[1] == "bench":
        write_result("static.json", measured())
    if command[1] == "pull":
        hub = request.getfixturevalue("hub")
        hub.repositories[command[2]] = Repository({"0" * 40: files_of(MODEL_DIR)}, {"main": "0" * 40})
    command = [*command, *FEWER.get(command[2 if command[1] == "bench" else 1], ())]
    done = orcinus(*command[1:], stdin="Hi\n")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 3


def python(code: str) -> str:
    """What a program prints."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(code, {"__name__": "__main__"})
    return printed.getvalue()


def test_the_python_examples_work(server: Running) -> None:
    in_process, client = blocks("python")
    said = python(in_process)
    assert "keys and values" in said  # it knows what a KV cache is
    assert len(said.splitlines()) > 30  # and streams token by token
    assert "Orca" in python(client.replace(HERE, server.url))


def test_every_link_to_a_file_leads_somewhere() -> None:
    root = Path(__file__).parents[1]
    for name in ("README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/operations.md"):
        page = root / name
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{name} links to {target}"


def test_every_policy_and_manager_is_listed() -> None:
    from orcinus.core.kv import KV_MANAGERS
    from orcinus.core.policies import POLICIES
    from orcinus.runtime.attention import ATTENTION

    assert all(f"`{name}`" in README for name in [*POLICIES, *KV_MANAGERS, *ATTENTION])


def test_readme_and_makefile_name_the_same_commands_that_set_themselves_up() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    counted = set(re.findall(r"`make (\w+)`", makefile.splitlines()[0]))
    documented = set(re.findall(r"^(\w+): .*## set up, then", makefile, flags=re.MULTILINE))
    assert counted == documented == {"demo", "serve", "test"}
    assert makefile.startswith("# Three commands")
    assert {
        line.removeprefix("make ") for block in blocks("sh") for line in block.splitlines() if line.startswith("make ")
    } == counted
