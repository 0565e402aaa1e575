"""Other engines behind the protocol: their failures stay theirs, their answers are checked, and the real ones agree with us."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import environments
import geometry
import peers
import pytest
import rows
import run
import system
import table
from driver import Peer, PeerFailed

from orcinus.bench.result import Result, read_result
from orcinus.workload.workload import make_workload

ROOT = Path(__file__).parents[2]
FAKE = Path(__file__).parent / "fake_peer.py"
WORKLOAD = make_workload("all-at-once", "uniform:low=2:high=9,uniform:low=3:high=9", 6)
LOAD = {"op": "load", "model": "", "dtype": "float32", "threads": 1, "max_batch_size": 2, "max_model_len": 64}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Peer]]:
    """A fake peer with a habit."""
    started = []

    def make(habit: str) -> Peer:
        started.append(Peer(habit, [sys.executable, FAKE, habit], os.environ, tmp_path / "log"))
        return started[-1]

    yield make
    for peer in started:
        peer.close()


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, Result]]:
    """`run.py` with fake peers: their names and habits; returns the exit status and the result that was written."""
    monkeypatch.setattr(run, "write_checkpoint", lambda *_: tmp_path)
    monkeypatch.setattr(peers, "FOLDER", tmp_path)

    def go(habits: dict[str, str], *words: str) -> tuple[int, Result]:
        for name, habit in habits.items():
            monkeypatch.setitem(peers.PEERS, name, FakeKind(habit))  # type: ignore[arg-type]
        out = tmp_path / "out.json"
        fixed = ["--geometry", "tiny", "--requests", "6", "--repeats", "3", "--max-batch-size", "2", "--out", str(out)]
        status = run.main(["--peers", ",".join(habits), *fixed, *words])
        return status, read_result(out)

    return go


class FakeKind:
    def __init__(self, habit: str) -> None:
        self.habit = habit

    def command(self, say: Any) -> list[Any]:
        if self.habit == "cannot be installed":
            raise environments.NotInstalled("no wheel for this machine")
        return [sys.executable, FAKE, self.habit]

    quantizes = True

    def variables(self, threads: int) -> dict[str, str]:
        return dict(os.environ)


def loaded(peer: Peer) -> system.PeerSystem:
    peer.ask(LOAD, 30)
    return system.PeerSystem(peer.name, peer, {}, 100, 2)


# One peer


def test_what_libraries_print_never_reaches_the_answers(start: Callable[[str], Peer]) -> None:
    peer = start("prints")
    peer.ask(LOAD, 30)
    assert peer.ask({"op": "run", "prompts": [[5]], "output_tokens": [2]}, 30)["output_ids"] == [[5, 6]]
    assert "library speaking\nso does its C++" in peer.log.read_text()


def test_an_error_is_one_line_and_the_peer_lives_on(start: Callable[[str], Peer]) -> None:
    peer = start("raises")
    peer.ask(LOAD, 30)
    for _ in range(2):
        with pytest.raises(PeerFailed, match="^ValueError: cannot run this$"):
            peer.ask({"op": "run", "prompts": [[5]], "output_tokens": [2]}, 30)


def test_a_peer_that_does_not_answer_in_time_is_ended(start: Callable[[str], Peer]) -> None:
    peer = start("sleeps")
    peer.ask(LOAD, 30)
    with pytest.raises(PeerFailed, match="no answer after 0 s"):
        peer.ask({"op": "run", "prompts": [[5]], "output_tokens": [2]}, 0.2)
    with pytest.raises(PeerFailed, match="ended with status -9"):
        peer.ask(LOAD, 30)


def test_an_answer_of_wrong_length_makes_a_run_invalid_and_says_which(start: Callable[[str], Peer]) -> None:
    short = loaded(start("one token short"))
    repeat = short.measure(WORKLOAD)
    wanted = system.requests_of_round(WORKLOAD, 0, 100)[1].output_tokens
    assert repeat.problems == (f"1 answers of wrong length: request 1 has {wanted - 1} tokens instead of {wanted}",)
    assert [request.outcome for request in repeat.requests].count("wrong length") == 1
    assert not short.outputs, "nothing is compared with them"


def test_missing_answers_are_a_failure(start: Callable[[str], Peer]) -> None:
    assert loaded(start("one answer short")).measure(WORKLOAD).problems == ("failed: 5 answers to 6 requests",)


def test_a_crash_is_said_in_every_later_turn(start: Callable[[str], Peer]) -> None:
    crashing = loaded(start("crashes in its third run"))
    crashing.warm_up(WORKLOAD)
    assert crashing.measure(WORKLOAD, 0).valid
    words = "failed: ended with status 139: Segmentation fault (not really)"
    assert [crashing.measure(WORKLOAD, number).problems for number in (1, 2)] == [(words,), (words,)]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="CPU time of others is read from /proc")
def test_cpu_time_is_counted(start: Callable[[str], Peer]) -> None:
    peer = start("fast")
    peer.ask(LOAD, 30)
    assert 0 < peer.cpu_seconds() < 30, "starting Python takes some"


def test_cpu_seconds_say_how_thrifty_a_peer_is() -> None:
    found = system.cpu_counters(4.0, 0.5, {"seconds": 2.0, "output_ids": [[1, 2, 3], [4]]})
    assert found == {"cores_busy": 2.0, "idle_cpu_seconds": 0.5, "output_tokens_per_cpu_second": 1.0}


# Work


def test_rounds_have_the_same_lengths_and_other_prompts() -> None:
    rounds = [system.requests_of_round(WORKLOAD, number, 32_000) for number in (0, 1, system.WARM_UP_ROUND)]
    sizes = [[(len(each.prompt), each.output_tokens) for each in asked] for asked in rounds]
    assert sizes[0] == sizes[1] == sizes[2]
    assert len({each.prompt for asked in rounds for each in asked}) == 3 * len(rounds[0])


def test_prefixes_are_shared_within_a_round_alone() -> None:
    shared = make_workload("all-at-once", "shared-prefix:prefixes=1:prefix=8:own=2:output=1", 2)
    first, second = (system.requests_of_round(shared, number, 32_000) for number in (0, 1))
    assert first[0].prompt[:8] == first[1].prompt[:8] != second[0].prompt[:8]


def test_agreement_counts_up_to_where_answers_part() -> None:
    found = system.agreement([[1, 2, 3, 4], [5, 6], [7, 8]], [[1, 2, 9, 4], [5, 6], [0, 8]])
    assert found == {"agreement.requests": 1 / 3, "agreement.first_tokens": 2 / 3, "agreement.tokens": 4 / 8}


# All of them


def test_peers_take_turns_and_are_compared(
    fakes: Callable[..., tuple[int, Result]], capsys: pytest.CaptureFixture[str]
) -> None:
    habits = {"vllm": "fast", "orcinus": "plain", "llama.cpp": "other second token"}
    status, result = fakes(habits, "--repeats", "6")
    assert status == 0
    assert [side.name for side in result.sides] == ["orcinus", "vllm", "llama.cpp"], "the others are compared with ours"
    assert [len(side.repeats) for side in result.sides] == [6, 6, 6]
    shares = {side.name: side.repeats[0].counters["agreement.requests"] for side in result.sides}
    assert shares == {"orcinus": 1, "vllm": 1, "llama.cpp": pytest.approx(5 / 6)}
    assert result.versions["vllm"] == "1.0"
    said = capsys.readouterr().out
    assert "vllm is faster than orcinus: 2.00 times its output tokens per second." in said
    assert "llama.cpp is faster" not in said
    fakes(habits)
    said = capsys.readouterr().out
    assert "vllm had 2.00 times the output tokens per second of orcinus, but more repeats are needed" in said


def test_a_peer_that_is_missing_or_fails_stops_no_other(
    fakes: Callable[..., tuple[int, Result]], capsys: pytest.CaptureFixture[str]
) -> None:
    habits = {
        "orcinus": "plain",
        "vllm": "cannot be installed",
        "hf-generate": "does not load",
        "hf-continuous": "one token short",
        "llama.cpp": "crashes in its third run",
    }
    status, result = fakes(habits)
    assert status == 1
    counts = {side.name: [repeat.valid for repeat in side.repeats] for side in result.sides}
    assert counts["orcinus"] == [True] * 3
    assert counts["vllm"] == counts["hf-generate"] == []
    assert counts["hf-continuous"] == [False] * 3
    assert sum(counts["llama.cpp"]) == 1
    said = capsys.readouterr()
    assert "vllm: left out: no wheel for this machine\n" in said.err
    assert "hf-generate was left out: RuntimeError: no such model\n" in said.out
    assert "llama.cpp, repeat 2: failed: ended with status 139" in said.out


def test_ctrl_c_keeps_what_was_measured(
    fakes: Callable[..., tuple[int, Result]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure = system.PeerSystem.measure

    def pressed_in_the_second_round(self: Any, workload: Any, number: int = 0, watch: Any = None) -> Any:
        if number:
            raise KeyboardInterrupt
        return measure(self, workload, number, watch)

    monkeypatch.setattr(system.PeerSystem, "measure", pressed_in_the_second_round)
    status, result = fakes({"orcinus": "plain", "vllm": "fast"})
    assert (status, result.complete) == (130, False)
    assert [len(side.repeats) for side in result.sides] == [1, 1]
    assert "Interrupted: what was measured until then is kept." in capsys.readouterr().err


def test_the_markdown_says_what_where_and_how(fakes: Callable[..., tuple[int, Result]], tmp_path: Path) -> None:
    fakes({"orcinus": "plain", "vllm": "fast"}, "--markdown", str(tmp_path / "table.md"))
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[0].startswith("| engine | output tokens/s |")
    assert lines[2].startswith("| orcinus 1.0 | 1000 (1000 to 1000) | ")
    assert "| 2.00 (2.00 to 2.00) | 100.0% | 100.0% |" in lines[3]
    assert "random tiny in float32; 6 requests (mixed: " in "\n".join(lines)
    assert "max_batch_size 2" in "\n".join(lines)


def test_without_ours_there_is_nothing_to_compare_with(fakes: Callable[..., tuple[int, Result]]) -> None:
    _, result = fakes({"vllm": "fast", "llama.cpp": "plain"})
    assert not any("agreement.requests" in repeat.counters for side in result.sides for repeat in side.repeats)
    assert not [line for line in table.notes(result) if "faster" in line]


def test_requests_longer_than_the_model_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--geometry", "tiny", "--workload", "fixed:tokens=4000,fixed:tokens=100", "--peers", "orcinus"]) == 2
    assert "a request has 4100 tokens and the model takes 4096" in capsys.readouterr().err


def test_unknown_peers_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(["--peers", "orcinus,tgi"])
    assert "unknown peer tgi: choose among orcinus, hf-generate" in capsys.readouterr().err


def test_peers_that_cannot_quantise_are_refused_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(["--quantization", "int4", "--peers", "vllm,orcinus"])
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith("vllm cannot round weights while loading: leave out --quantization, or choose orcinus, llama.cpp")
    )
    assert run.parse(["--quantization", "int8"]).peers == ["orcinus", "llama.cpp"]
    assert run.parse([]).peers == list(peers.PEERS)


def test_quantised_peers_are_asked_for_it(fakes: Callable[..., tuple[int, Result]], capsys: pytest.CaptureFixture[str]) -> None:
    status, result = fakes({"orcinus": "plain", "llama.cpp": "plain"}, "--quantization", "int4")
    assert status == 0
    assert "float32, int4 weights" in str(result.work)
    assert all(side.settings["quantization"] == "int4" for side in result.sides)


# Environments


def test_an_environment_is_made_once_and_again_when_its_requirements_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    monkeypatch.setattr(environments, "HERE", tmp_path)
    steps: list[str] = []
    monkeypatch.setattr(environments.Environment, "run", lambda self, command, say: self.folder.mkdir() or steps.append("venv"))
    monkeypatch.setattr(environments.Environment, "pip", lambda self, arguments, say: steps.append(arguments[0]))
    requirements = tmp_path / "requirements-some.txt"
    for pins in ("a==1", "a==1", "a==2"):
        requirements.write_text(pins)
        environments.Environment("some").make(steps.append)
    assert steps == ["making its environment", "venv", "install"] * 2


@pytest.mark.parametrize(("error", "kept"), [(KeyboardInterrupt(), True), (environments.NotInstalled("disk full"), False)])
def test_an_interrupted_environment_goes_on_and_a_failed_one_begins_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException, kept: bool
) -> None:
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    monkeypatch.setattr(environments, "HERE", tmp_path)
    (tmp_path / "requirements-some.txt").write_text("a==1")
    monkeypatch.setattr(environments.Environment, "run", lambda self, command, say: self.folder.mkdir(exist_ok=True))
    monkeypatch.setattr(environments.Environment, "pip", lambda self, arguments, say: None)

    def half(made: environments.Environment, say: environments.Say) -> None:
        (made.folder / "half").touch()
        raise error

    with pytest.raises(type(error)):
        environments.Environment("some", half).make(print)
    environments.Environment("some").make(print)
    assert (tmp_path / "some" / "half").exists() == kept


def test_a_step_that_fails_says_its_last_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    said: list[str] = []
    code = "print('Collecting torch'); print('noise'); print('disk full'); raise SystemExit(1)"
    with pytest.raises(environments.NotInstalled, match=r"failed: disk full \(all of it in some-install.log\)"):
        environments.Environment("some").run([sys.executable, "-c", code], said.append)
    assert said == ["fetching torch"]


def test_an_interrupted_step_leaves_no_compiler_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its child holds a pipe open, which ends with the last process that could write to it."""
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    os.mkfifo(pipe := tmp_path / "pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    child = f"subprocess.Popen(['sleep', '300'], stdout=open({str(pipe)!r}, 'w'))"
    code = f"import subprocess, time; {child}; print('[1/2] a.o', flush=True); time.sleep(300)"

    def interrupt(said: str) -> None:
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        environments.Environment("some").run([sys.executable, "-c", code], interrupt)
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b""
    os.close(reader)


@pytest.mark.parametrize("name", ["vllm", "llama_cpp"])
def test_requirements_are_pinned_and_need_no_cuda(name: str) -> None:
    text = (ROOT / "benchmarks" / "peers" / f"requirements-{name}.txt").read_text()
    pins = [line for line in text.splitlines() if not line.startswith("#")]
    assert pins
    assert all("==" in pin for pin in pins)
    assert not [pin for pin in pins if "nvidia" in pin or "cuda" in pin]
    assert [pin for pin in pins if pin.startswith("torch==")] in ([], ["torch==2.13.0+cpu"])


# The real thing, as far as the project's own environment goes


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return geometry.write_checkpoint(geometry.GEOMETRIES["tiny"], "float32", tmp_path_factory.mktemp("tiny") / "model")


def test_checkpoints_are_the_same_every_time(tiny: Path, tmp_path: Path) -> None:
    again = geometry.write_checkpoint(geometry.GEOMETRIES["tiny"], "float32", tmp_path / "model")
    assert (again / "model.safetensors").read_bytes() == (tiny / "model.safetensors").read_bytes()


def test_a_checkpoint_is_made_again_only_for_another_geometry(tiny: Path, tmp_path: Path) -> None:
    weights = tmp_path / "model" / "model.safetensors"
    one = geometry.GEOMETRIES["tiny"]
    for wanted, remade in ((one, True), (one, False), (replace(one, num_hidden_layers=1), True)):
        if weights.exists():
            weights.write_bytes(weights.read_bytes()[:100])
        geometry.write_checkpoint(wanted, "float32", tmp_path / "model")
        assert (weights.stat().st_size > 100) is remade


def test_qwen3_has_its_own_numbers() -> None:
    numbers = geometry.GEOMETRIES["qwen3-0.6b"]
    layer = 1024 * 128 * (16 + 8 + 8 + 16) + 3 * 1024 * 3072 + 2 * 1024 + 2 * 128
    assert 28 * layer + 151_936 * 1024 + 1024 == 596_049_920, "as many parameters as the model card says"
    assert (numbers.num_hidden_layers, numbers.hidden_size, numbers.intermediate_size, numbers.vocab_size) == (
        28,
        1024,
        3072,
        151_936,
    )


def test_random_weights_neither_repeat_themselves_nor_leave_the_choice_to_noise(tiny: Path) -> None:
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(tiny).eval()
    prompts = torch.randint(0, 512, (8, 16), generator=torch.Generator().manual_seed(1))
    ends = {"eos_token_id": None, "pad_token_id": 0, "max_new_tokens": 48}
    with torch.inference_mode():
        found = model.generate(prompts, attention_mask=torch.ones_like(prompts), do_sample=False, **ends)
        best = model(found).logits[:, 15:-1].topk(2).values
    assert min(len(set(row[16:].tolist())) for row in found) > 8
    margins = (best[..., 0] - best[..., 1]).flatten()
    assert margins.quantile(0.05) > 1e-3 * best.abs().mean(), "float32 is good for 1e-6"


@pytest.mark.full
def test_orcinus_is_measured_with_integers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "FOLDER", tmp_path)
    monkeypatch.setattr(run, "FOLDER", tmp_path)
    small = [
        "--requests",
        "2",
        "--max-batch-size",
        "2",
        "--repeats",
        "1",
        "--threads",
        "1",
        "--out",
        str(tmp_path / "out.json"),
    ]
    assert run.main(["--peers", "orcinus", "--geometry", "tiny", "--quantization", "int4", *small]) == 0
    assert read_result(tmp_path / "out.json").sides[0].settings["quantization"] == "int4"


@pytest.mark.full
def test_hugging_face_and_orcinus_give_the_same_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "FOLDER", tmp_path)
    monkeypatch.setattr(run, "FOLDER", tmp_path)
    out = tmp_path / "out.json"
    chosen = ["--peers", "hf-generate,hf-continuous,orcinus", "--geometry", "tiny", "--out", str(out)]
    small = ["--requests", "5", "--max-batch-size", "2", "--repeats", "1", "--threads", "1"]
    assert run.main([*chosen, *small]) == 0, [file.read_text() for file in tmp_path.glob("*.log")]
    result = read_result(out)
    assert [side.name for side in result.sides] == ["orcinus", "hf-generate", "hf-continuous"]
    for side in result.sides:
        assert side.repeats[0].counters["agreement.requests"] == 1.0, side.name
    ended = {side.name: [request.ended for request in side.repeats[0].requests] for side in result.sides}
    assert ended["hf-generate"][0] == ended["hf-generate"][1] < ended["hf-generate"][2], "a batch ends together"
    assert json.loads(out.read_text())["kind"] == "peers"


# All rows in one command


def test_rows_of_a_group_share_loaded_peers_and_no_prompts(
    fakes: Callable[..., tuple[int, Result]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They go into the page one after the other, with those that the minutes left no time for."""
    for name, habit in {"orcinus": "plain", "vllm": "fast", "llama.cpp": "plain"}.items():
        monkeypatch.setitem(peers.PEERS, name, FakeKind(habit))  # type: ignore[arg-type]
    one = "--peers orcinus,vllm --workload fixed:tokens=9,fixed:tokens=3 --requests 4"
    other = "--peers orcinus,vllm,llama.cpp --workload fixed:tokens=9,fixed:tokens=4 --requests 3"
    monkeypatch.setattr(rows, "GROUPS", (("--geometry tiny --threads 1", (one, other)),))
    asked: list[tuple[str, str, list[list[int]]]] = []
    ask = Peer.ask

    def listening(self: Peer, message: Any, patience: float) -> Any:
        asked.append((self.name, message["op"], [list(each) for each in message.get("prompts", ())]))
        return ask(self, message, patience)

    monkeypatch.setattr(Peer, "ask", listening)
    page = tmp_path / "peers.md"
    page.write_text("before\n" + "".join(rows.MARKS) + "after\n")
    assert rows.main(["--repeats", "2", "--write", str(page)]) == 0
    assert [name for name, what, _ in asked if what == "load"] == ["orcinus", "vllm", "llama.cpp"]
    seen = [tuple(prompt) for name, _, prompts in asked if name == "orcinus" for prompt in prompts]
    assert len(seen) == len(set(seen)) == 3 * (4 + 3), "a warm-up and two rounds of each row"
    text = page.read_text()
    assert text.startswith("before\n" + rows.MARKS[0])
    assert text.endswith(rows.MARKS[1] + "after\n")
    assert "`--geometry tiny --threads 1 --workload fixed:tokens=9,fixed:tokens=3 --requests 4` | orcinus | 1000 " in text
    assert "|  | vllm | 2000 (2000 to 2000) | **2.00 (2.00 to 2.00)** |" in text
    assert "orcinus is ahead of the best other engine on 0 of 2 rows; in the median its output is 0.50 times" in text
    assert rows.main(["--minutes", "-1", "--only", "tokens=4", "--write", str(page)]) == 1
    assert "Not measured in this run: `--geometry tiny --threads 1 --workload fixed:tokens=9,fixed:tokens=4" not in text


def test_a_page_without_marks_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a text of someone's\n")
    with pytest.raises(SystemExit, match="has no marks"):
        rows.main(["--write", str(page)])
    assert page.read_text() == "a text of someone's\n"
    rows.put(new := tmp_path / "new.md", "a table")
    rows.put(new, "another table")
    assert new.read_text() == "\nanother table\n\n".join(rows.MARKS)


def test_every_row_of_the_page_can_be_asked_for() -> None:
    for group in rows.chosen_rows(""):
        shared = {(row.geometry, row.dtype, row.quantization, row.max_batch_size, row.threads) for row in map(parsed, group)}
        assert len(shared) == 1, "peers are loaded once"
    assert len(rows.chosen_rows("float32")) < len(rows.GROUPS)
    with pytest.raises(SystemExit):
        rows.main(["--only", "no such words"])


def test_an_engine_can_be_left_out_with_the_rows_that_have_no_other() -> None:
    """vLLM's bfloat16 takes minutes for a row on processors without products for it."""
    left = [parsed(row).peers for group in rows.chosen_rows("", "vllm") for row in group]
    assert left, "llama.cpp and transformers have rows"
    assert all("vllm" not in peers and len(peers) > 1 for peers in left)
    assert rows.chosen_rows("", "") == rows.chosen_rows("")
    for wrong in (["--without", "vlm"], ["--without", "orcinus"], ["--without", "vllm", "--only", "decode-only"]):
        with pytest.raises(SystemExit):
            rows.main(wrong)


def parsed(words: str) -> Any:
    return run.parse(words.split())
