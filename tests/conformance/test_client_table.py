"""What `python -m tests.clients.run` writes into docs/clients.md, and the proxy that asks for calls."""

from __future__ import annotations

import pytest

from tests.clients.client_list import CLIENTS
from tests.clients.feature_table import BEGIN, END, PAGE, FeatureRow, cells_of, merged, plain
from tests.clients.forced_calls import forced

FOX = FeatureRow("fox", "1.0", {"chat": True, "tools": False}, "2026-11-30")
OWL = FeatureRow("owl", "2.0", {"responses": True}, "2026-11-30")
PAGE_TEXT = f"before\n{BEGIN}\n{END}\nafter\n"
TOOLS = [{"type": "function", "function": {"name": "f"}}]
QUESTION = {"role": "user", "content": "Hi"}


def test_a_row_says_pass_or_fail_of_what_the_client_has_and_nothing_of_the_rest() -> None:
    assert FOX.cells() == ("fox", "1.0", "pass", "–", "FAIL", "–", "–", "–", "–", "2026-11-30")
    assert plain([FOX]).splitlines()[1].split() == list(FOX.cells())


def test_rows_replace_those_of_the_same_client_and_keep_the_others_in_order() -> None:
    once = merged(PAGE_TEXT, [OWL], ["fox", "owl"])
    newer = FeatureRow("owl", "2.1", {"responses": False}, "2026-12-01")
    twice = merged(once, [FOX, newer], ["fox", "owl"])
    assert [cells_of(line) for line in twice.splitlines()[4:6]] == [FOX.cells(), newer.cells()]
    assert twice.startswith("before\n")
    assert twice.endswith("\nafter\n")


def test_rows_of_clients_that_are_gone_leave() -> None:
    assert "owl" not in merged(merged(PAGE_TEXT, [OWL], ["owl"]), [FOX], ["fox"])


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the lines"):
        merged("text", [FOX], ["fox"])


def test_every_row_of_the_page_has_the_version_that_is_pinned() -> None:
    rows = [cells_of(line) for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    tried = {cells[0]: cells[1] for cells in rows if len(cells) == len(FOX.cells())}
    pinned = {client.title: client.version for client in CLIENTS if client.title}
    assert {title: version for title, version in tried.items() if title in pinned} == pinned


@pytest.mark.parametrize(
    ("path", "body", "choice"),
    [
        ("/v1/chat/completions", {"messages": [QUESTION], "tools": TOOLS, "tool_choice": "auto"}, "required"),
        ("/v1/responses", {"input": "Hi", "tools": TOOLS}, "required"),
        ("/v1/messages", {"messages": [QUESTION], "tools": TOOLS}, {"type": "any"}),
        ("/v1/chat/completions", {"messages": [QUESTION]}, None),
        ("/v1/chat/completions", {"messages": [QUESTION, {"role": "tool", "content": "1"}], "tools": TOOLS}, None),
        ("/v1/responses", {"input": [{"type": "function_call_output", "output": "1"}], "tools": TOOLS}, None),
        ("/v1/messages", {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}], "tools": TOOLS}, None),
        ("/v1/messages/count_tokens", {"messages": [QUESTION], "tools": TOOLS}, None),
    ],
)
def test_a_call_is_asked_for_where_there_are_tools_and_no_results(path: str, body: dict[str, object], choice: object) -> None:
    assert forced(path, body).get("tool_choice") == choice
