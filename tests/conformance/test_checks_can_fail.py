"""A check that cannot fail is no check: servers that are wrong on purpose, and the command's status."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from orcinus.conformance.checklist import FAIL, PASS, SKIP, chosen, run
from orcinus.conformance.registry import CHECKS, Check
from orcinus.conformance.target import ServerUnderTest
from tests.commands import orcinus
from tests.conformance.wrong_server import CARD, Json, answering, whole, yes_to_everything


def outcome(name: str, respond: Callable[[str, str, Json], tuple[int, Any]]) -> tuple[str, str]:
    with answering(respond) as url:
        target = ServerUnderTest(url)
        result = run(CHECKS[name], target)
        target.close()
    return result.outcome, result.why


def test_a_server_that_takes_everything_fails_every_row_of_the_error_table() -> None:
    with answering(yes_to_everything) as url:
        target = ServerUnderTest(url)
        results = [run(one, target) for one in chosen("^(errors|bodies|unsupported):")]
        target.close()
    assert len(results) > 150
    assert [result.name for result in results if result.outcome != FAIL] == []


REFUSAL = {"message": "no", "type": "invalid_request_error", "param": "temperature", "code": "invalid_value"}
TABLE = "errors: temperature -1 is 400"


@pytest.mark.parametrize(
    ("status", "error", "why"),
    [
        (400, {"error": REFUSAL}, ""),
        (422, {"error": REFUSAL}, "status 422, not 400"),
        (400, {"detail": "no"}, "OpenAI's form"),
        (400, {"error": {name: REFUSAL[name] for name in ("message", "type", "code")}}, "no param"),
        (400, {"error": REFUSAL | {"param": "top_p"}}, "param is 'top_p'"),
        (400, {"error": REFUSAL | {"type": "oops"}}, "type is 'oops'"),
        (400, {"error": REFUSAL | {"message": "in /usr/lib/x.py line 3"}}, "shows the inside"),
        (400, {"error": REFUSAL | {"message": ""}}, "no message"),
    ],
)
def test_an_error_must_have_its_shape(status: int, error: Json, why: str) -> None:
    def respond(method: str, path: str, body: Json) -> tuple[int, Any]:
        return (status, error) if body.get("temperature") == -1 else yes_to_everything(method, path, body)

    found, said = outcome(TABLE, respond)
    assert found == (FAIL if why else PASS), said
    assert why in said


def test_a_server_must_answer_as_before_after_an_error() -> None:
    harmed = False

    def respond(method: str, path: str, body: Json) -> tuple[int, Any]:
        nonlocal harmed
        if body.get("temperature") == -1:
            harmed = True
            return 400, {"error": REFUSAL}
        if harmed and path == "/v1/chat/completions":
            return 200, json.loads(json.dumps(whole(path)).replace("Hello", "Hullo"))
        return yes_to_everything(method, path, body)

    found, why = outcome(TABLE, respond)
    assert found == FAIL
    assert "control text" in why


def _without_done(found: list[Any]) -> list[Any]:
    return found[:-1]


def _twice_finished(found: list[Any]) -> list[Any]:
    return [found[1], *found[1:]]


def _role_first(found: list[Any]) -> list[Any]:
    first = json.loads(json.dumps(found[0]))
    first["choices"][0]["delta"] = {"role": "assistant", "content": ""}
    return [first, *found]


def _renamed(found: list[Any]) -> list[Any]:
    return [found[0] | {"id": "x-2"}, *found[1:]]


def _other_text(found: list[Any]) -> list[Any]:
    return [found[0], *found]


def _usage_everywhere(found: list[Any]) -> list[Any]:
    return [found[0] | {"usage": {"completion_tokens": 1}}, *found[1:]]


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("streaming: nothing follows [DONE]", _without_done),
        ("streaming: one finish reason, in the last frame with choices", _twice_finished),
        ("streaming: the role comes with the first token", _role_first),
        ("streaming: frames of one answer agree on id, object, created and model", _renamed),
        ("streaming: the text is that of the whole: a chat", _other_text),
        ("streaming: include_usage adds one last frame without choices", _usage_everywhere),
        ("streaming: usage comes only if asked for", _usage_everywhere),
    ],
)
def test_a_stream_must_keep_the_rules(name: str, spoil: Callable[[list[Any]], list[Any]]) -> None:
    def respond(method: str, path: str, body: Json) -> tuple[int, Any]:
        status, found = yes_to_everything(method, path, body)
        return status, spoil(found) if spoiled and isinstance(found, list) else found

    spoiled = False
    assert outcome(name, respond) == (PASS, "")
    spoiled = True
    assert outcome(name, respond)[0] == FAIL


@pytest.mark.parametrize("key", ["secret", None])
def test_keys_are_asked_for_or_every_check_of_them_fails(key: str | None) -> None:
    with answering(yes_to_everything, key) as url:
        target = ServerUnderTest(url, "secret")
        outcomes = {one.name: run(one, target).outcome for one in chosen("^keys:")}
        target.close()
    assert outcomes.pop("keys: an empty one does no harm to a server without keys") == SKIP
    open_to_all = {"keys: /health needs none", "keys: the right one is taken"}
    assert outcomes == {name: PASS if key or name in open_to_all else FAIL for name in outcomes}


def test_checks_of_orcinus_alone_are_skipped_elsewhere() -> None:
    def respond(method: str, path: str, body: Json) -> tuple[int, Any]:
        if path == "/v1/models":
            return 200, {"object": "list", "data": [CARD | {"owned_by": "someone"}]}
        return 500, {}

    with answering(respond) as url:
        target = ServerUnderTest(url)
        results = [run(one, target) for one in chosen() if one.ours]
        target.close()
    assert {result.outcome for result in results} == {SKIP}
    assert {result.why for result in results} == {"the server is not Orcinus"}


def test_an_answer_of_any_shape_is_a_failure_and_no_crash() -> None:
    def respond(method: str, path: str, body: Json) -> tuple[int, Any]:
        return 200, {"object": "list", "data": [CARD]} if path == "/v1/models" else "hm"

    with answering(respond) as url:
        target = ServerUnderTest(url)
        results = [run(one, target) for one in chosen("^(fields|logprobs|usage|streaming|clients):")]
        target.close()
    assert [result.name for result in results if result.outcome == PASS] == []


def test_names_are_in_plain_order() -> None:
    names = [one.name for one in chosen()]
    assert len(names) == len(set(names)) > 300
    assert names[0].startswith("models:")
    assert all(isinstance(one, Check) for one in chosen("hang-ups"))


def test_the_command_says_what_failed_and_its_status_is_1() -> None:
    with answering(yes_to_everything) as url:
        passed = orcinus("conformance", "--url", url, "--only", "models: a list")
        failed = orcinus("conformance", "--url", f"{url}/v1/", "--only", "models: ", "--json")
    assert passed.returncode == 0, passed.stderr
    assert "pass  models: a list with the model in it" in passed.stdout
    assert "1 passed, 0 failed, 0 skipped" in passed.stdout
    assert failed.returncode == 1
    results = [json.loads(line) for line in failed.stdout.splitlines()]
    assert [result["outcome"] for result in results] == ["pass", "fail", "fail"]
    assert all(result["why"] for result in results[1:])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--url", "http://127.0.0.1:9", "--only", "models"], "cannot reach http://127.0.0.1:9"),
        (["--url", "nonsense"], "'nonsense' is no URL of a server"),
        (["--only", "("], "is not a regular expression"),
        (["--only", "no such thing"], "no check has a name"),
    ],
)
def test_what_cannot_be_checked_is_one_line(arguments: list[str], said: str) -> None:
    done = orcinus("conformance", *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_server_that_is_loading_is_not_ready() -> None:
    with answering(lambda *_: (503, {"error": {"message": "the model is loading"}})) as url:
        done = orcinus("conformance", "--url", url)
    assert done.returncode == 1
    assert f"cannot reach {url}: it is not ready and answers 503: " in done.stderr
    assert "the model is loading" in done.stderr
    assert len(done.stderr.splitlines()) == 1
