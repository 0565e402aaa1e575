"""What a chat template is given of a conversation: tools, efforts, calls and results."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from orcinus.serve.chat_encoder import chat_encoder
from orcinus.serve.schema import ChatBody
from orcinus.text.tokenizer import Tokenizer, load_tokenizer
from orcinus.tiny import MODEL_DIR

HI = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
SHOWS_TOOLS = (
    "{% for tool in tools or [] %}[{{ tool.function.name }}]{% endfor %}{% for m in messages %}{{ m.role }}{% endfor %}"
)
SHOWS_EFFORT = "{{ reasoning_effort if reasoning_effort is defined else 'usual' }} {{ enable_thinking }}"
SWITCH_ONLY = "{{ 'thinks' if enable_thinking is not defined or enable_thinking else 'does not' }}"


@pytest.fixture
def tokenizer(tmp_path: Path, request: pytest.FixtureRequest) -> Tokenizer:
    """The bundled tokenizer with another template."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL_DIR / name, folder)
    (folder / "chat_template.jinja").write_text(request.param)
    found = load_tokenizer(folder)
    assert found is not None
    return found


def rendered(tokenizer: Tokenizer, **fields: Any) -> str:
    body = ChatBody.model_validate({"messages": HI} | fields)
    return tokenizer.decode(chat_encoder(body)(tokenizer, 1000))


@pytest.mark.parametrize("tokenizer", [SHOWS_TOOLS], indirect=True)
def test_a_template_that_knows_tools_gets_them_unless_they_may_not_be_called(tokenizer: Tokenizer) -> None:
    assert rendered(tokenizer, tools=[TOOL]) == "[look]user"
    assert rendered(tokenizer, tools=[TOOL], tool_choice="required") == "[look]user"
    assert rendered(tokenizer, tools=[TOOL], tool_choice="none") == "user"
    result = [*HI, {"role": "tool", "content": "x"}]
    assert rendered(tokenizer, messages=result) == "usertool"


@pytest.mark.parametrize("tokenizer", ["{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}"], indirect=True)
def test_a_template_that_knows_none_gets_texts(tokenizer: Tokenizer) -> None:
    text = rendered(tokenizer, tools=[TOOL])
    assert text.startswith("system: ")
    assert '"name": "look"' in text
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    history = [*HI, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": "fog"}]
    text = rendered(tokenizer, messages=history)
    assert "system" not in text
    assert '"name": "look"' in text
    assert "fog" in text


@pytest.mark.parametrize("tokenizer", [SHOWS_EFFORT], indirect=True)
def test_an_effort_is_a_variable_of_the_template(tokenizer: Tokenizer) -> None:
    assert rendered(tokenizer) == "usual "
    assert rendered(tokenizer, reasoning_effort="low") == "low "
    assert rendered(tokenizer, reasoning_effort="none") == "none False"
    assert rendered(tokenizer, reasoning_effort="none", chat_template_kwargs={"enable_thinking": True}) == "none True"


@pytest.mark.parametrize("tokenizer", [SWITCH_ONLY], indirect=True)
def test_no_effort_is_no_thinking_where_there_is_only_a_switch(tokenizer: Tokenizer) -> None:
    assert rendered(tokenizer, reasoning_effort="high") == "thinks"
    assert rendered(tokenizer, reasoning_effort="none") == "does not"
