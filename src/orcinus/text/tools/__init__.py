"""Forms in which open models write tool calls, parsed and enforced."""

from __future__ import annotations

from orcinus.text.tools.hermes import Hermes
from orcinus.text.tools.llama3_json import Llama3Json
from orcinus.text.tools.mistral import Mistral
from orcinus.text.tools.pythonic import Pythonic
from orcinus.text.tools.qwen3_coder import Qwen3Coder
from orcinus.text.tools.tool_call import ToolForm

FORMS: dict[str, ToolForm] = {form.name: form for form in (Hermes(), Qwen3Coder(), Llama3Json(), Mistral(), Pythonic())}
