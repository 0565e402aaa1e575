"""The command line as a real process: output, exit status, and errors of one line."""

from __future__ import annotations

import json
import os
import pty
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ORCINUS = [sys.executable, "-m", "orcinus"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "COLUMNS": "100", "HF_HUB_OFFLINE": "1"}
ENGINES = ["generate", "chat", "demo", "info", "plan"]
COMMANDS = ["generate", "chat", "demo", "models", "info", "plan", "trace", "replay"]


def orcinus(*arguments: str, stdin: str | bytes = "", **environment: str) -> subprocess.CompletedProcess[str]:
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        [*ORCINUS, *arguments], input=data, capture_output=True, env=ENVIRONMENT | environment, timeout=120, check=False
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def in_terminal(*arguments: str, columns: int, typed: str = "") -> str:
    """What a terminal of so many columns is sent."""
    parent, child = pty.openpty()
    size = {"COLUMNS": str(columns), "LINES": "50", "TERM": "xterm-256color"}
    process = subprocess.Popen([*ORCINUS, *arguments], stdin=child, stdout=child, stderr=child, env=ENVIRONMENT | size)
    os.close(child)
    os.write(parent, typed.encode())
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
    assert process.wait(timeout=10) == 0, output.decode(errors="replace")
    os.close(parent)
    return output.decode(errors="replace")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_says_what_a_command_is_for(command: str) -> None:
    done = orcinus(*([command] if command else []), "--help")
    assert done.returncode == 0
    assert len(done.stdout) > 200
    for name in COMMANDS if not command else ["--model", "--policy"] if command in ENGINES else []:
        assert name in done.stdout


def test_the_version() -> None:
    assert orcinus("--version").stdout.strip() == "0.1.0"


def test_generate_streams_an_answer() -> None:
    done = orcinus("generate", "Hi", "--temperature", "0")
    assert done.returncode == 0, done.stderr
    assert 0 < len(done.stdout.strip()) < 200
    assert done.stderr == ""


def test_generate_prints_several_answers_in_order() -> None:
    done = orcinus("generate", "Tell me a story about a fox.", "Hi", "--temperature", "0", "--max-tokens", "20")
    assert [line for line in done.stdout.splitlines() if line.startswith("> ")] == ["> Tell me a story about a fox.", "> Hi"]


def test_generate_as_json_from_standard_input() -> None:
    done = orcinus("generate", "--json", "--temperature", "0", "--max-tokens", "5", stdin="Hi\n\nHello\n")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["prompt"] for record in records] == ["Hi", "Hello"]
    assert all(len(record["token_ids"]) == record["usage"]["completion_tokens"] <= 5 for record in records)
    assert all(0 < record["ttft_s"] <= record["e2e_s"] for record in records)


def test_equal_seeds_repeat_a_command_and_other_seeds_do_not() -> None:
    texts = [
        orcinus("generate", "--raw", "Once", "--temperature", "1", "--max-tokens", "30", "--seed", seed).stdout
        for seed in "112"
    ]
    assert texts[0] == texts[1] != texts[2]


def test_prompts_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\ufeffHi\nHello\n", encoding="utf-8")
    done = orcinus("generate", "--file", str(file), "--max-tokens", "4")
    assert done.stdout.startswith("> Hi\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "Hi", "--model", "nowhere"], "no model folder at nowhere"),
        (["generate", "Hi", "--model", "someone/something"], "hub cannot be reached"),
        (["generate", "Hi", "--dtype", "int8"], "unknown dtype 'int8'"),
        (["generate", "Hi", "--policy", "magic"], "unknown policy 'magic': choose request-level, fastertransformer, orca"),
        (["generate", "Hi", "--kv", "magic"], "unknown K/V manager"),
        (["generate", "Hi", "--max-tokens", "0"], "max_tokens must be"),
        (["generate", "Hi", "--temperature", "-1"], "temperature must be"),
        (["generate", "Hi", "--temperature", "nan"], "temperature must be"),
        (["generate", " "], "prompt 1 is empty"),
        (["generate"], "standard input holds no prompt"),
        (["generate", "--file", "no-such-file"], "cannot read prompts from no-such-file: No such file"),
        (["generate", "Hi", "--file", "x"], "not both"),
        (["generate", "Hi " * 5000], "the model length of 2048 leaves no room"),
        (["generate", "Hi", "--max-batch-size", "0"], "max_batch_size must be"),
        (["demo", "--policy", "orca,magic"], "unknown policy 'magic'"),
        (["demo", "--prompts-file", "no-such-file"], "cannot read prompts"),
        (["info", "--max-model-len", "9999"], "max_model_len 9999"),
        (["chat", "--model", "nowhere"], "no model folder"),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(arguments: list[str], message: str) -> None:
    done = orcinus(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stdout == ""


def test_weights_that_give_no_numbers_fail_the_request_in_one_line(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from orcinus.tiny import MODEL_DIR

    folder = Path(shutil.copytree(MODEL_DIR, tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = torch.full_like(tensors["model.norm.weight"], torch.nan)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for command in (["generate", "Hi"], ["generate", "Hi", "--json"], ["demo"]):
        done = orcinus(*command, "--model", str(folder))
        assert done.returncode == 1
        assert "its logits are not finite numbers" in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_prompts_that_are_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / "latin1.txt"
    file.write_bytes("Grüße".encode("latin-1"))
    done = orcinus("generate", "--file", str(file))
    assert done.returncode == 1
    assert "is not UTF-8 text (byte 2): save it as UTF-8" in done.stderr


def test_debug_shows_the_traceback_wherever_it_stands() -> None:
    done = orcinus("generate", "Hi", "--model", "nowhere", "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "ModelError" in done.stderr


def test_an_unknown_option_is_a_usage_error() -> None:
    assert orcinus("generate", "Hi", "--no-such-option").returncode == 2


def test_ctrl_c_ends_with_one_line_and_status_130() -> None:
    process = subprocess.Popen(
        [*ORCINUS, "generate", "--raw", "Once upon", "--max-tokens", "2000", "--ignore-eos"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.read(5)  # it has begun to answer
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.decode().strip() == "interrupted"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc to see what a process has loaded")
@pytest.mark.parametrize("library", ["libtorch_cpu", "llvmlite"])
@pytest.mark.parametrize("command", ["generate", "info"])
def test_ctrl_c_while_libraries_load(command: str, library: str) -> None:
    if command == "info" and library == "llvmlite":
        pytest.skip("info compiles nothing")
    process = subprocess.Popen([*ORCINUS, command, *(["Hi"] if command == "generate" else [])], stderr=subprocess.PIPE)
    maps = Path(f"/proc/{process.pid}/maps")
    while library not in maps.read_text():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.decode() == "interrupted\n"


def in_shell(command: str) -> subprocess.CompletedProcess[str]:
    line = command.replace("orcinus", shlex.join(ORCINUS))
    return subprocess.run(line, shell=True, capture_output=True, env=ENVIRONMENT, timeout=120, check=False, text=True)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("orcinus generate Hi > /dev/full", "cannot go on: No space left on device"),
        ("orcinus models > /dev/full", "cannot go on: No space left on device"),
        ("orcinus models >&-", "standard output is closed"),
        ("orcinus generate <&-", "standard input holds no prompt"),
        ("printf 'Gr\\374n' | orcinus chat", "1 of the turns failed"),
        ("orcinus generate $(printf 'Gr\\374n')", "character 2 of the text is no valid Unicode"),
    ],
)
def test_unusable_streams(command: str, message: str) -> None:
    done = in_shell(command)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert all(line.startswith("error: ") for line in done.stderr.splitlines())


def test_a_reader_that_stops_reading_is_no_traceback() -> None:
    done = in_shell("orcinus generate --raw Once --max-tokens 300 --ignore-eos | head -c 10")
    assert done.stderr == ""


def test_chat_reads_turns_from_a_pipe() -> None:
    done = orcinus("chat", "--temperature", "0", stdin="Hi\n/system Be brief.\n/reset\n/what\nHello\n/exit\nnot read\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("tokens/s") == 2
    for note in ("system message set", "the conversation starts anew", "there is no command /what"):
        assert note in done.stdout


def test_chat_forgets_its_oldest_turns_when_the_context_is_full() -> None:
    turns = [f"My name is {name}" for name in ("Anna", "Ben", "Clara", "David", "Emma", "Felix")]
    done = orcinus("chat", "--max-model-len", "100", "--max-tokens", "40", stdin="\n".join([*turns, "word " * 200]))
    assert done.stdout.count("tokens/s") == len(turns)
    assert "forgot 1 of the oldest turns" in done.stdout
    assert done.returncode == 1  # the last message alone is too long
    assert "leaves no room for an answer" in done.stderr


def test_chat_in_a_terminal_ends_with_exit() -> None:
    assert "tokens/s" in in_terminal("chat", columns=80, typed="Hi\n/exit\n")


def test_models_lists_every_architecture() -> None:
    from orcinus.runtime.models import ARCHITECTURES

    done = orcinus("models")
    assert all(name in done.stdout for name in ARCHITECTURES)


def test_info_says_what_and_why() -> None:
    done = orcinus("info", "--max-batch-size", "2", "--kv", "paged")
    assert done.returncode == 0, done.stderr
    for expected in (
        "Qwen3ForCausalLM",
        "float32 (" if "float32 (" in done.stdout else "bfloat16 (",  # which one, and why, depends on the processor
        "paged",
        "256 blocks of 16 = 4096 tokens",
        "room for 2 requests of 2048 tokens",
    ):
        assert expected in done.stdout


PLAIN = ["--policy", "request-level,orca"]


def test_the_demo_as_plain_text_shows_empty_slots_and_refilled_ones() -> None:
    done = orcinus("demo")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    static, orca = (part for part in done.stdout.split("+- ")[1:3])
    assert static.startswith("request-level")
    assert orca.startswith("orca")
    assert "...." in static.split("slot 2")[1].splitlines()[0]
    assert "The answers are the same, token by token." in done.stdout
    for figure in ("iterations", "slot use", "TTFT mean", "TTFT p99", "E2E mean", "output throughput"):
        assert figure in done.stdout


@pytest.mark.parametrize("columns", [60, 160])
def test_the_demo_in_a_terminal(columns: int) -> None:
    output = in_terminal("demo", "--max-tokens", "30", columns=columns)
    assert "slot 2" in output
    assert "\x1b[" in output
    assert "The answers are the same" in output


def test_the_demo_with_other_prompts_and_policies(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("Hi\nHello\nThanks\n")
    done = orcinus(
        "demo",
        "--prompts-file",
        str(file),
        "--policy",
        "request-level:release=each,orca,request-level",
        "--max-batch-size",
        "3",
    )
    assert done.returncode == 0, done.stderr
    assert "3 requests at once, at most 3 in a batch" in done.stdout
    assert "slot 3" in done.stdout


def test_a_record_becomes_a_trace_and_is_replayed(tmp_path: Path) -> None:
    record = tmp_path / "steps.jsonl"
    assert orcinus("generate", "Hi", "What is Orca?", "--max-tokens", "9", "--record", str(record)).returncode == 0
    done = orcinus("trace", str(record))
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "steps.trace.json").read_text())["traceEvents"]) > 20
    assert "The same decisions" in orcinus("replay", str(record)).stdout
    record.write_text(
        record.read_text().replace('"prefix-cache"', '"max-length"').replace('"num_blocks":1024', '"num_blocks":200')
    )
    assert orcinus("replay", str(record)).returncode == 1  # fits one request of the whole length at a time
    assert "is no record" in orcinus("trace", str(tmp_path / "steps.trace.json")).stderr
