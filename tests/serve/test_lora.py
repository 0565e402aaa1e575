"""Adapters in HTTP: models of their own, chosen by the field `model`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transformers as hf
from prometheus_client.parser import text_string_to_metric_families

from orcinus import LLM
from orcinus.tiny import MODEL_DIR
from tests.adapters import save_adapter, updates
from tests.commands import orcinus
from tests.product import part
from tests.serve.conftest import Running
from tests.serve.in_process import refusals, serving_in_process

PROMPT = "Once upon a time"
CHAT = [{"role": "user", "content": PROMPT}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the bundled model that changes what it says."""
    model = hf.AutoModelForCausalLM.from_config(hf.AutoConfig.from_pretrained(MODEL_DIR))
    return save_adapter(tmp_path_factory.mktemp("adapter"), updates(model, 1, size=0.2))


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with serving_in_process("--dtype", "float32", "--lora", f"one={folder}", "--lora", f"two={folder}") as running:
        yield running


def completed(server: Running, **fields: Any) -> Any:
    body = {"prompt": PROMPT, "max_tokens": 8, "temperature": 0, **fields}
    return server.http.post("/v1/completions", json=body).json()


def test_models_are_the_base_and_its_adapters(server: Running) -> None:
    cards = server.http.get("/v1/models").json()["data"]
    base = cards[0]["id"]
    assert [(card["id"], card["parent"]) for card in cards] == [(base, None), ("one", base), ("two", base)]
    assert server.http.get("/v1/models/two").json() == cards[2]


def test_the_field_model_chooses_an_adapter(server: Running) -> None:
    base = server.http.get("/v1/models").json()["data"][0]["id"]
    answers = [completed(server, model=name) for name in (base, "one", "two")]
    assert [answer["model"] for answer in answers] == [base, "one", "two"]
    texts = [answer["choices"][0]["text"] for answer in answers]
    assert texts[0] != texts[1] == texts[2]
    assert completed(server)["choices"][0]["text"] == texts[0]
    chats = [
        server.http.post("/v1/chat/completions", json={"messages": CHAT, "max_tokens": 8, "temperature": 0, "model": name})
        for name in (base, "one")
    ]
    assert chats[0].json()["choices"][0]["message"] != chats[1].json()["choices"][0]["message"]
    assert chats[1].json()["model"] == "one"


def test_metrics_name_the_adapter(server: Running) -> None:
    def counted() -> dict[tuple[str, str], float]:
        families = text_string_to_metric_families(server.http.get("/metrics").text)
        samples = (sample for family in families for sample in family.samples if "adapter" in sample.labels)
        return {(sample.name.removeprefix("orcinus_lora_"), sample.labels["adapter"]): sample.value for sample in samples}

    before = counted()
    assert {adapter for _, adapter in before} == {"one", "two"}, "each has its series before a request names it"
    assert completed(server, model="three")["error"]["code"] == "model_not_found"
    completed(server)
    usage = completed(server, model="one", n=2)["usage"]
    after = counted()
    assert {adapter for _, adapter in after} == {"one", "two"}, "clients make no labels"
    grown = {key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key, 0)}
    assert grown == {
        ("request_success_total", "one"): 2,
        ("prompt_tokens_total", "one"): 2 * usage["prompt_tokens"],
        ("generation_tokens_total", "one"): usage["completion_tokens"],
    }
    assert after["requests_live", "one"] == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": PROMPT}),
        ("/v1/chat/completions", {"messages": CHAT}),
        ("/v1/responses", {"input": PROMPT}),
        ("/v1/messages", {"messages": CHAT, "max_tokens": 4}),
        ("/tokenize", {"prompt": PROMPT}),
    ],
)
def test_an_unknown_adapter_is_an_unknown_model(server: Running, path: str, body: dict[str, Any]) -> None:
    answer = server.http.post(path, json={"model": "three", **body})
    assert answer.status_code == 404
    message = answer.json()["error"]["message"]
    assert "the model 'three' is not served here; this server has" in message
    assert "'one', 'two'" in message


def test_a_merged_adapter_is_the_model(folder: Path, server: Running) -> None:
    with serving_in_process("--dtype", "float32", "--lora", f"one={folder}", "--merge-lora") as merged:
        (card,) = merged.http.get("/v1/models").json()["data"]
        assert (card["id"], card["parent"]) == ("one", None)
        assert completed(merged)["choices"][0]["text"] == completed(server, model="one")["choices"][0]["text"]


def test_names_must_differ_from_the_model_s(folder: Path) -> None:
    line = ("--lora", f"one={folder}", "--served-model-name", "one")
    assert "an adapter has the model's name, one" in refusals(line)[line].stderr


def test_commands_use_the_only_adapter(folder: Path) -> None:
    line = ("generate", "--raw", PROMPT, "--max-tokens", "8", "--dtype", "float32")
    alone, adapted = orcinus(*line), orcinus(*line, "--lora", f"one={folder}")
    assert alone.stdout != adapted.stdout
    assert orcinus(*line, "--lora", f"one={folder}", "--lora", f"two={folder}", "--adapter", "two").stdout == adapted.stdout
    unclear = orcinus(*line, "--lora", f"one={folder}", "--lora", f"two={folder}")
    assert "several adapters are given: say with --adapter which one answers, one or two" in unclear.stderr
    assert (
        "there is no adapter 'three': known are one" in orcinus(*line, "--lora", f"one={folder}", "--adapter", "three").stderr
    )


PAGE = (Path(__file__).parents[2] / "docs" / "lora.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line, comments=True)[1:] for line in PAGE.splitlines() if line.startswith("orcinus ")]


@pytest.fixture
def beside(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders of the page's adapters stand in the working directory."""
    (tmp_path / "adapters").mkdir()
    for name in ("sql", "de"):
        (tmp_path / "adapters" / name).symlink_to(folder)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("beside")
@pytest.mark.parametrize("command", part(COMMANDS[3], full=[one for one in COMMANDS if one != COMMANDS[3]]), ids=" ".join)
def test_every_command_of_the_page_works(command: list[str]) -> None:
    if command[0] == "serve":
        arguments = command[1 : command.index("--port")]
        with serving_in_process(*arguments) as running:
            assert len(running.http.get("/v1/models").json()["data"]) == 3
        return
    done = orcinus(*command, *(["--max-tokens", "8"] if command[0] == "generate" else []))
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.usefixtures("beside")
def test_the_page_s_program_works() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    known: dict[str, Any] = {"LLM": LLM}
    exec(program, known)
    known["llm"].close()
