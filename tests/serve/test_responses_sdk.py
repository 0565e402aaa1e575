"""openai-python against `/v1/responses`: the calls that applications make."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from openai.types.responses import ResponseOutputMessage

from tests.serve.conftest import Running

MODEL = "orcinus-tiny"
STORY = "Tell me a story about a fox."


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_create_and_stream(client: openai.OpenAI) -> None:
    whole = client.responses.create(model=MODEL, input=STORY, temperature=0, max_output_tokens=20)
    with client.responses.stream(model=MODEL, input=STORY, temperature=0, max_output_tokens=20) as stream:
        events = list(stream)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == whole.output_text
    final = events[-1]
    assert final.type == "response.incomplete"
    assert final.response.output_text == text
    assert whole.usage is not None
    assert final.response.usage is not None
    assert final.response.usage.output_tokens == whole.usage.output_tokens == 20
    assert whole.usage.output_tokens_details.reasoning_tokens == 0


def test_the_helper_gathers_the_response(client: openai.OpenAI) -> None:
    with client.responses.stream(model=MODEL, input="Hi", temperature=0) as stream:
        final = stream.get_final_response()
    assert final.status == "completed"
    (message,) = final.output
    assert isinstance(message, ResponseOutputMessage)
    assert client.responses.retrieve(final.id).output_text == final.output_text
    more = client.responses.create(model=MODEL, input="Thanks", previous_response_id=final.id, max_output_tokens=3)
    assert more.previous_response_id == final.id
    client.responses.delete(final.id)
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.retrieve(final.id)
    assert caught.value.code == "response_not_found"


def test_output_can_be_sent_back_as_it_came(client: openai.OpenAI) -> None:
    first = client.responses.create(model=MODEL, input="Hi", temperature=0, store=False)
    history = [{"role": "user", "content": "Hi"}, *first.output, {"role": "user", "content": "Thanks"}]
    raw = client.responses.with_raw_response.create(model=MODEL, input=history, store=False, max_output_tokens=3)  # type: ignore[arg-type]
    assert "x-ignored-fields" not in raw.headers
    assert raw.parse().status in ("completed", "incomplete")


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        ({"temperature": 3}, openai.BadRequestError, "temperature"),
        ({"model": "gpt-5"}, openai.NotFoundError, "model"),
        ({"input": [{"role": "wizard", "content": "Hi"}]}, openai.BadRequestError, "input[0].role"),
        ({"previous_response_id": "resp_1"}, openai.NotFoundError, "previous_response_id"),
    ],
    ids=range(4),
)
def test_errors_are_the_clients_own_classes(
    client: openai.OpenAI, fields: dict[str, object], kind: type[openai.APIStatusError], param: str
) -> None:
    with pytest.raises(kind) as caught:
        client.responses.create(**{"model": MODEL, "input": "Hi"} | fields)  # type: ignore[call-overload]
    assert caught.value.param == param


def test_a_failure_inside_a_stream_ends_it(client: openai.OpenAI) -> None:
    late = {"ignore_eos": True, "timeout": 0.1}
    events = list(client.responses.create(model=MODEL, input=STORY, stream=True, max_output_tokens=1500, extra_body=late))
    assert [event.type for event in events[-2:]] == ["error", "response.failed"]
    failed = events[-1]
    assert failed.type == "response.failed"
    assert failed.response.to_dict()["error"] == {"code": "timeout", "message": "the request took longer than its timeout"}
