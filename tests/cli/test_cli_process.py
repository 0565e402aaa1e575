"""The command line as a process of its own: its status, its signals, its streams, and a terminal."""

from __future__ import annotations

import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest

from orcinus.__main__ import main
from tests.commands import ENVIRONMENT, ORCINUS, orcinus, orcinus_process
from tests.product import part


def terminal(columns: int) -> dict[str, str]:
    """The environment of a terminal of so many columns."""
    return {"COLUMNS": str(columns), "LINES": "50", "TERM": "xterm-256color"}


def received(parent: int) -> str:
    """What a terminal is sent until it is closed."""
    output = b""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if select.select([parent], [], [], 0.2)[0]:
            try:
                data = os.read(parent, 65536)
            except OSError:  # Linux reports a closed terminal so
                break
            if not data:
                break
            output += data
    os.close(parent)
    return output.decode(errors="replace")


def in_terminal(*arguments: str, columns: int, typed: str = "") -> str:
    """What a terminal is sent by a process of its own."""
    parent, child = pty.openpty()
    environment = ENVIRONMENT | terminal(columns)
    process = subprocess.Popen([*ORCINUS, *arguments], stdin=child, stdout=child, stderr=child, env=environment)
    os.close(child)
    os.write(parent, typed.encode())
    output = received(parent)
    assert process.wait(timeout=10) == 0, output
    return output


def in_terminal_here(*arguments: str, columns: int) -> str:
    """What a terminal is sent by a command in this process."""
    parent, child = pty.openpty()
    output, interrupt = list[str](), signal.getsignal(signal.SIGINT)
    reader = threading.Thread(target=lambda: output.append(received(parent)))
    reader.start()
    try:
        with (
            open(child, "w", encoding="utf-8") as screen,
            patch.dict(os.environ, terminal(columns)),
            patch.multiple(sys, argv=["orcinus", *arguments], stdout=screen, stderr=screen),
            pytest.raises(SystemExit) as end,
        ):
            main()
    finally:
        signal.signal(signal.SIGINT, interrupt)
        reader.join()
    assert not end.value.code, output
    return output[0]


def test_the_version() -> None:
    assert orcinus_process("--version").stdout.strip() == "0.1.0"


@pytest.mark.full
def test_generate_streams_an_answer() -> None:
    done = orcinus_process("generate", "Hi", "--temperature", "0")
    assert done.returncode == 0, done.stderr
    assert 0 < len(done.stdout.strip()) < 200
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    part(
        (["generate", "Hi", "--model", "someone/something"], "HF_HUB_OFFLINE forbids downloads"),
        full=[
            (["generate", "Hi", "--model", "nowhere"], "no model folder at nowhere"),
            (["demo", "--policy", "orca,magic"], "unknown policy 'magic'"),
        ],
    ),
)
def test_an_error_is_all_that_is_printed(arguments: list[str], message: str) -> None:
    """By libraries too, which find another standard error than the one of the tests that stay in their process."""
    done = orcinus_process(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stdout == ""


def test_debug_shows_the_traceback_wherever_it_stands() -> None:
    done = orcinus_process("simulate", "--model", "nowhere", "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "ModelError" in done.stderr


def test_an_unknown_option_is_a_usage_error() -> None:
    assert orcinus_process("generate", "Hi", "--no-such-option").returncode == 2


def test_ctrl_c_ends_an_answer_with_one_line_and_status_130() -> None:
    """Until then the answer is that of an equal seed in this process."""
    command = "generate", "--raw", "Once upon", "--temperature", "1", "--seed", "1", "--ignore-eos", "--max-tokens"
    process = subprocess.Popen(
        [*ORCINUS, *command, "400"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT | {"PYTHONUNBUFFERED": "1"}
    )
    assert process.stdout is not None
    begun = process.stdout.read(40).decode()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.decode().strip() == "interrupted"
    assert len(begun) == 40
    assert orcinus(*command, "40").stdout.startswith(begun)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc to see what a process has loaded")
@pytest.mark.parametrize(
    ("command", "library"), part(("generate", "libtorch_cpu"), full=[("generate", "llvmlite"), ("info", "libtorch_cpu")])
)
def test_ctrl_c_while_libraries_load(command: str, library: str) -> None:
    process = subprocess.Popen([*ORCINUS, command, *(["Hi"] if command == "generate" else [])], stderr=subprocess.PIPE)
    maps = Path(f"/proc/{process.pid}/maps")
    while library not in maps.read_text():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.decode() == "interrupted\n"


def in_shell(command: str) -> subprocess.CompletedProcess[str]:
    line = command.replace("orcinus", shlex.join(ORCINUS))
    return subprocess.run(line, shell=True, capture_output=True, env=ENVIRONMENT, timeout=120, check=False, text=True)


@pytest.mark.parametrize(
    ("command", "message"),
    part(
        ("orcinus models > /dev/full", "cannot go on: No space left on device"),
        ("orcinus models >&-", "standard output is closed"),
        ("orcinus generate <&-", "standard input holds no prompt"),
        full=[
            ("orcinus generate Hi > /dev/full", "cannot go on: No space left on device"),
            ("printf 'Gr\\374n' | orcinus chat", "1 of the turns failed"),
            ("orcinus generate $(printf 'Gr\\374n')", "character 2 of the text is no valid Unicode"),
        ],
    ),
)
def test_unusable_streams(command: str, message: str) -> None:
    done = in_shell(command)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert all(line.startswith("error: ") for line in done.stderr.splitlines())


def test_a_reader_that_is_gone_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as nowhere:
        done = subprocess.run([*ORCINUS, "models"], stdout=nowhere, stderr=subprocess.PIPE, env=ENVIRONMENT, timeout=120)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.full
def test_a_reader_that_stops_reading_is_no_traceback() -> None:
    done = in_shell("orcinus generate --raw Once --max-tokens 100 --ignore-eos | head -c 10")
    assert done.stderr == ""


@pytest.mark.full
def test_chat_in_a_terminal_ends_with_exit() -> None:
    assert "tokens/s" in in_terminal("chat", columns=80, typed="Hi\n/exit\n")


@pytest.mark.parametrize(("show", "columns"), part((in_terminal_here, 60), full=[(in_terminal, 60), (in_terminal, 160)]))
def test_the_demo_in_a_terminal(show: Callable[..., str], columns: int) -> None:
    output = show("demo", "--max-tokens", "4", "--repeats", "1", columns=columns)
    assert "slot 2" in output
    assert "\x1b[" in output
    assert "The answers are the same" in output
