"""What is found out about a server before it is measured, and how it is said that it cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from orcinus.bench.client.bodies import Form
from orcinus.bench.client.probe import find_card, find_revision, meet
from orcinus.bench.client.prompts import Ids, Words
from orcinus.bench.client.target import OPTIONAL, Target
from orcinus.bench.client.words import WORDS
from orcinus.bench.config import EndpointConfig
from orcinus.bench.server import ServerSystem
from orcinus.errors import ConfigError
from tests.bench.client.fake import Fake, Request, fake, run, token, usage


def asked(answer: Any, question: Any) -> Any:
    """What `question(url)` finds out about a server that answers so."""

    async def test() -> Any:
        async with fake(answer) as server:
            return await question(server.url)

    return run(test())


def model_of(*names: str, status: str = "200 OK") -> str:
    async def answer(request: Request) -> None:
        assert request.line == "GET /v1/models HTTP/1.1"
        await request.whole(status, {"data": [{"id": name, "object": "model"} for name in names]})

    found: str = asked(answer, lambda url: find_card(Target(url))).id
    return found


def test_the_only_model_is_found() -> None:
    assert model_of("m") == "m"


@pytest.mark.parametrize(
    ("names", "status", "message"),
    [
        ((), "200 OK", "has 0 models; name one with --model"),
        (("a", "b"), "200 OK", "has 2 models: a, b; name one with --model"),
        (tuple("abcdefghijkl"), "200 OK", "has 12 models: a, b, c, d, e, f, g, h, i, j, …; name one"),
        ((), "404 Not Found", r"does not say which models it has \(status 404.*\): name one with --model"),
    ],
)
def test_without_exactly_one_model_one_must_be_named(names: tuple[str, ...], status: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_of(*names, status=status)


@pytest.mark.parametrize("body", ["<html>", "[]", '{"data": [{"name": "m"}]}'])
def test_lists_that_cannot_be_read(body: str) -> None:
    async def answer(request: Request) -> None:
        await request.whole("200 OK", body)

    with pytest.raises(ConfigError, match="cannot be read.*name one with --model"):
        asked(answer, lambda url: find_card(Target(url)))


def test_no_server_is_there() -> None:
    async def test() -> None:
        async with fake(refuse) as server:
            url = server.url
        with pytest.raises(ConfigError, match=f"{url} does not say which models it has: cannot connect"):
            await find_card(Target(url))
        with pytest.raises(ConfigError, match=f"{url} cannot be measured: cannot connect"):
            await meet(Target(url, "m"))

    run(test())


async def refuse(request: Request) -> None:
    await request.whole("400 Bad Request", {"error": {"message": f"no {sorted(request.body)}"}})


def fields_of(body: dict[str, Any]) -> set[str]:
    return (body.keys() | body.get("stream_options", {}).keys()) & set(OPTIONAL)


def strict(*unknown: str, ids: bool = True, status: str = "422 Unprocessable Entity") -> Any:
    """A server that refuses these fields."""

    async def answer(request: Request) -> None:
        if fields_of(request.body) & set(unknown):
            await request.whole(status, {"error": {"message": "extra fields not permitted"}})
            return
        await request.head()
        for number in (1, 2):
            await request.frame(token(number, last=number == 2, ids=ids and "return_token_ids" in request.body))
        if "include_usage" in fields_of(request.body):
            await request.frame({"choices": [], "usage": usage(2, 2)})
        await request.end()

    return answer


def met(answer: Any, **fields: Any) -> Form:
    found: Form = asked(answer, lambda url: meet(Target(url, "m", **fields)))
    return found


def test_a_server_that_takes_everything_is_asked_once() -> None:
    async def test() -> tuple[Form, Fake]:
        async with fake(strict()) as server:
            return await meet(Target(server.url, "m")), server

    form, server = run(test())
    assert (form.dialect.unused, form.counted, form.prompts) == ((), "token ids", Ids())
    assert len(server.requests) == 1
    assert server.requests[0].body["max_tokens"] == server.requests[0].body["min_tokens"] == 2


@pytest.mark.parametrize(
    ("status", "name", "revision"), [("200 OK", "m", "0123abc"), ("200 OK", "other", None), ("404 Not Found", "m", None)]
)
def test_the_commit_of_a_named_model_is_asked_for(status: str, name: str, revision: str | None) -> None:
    async def answer(request: Request) -> None:
        await request.whole(status, {"data": [{"id": "a", "revision": None}, {"id": name, "revision": "0123abc"}]})

    assert asked(answer, lambda url: find_revision(Target(url, "m"))) == revision


@pytest.mark.parametrize("revision", ["0123abc", None])
def test_the_commit_of_a_model_is_kept_if_the_server_tells_it(revision: str | None) -> None:
    serves = strict()

    async def answer(request: Request) -> None:
        if request.line.startswith("GET"):
            await request.whole("200 OK", {"data": [{"id": "m", "revision": revision}]})
        else:
            await serves(request)

    form: Form = asked(answer, lambda url: meet(Target(url)))
    assert (form.target.model, form.revision) == ("m", revision)
    assert ServerSystem("m", form, EndpointConfig(url=form.target.url)).settings["revision"] == revision


@pytest.mark.parametrize("unknown", [*((name,) for name in OPTIONAL), OPTIONAL, ("return_token_ids", "ignore_eos")])
@pytest.mark.parametrize("status", ["400 Bad Request", "422 Unprocessable Entity"])
def test_only_what_a_server_refuses_is_left_out(unknown: tuple[str, ...], status: str) -> None:
    form = met(strict(*unknown, status=status))
    assert set(form.dialect.unused) == set(unknown)


def test_how_tokens_will_be_counted_is_known_before() -> None:
    assert met(strict("return_token_ids")).counted == "final usage"
    assert met(strict("return_token_ids", "include_usage")).counted == "nothing"


def test_a_server_that_gives_no_ids_when_asked_is_believed_in_what_it_gives() -> None:
    assert met(strict(ids=False)).counted == "final usage"


def test_fields_of_exact_lengths_are_not_probed_without_need() -> None:
    async def question(url: str) -> Form:
        return await meet(Target(url, "m"), exact_lengths=False)

    assert asked(strict("ignore_eos", "min_tokens"), question).dialect.unused == ()


def says(status: str, message: str = "reason", **headers: str) -> Any:
    async def answer(request: Request) -> None:
        await request.whole(status, {"error": {"message": message}}, **headers)

    return answer


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("400 Bad Request", "refuses the smallest request: status 400: reason"),
        ("401 Unauthorized", "wants another API key: status 401: reason"),
        ("404 Not Found", "cannot be measured: status 404: reason"),
        ("500 Internal Server Error", "cannot be measured: status 500: reason"),
        ("503 Service Unavailable", "is busy or not ready: status 503: reason; try again later"),
    ],
)
def test_servers_that_cannot_be_measured(status: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        met(says(status))


def test_what_is_no_server_of_models() -> None:
    async def answer(request: Request) -> None:
        await request.whole("200 OK", "<html>hello</html>", content_type="text/html")

    with pytest.raises(ConfigError, match="cannot be measured: an answer of text/html that is no stream"):
        met(answer)


def counting(around: int, each: int) -> Any:
    """A server whose tokenizer makes `each` tokens of a word, and whose chats have `around` more."""

    async def answer(request: Request) -> None:
        text = request.body.get("prompt") or request.body["messages"][0]["content"]
        await request.head()
        await request.frame({"choices": [{"delta": {"content": "a"}}], "usage": usage(around + each * len(text.split()), 1)})
        await request.end()

    return answer


@pytest.mark.parametrize(("around", "each"), [(0, 1), (11, 1), (25, 3)])
@pytest.mark.parametrize("fields", [{"api": "chat"}, {"prompts": "text"}])
def test_words_are_calibrated(around: int, each: int, fields: dict[str, Any]) -> None:
    assert met(counting(around, each), **fields).prompts == Words(around, each)


def test_without_counts_a_word_is_a_token() -> None:
    assert met(strict("include_usage"), prompts="text").prompts == Words(0, 1)


def test_every_word_takes_part_in_the_calibration() -> None:
    """So that the mean is that of the words which prompts are drawn from."""
    seen = []

    async def answer(request: Request) -> None:
        seen.append(request.body["prompt"])
        await counting(0, 1)(request)

    met(answer, prompts="text")
    assert seen[-1].split() == list(WORDS)
