"""llm: the command and the library, with models in extra-openai-models.yaml, over chats and responses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from report import BASE, CALLING_URL, MODEL, brace_bias, check, leave

HOME = tempfile.TemporaryDirectory()
os.environ["LLM_USER_PATH"] = HOME.name
COMMON = {"model_name": MODEL, "supports_tools": True, "supports_schema": True}
CALLING = f"{CALLING_URL}/v1"  # llm has no option for tool_choice
MODELS = [
    COMMON | {"model_id": "orcinus", "api_base": BASE},
    COMMON | {"model_id": "orcinus-responses", "api_base": BASE, "responses": True},
    COMMON | {"model_id": "orcinus-calling", "api_base": CALLING},
    COMMON | {"model_id": "orcinus-responses-calling", "api_base": CALLING, "responses": True},
]
Path(HOME.name, "extra-openai-models.yaml").write_text(json.dumps(MODELS), encoding="utf-8")  # JSON is YAML

import llm  # noqa: E402

CITIES = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}


def command(*arguments: str) -> str:
    """What `llm` prints."""
    line = [sys.executable, "-m", "llm", *arguments]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stderr[-300:]
    return done.stdout.strip()


@check("llm PROMPT", "chat")
def chat() -> None:
    assert command("-m", "orcinus", "-o", "temperature", "0", "--no-stream", "-s", "Be brief.", "Hi")


@check("the library: a conversation with counts", "chat")
def conversation() -> None:
    talk = llm.get_model("orcinus").conversation()
    first = talk.prompt("Hi", stream=False, temperature=0, max_tokens=20)
    assert first.text()
    assert first.usage().output > 0
    second = talk.prompt("Tell me more.", stream=False, temperature=0, max_tokens=20)
    assert second.usage().input > first.usage().input


@check("a streamed answer says the same", "stream")
def streamed() -> None:
    model = llm.get_model("orcinus")
    pieces = list(model.prompt("Hi", stream=True, temperature=0))
    assert len(pieces) > 1
    assert "".join(pieces) == model.prompt("Hi", stream=False, temperature=0).text()


def called(model_id: str, stream: bool) -> list[dict[str, str]]:
    """The tools that a chain of prompts called, and what it said they returned."""
    asked: list[dict[str, str]] = []

    def weather(city: str) -> str:
        """The weather of a city."""
        asked.append({"city": city})
        return "Sunny."

    tool = llm.Tool("weather", "The weather of a city.", CITIES, implementation=weather)
    chain = llm.get_model(model_id).chain("Hi", tools=[tool], stream=stream, options={"max_tokens": 60, "temperature": 0})
    chain.text()
    results = [result.output for response in chain.responses() for result in response.prompt.tool_results]
    assert results
    assert set(results) == {"Sunny."}
    return asked


@check("a chain calls a function and sends its result, whole and streamed", "tools")
def tools() -> None:
    assert called("orcinus-calling", stream=False) == called("orcinus-calling", stream=True)


@check("a schema on the command line and in the library", "json schema")
def schema() -> None:
    told = command("-m", "orcinus", "--schema", json.dumps(CITIES), "Hi")
    assert json.loads(told)["city"] in ("Paris", "Rome")
    assert json.loads(llm.get_model("orcinus").prompt("Hi", schema=CITIES).text())["city"] in ("Paris", "Rome")


@check("-o json_object", "json object")
def json_object() -> None:
    bias = json.dumps(brace_bias())
    assert json.loads(command("-m", "orcinus", "-o", "json_object", "1", "-o", "logit_bias", bias, "Answer in JSON.")) == {}


@check("responses: whole and streamed", "responses")
def responses() -> None:
    model = llm.get_model("orcinus-responses")
    whole = model.prompt("Hi", stream=False, temperature=0).text()
    assert whole
    assert "".join(model.prompt("Hi", stream=True, temperature=0)) == whole


@check("responses: a chain with a function, and a schema", "responses")
def response_tools() -> None:
    assert called("orcinus-responses-calling", stream=False) == called("orcinus-responses-calling", stream=True)
    text = llm.get_model("orcinus-responses").prompt("Hi", schema=CITIES).text()
    assert json.loads(text)["city"] in ("Paris", "Rome")


HOME.cleanup()
leave()
