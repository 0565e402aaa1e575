"""The command line: output, exit status, and errors of one line. `test_cli_process` has what only a process shows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from orcinus.gguf_file import TYPES
from orcinus.runtime.quant_methods import QUANT_METHODS
from orcinus.runtime.quantized_weights import QUANTIZED_WEIGHTS
from orcinus.runtime.weight_formats import GRIDS
from orcinus.tiny import MODEL_DIR
from tests.commands import orcinus

ENGINES = ["generate", "chat", "demo", "info", "plan"]
COMMANDS = ["generate", "chat", "demo", "models", "info", "plan", "trace", "replay"]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_says_what_a_command_is_for(command: str) -> None:
    done = orcinus(*([command] if command else []), "--help")
    assert done.returncode == 0
    assert len(done.stdout) > 200
    for name in COMMANDS if not command else ["--model", "--policy"] if command in ENGINES else []:
        assert name in done.stdout


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
    """`test_cli_process` repeats one in another process, where nothing is left of the first run."""
    command = "generate", "--raw", "Once", "--temperature", "1", "--max-tokens", "30", "--seed"
    text = orcinus(*command, "1").stdout
    assert text == orcinus(*command, "1").stdout != orcinus(*command, "2").stdout


def test_prompts_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\ufeffHi\nHello\n", encoding="utf-8")
    done = orcinus("generate", "--file", str(file), "--max-tokens", "4")
    assert done.stdout.startswith("> Hi\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "Hi", "--model", "nowhere"], "no model folder at nowhere"),
        (["generate", "Hi", "--model", "someone/something"], "HF_HUB_OFFLINE forbids downloads"),
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--port", "99999"], "'--port'"),
        (["sweep", "--seeds", "1.5"], "'--seeds'"),
        (["generate", "Hi", "--no-such-option"], "No such option: --no-such-option: see orcinus generate --help"),
        (["no-such-command"], "No such command 'no-such-command': see orcinus --help"),
        (["replay"], "see orcinus replay --help"),
    ],
)
def test_a_usage_error_is_one_line_with_status_2(arguments: list[str], message: str) -> None:
    done = orcinus(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("group", [[], ["bench"]])
def test_a_command_without_arguments_shows_its_help(group: list[str]) -> None:
    done = orcinus(*group)
    assert (done.returncode, done.stderr) == (2, "")
    assert "Usage: orcinus" in done.stdout


def test_weights_that_give_no_numbers_fail_the_request_in_one_line(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from orcinus.tiny import MODEL_DIR

    folder = Path(shutil.copytree(MODEL_DIR, tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = torch.full_like(tensors["model.norm.weight"], torch.nan)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for command in (["generate", "Hi"], ["generate", "Hi", "--json"], ["demo", "--repeats", "1"]):
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


def test_chat_reads_turns_from_a_pipe() -> None:
    done = orcinus("chat", "--temperature", "0", stdin="Hi\n/system Be brief.\n/reset\n/what\nHello\n/exit\nnot read\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("tokens/s") == 2
    for note in ("system message set", "the conversation starts anew", "unknown command /what"):
        assert note in done.stdout


def test_chat_forgets_its_oldest_turns_when_the_context_is_full() -> None:
    turns = [f"My name is {name}" for name in ("Anna", "Ben", "Clara", "David", "Emma", "Felix")]
    done = orcinus("chat", "--max-model-len", "100", "--max-tokens", "40", stdin="\n".join([*turns, "word " * 200]))
    assert done.stdout.count("tokens/s") == len(turns)
    assert "forgot 1 of the oldest turns" in done.stdout
    assert done.returncode == 1  # the last message alone is too long
    assert "leaves no room for an answer" in done.stderr


def test_models_lists_every_architecture() -> None:
    from orcinus.runtime.models import ARCHITECTURES

    done = orcinus("models")
    assert all(name in done.stdout for name in ARCHITECTURES)


def test_models_says_what_becomes_of_every_format() -> None:
    told = json.loads(orcinus("models", "--json").stdout)
    formats = {(each["source"], each["name"]): each for each in told["formats"]}
    assert {name for source, name in formats if source == "safetensors"} >= {"F32", "F16", "BF16"}
    assert {name for source, name in formats if source == "GGUF"} == {kind.name for kind in TYPES.values()}
    assert {name for source, name in formats if source == "--quantization"} == set(QUANTIZED_WEIGHTS)
    assert {name for source, name in formats if source == "quantised safetensors"} == set(GRIDS)
    assert formats["GGUF", "Q4_K"]["bits"] == 4.5
    assert formats["GGUF", "Q4_K"]["served"].startswith("kept in 5.0 bits")
    assert next(each for each in told["architectures"] if each["name"] == "Qwen3ForCausalLM")["gguf"] == ["qwen3"]
    assert set(told["quant_methods"]) == set(QUANT_METHODS)
    refused = orcinus("models", "--measure", "--local")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)


@pytest.mark.full
def test_models_measures_every_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "orcinus.runtime.weight_formats.MEASURED", 2**16
    )  # 4 outputs in float32, as many with more bytes as fit
    monkeypatch.setattr("orcinus.runtime.weight_formats.best_seconds", lambda work: work().item() * 0 + 4 * 4096 * 1e-9)
    told = json.loads(orcinus("models", "--measure", "--json").stdout)
    formats = {(each["source"], each["name"]): each for each in told["formats"]}
    assert formats["safetensors", "F32"]["decode_ms_per_billion_weights"] == pytest.approx(1000)  # a nanosecond each
    shown = orcinus("models", "--measure").stdout
    assert all(name in shown for name in QUANT_METHODS)
    assert "1000 ms" in shown
    assert "Q4_K" in shown


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
    done = orcinus("demo", "--repeats", "1", "--max-tokens", "20")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    static, orca = (part for part in done.stdout.split("+- ")[1:3])
    assert static.startswith("request-level")
    assert orca.startswith("orca")
    assert "...." in static.split("slot 2")[1].splitlines()[0]
    assert "The answers are the same, token by token." in done.stdout
    for figure in ("iterations", "slot use", "TTFT mean", "TTFT p99", "TBT p99", "TBT max", "E2E mean", "output throughput"):
        assert figure in done.stdout
    table = done.stdout.split("iterations ")[-1]
    assert "x)" in table.splitlines()[0], "what is counted is no noise"
    assert "x)" not in "".join(table.splitlines()[2:])
    assert "One round: to tell a difference from noise takes --repeats 7." in done.stdout


@pytest.mark.full
def test_the_demo_with_the_shipped_long_prompt() -> None:
    """The long prompt runs whole beside decodes with orca, and in pieces of the budget with stall-free."""
    words = ("--prompts-file", "long-prompt", "--max-tokens", "24", "--max-batch-size", "4", "--repeats", "2")
    done = orcinus("demo", *words, "--policy", "orca,stall-free:token_budget=64", "--kv", "prefix-cache")
    assert done.returncode == 0, done.stderr
    assert "6 requests at once, at most 4 in a batch" in done.stdout
    assert "E Read this diary of a small harbour and" in done.stdout
    assert all(len(line) < 200 for line in done.stdout.splitlines()), "a long prompt is shown by its beginning"
    whole, pieces = (part.split("= ")[0] for part in done.stdout.split("+- ")[1:3])
    assert "Ee" in whole
    assert "EE" not in whole
    assert "E" * (1200 // 64) in pieces, "the second policy finds nothing that the first one left in the prefix cache"
    assert "Medians of 2 rounds in turn: to tell a difference from noise takes --repeats 7." in done.stdout


@pytest.mark.full
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
        "--repeats",
        "1",
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


@pytest.mark.parametrize("command", [("generate", "Hi"), ("chat",), ("demo",)])
def test_a_model_without_a_tokenizer_is_refused_before_it_is_loaded(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODEL_DIR, folder, ignore=shutil.ignore_patterns("tokenizer*"))
    monkeypatch.setattr("orcinus.llm.LLM.from_config", lambda config: pytest.fail("it was loaded"))
    done = orcinus(*command, "--model", str(folder))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: the model in {folder} has no tokenizer: it takes token ids, from Python alone\n"
