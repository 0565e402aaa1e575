"""The OpenAPI document holds what it promises: no body that it permits is refused, but for rules that no schema can say."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from orcinus.config import EngineConfig
from orcinus.core.component_spec import make_order, make_policy
from orcinus.core.request import RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.serve.app import make_app
from orcinus.serve.body import parse
from orcinus.serve.chat_encoder import chat_encoder
from orcinus.serve.config import ServerConfig
from orcinus.serve.dialects import messages_chat, responses_input
from orcinus.serve.dialects.messages_schema import CountTokensBody, MessagesBody
from orcinus.serve.dialects.responses_history import read_items
from orcinus.serve.dialects.responses_schema import ResponsesBody
from orcinus.serve.errors import ApiError
from orcinus.serve.keys import Keys
from orcinus.serve.messages import Ready
from orcinus.serve.object_schema import Object
from orcinus.serve.replica_set import ReplicaSet
from orcinus.serve.request_processor import RequestProcessor
from orcinus.serve.routes.models import check_without_messages
from orcinus.serve.schema import ChatBody, CompletionBody, DetokenizeBody, SchedulerBody, TokenizeBody
from orcinus.serve.service import Service
from orcinus.serve.text_threads import TextThreads
from orcinus.serve.tool_fields import choice_of
from orcinus.serve.validation import check_fields
from orcinus.text.tokenizer import load_tokenizer
from orcinus.tiny import MODEL_DIR
from tests.examples import examples
from tests.serve.json_schema import Schemas

HI = [{"role": "user", "content": "x"}]
CALL = {"type": "tool_use", "id": "t", "name": "look", "input": {}}
# What JSON Schema cannot say: sums and comparisons of fields, and what only a tokenizer knows.
BEYOND_SCHEMAS = re.compile(
    "exceed the context"
    "|min_tokens needs a max_tokens that is at least as large"
    "|nothing can be generated"
    "|the last message has no content to continue"
    "|bad_words.* has no tokens"
    "|there is no call of this id before it"
    "|it is not stored"
    "|input: must not be empty"
    "|there is another tool of this name"
    "|there is no such tool in tools"
    "|best_of must equal n"
    "|the type must be 'object', because arguments have names"
    "|asks for another form of the answer"
    "|the form cannot be used"
    "|cannot be combined with tools"
    "|is none of the tools|is the name of an earlier tool|there are no tools of which one could be called"
    "|before it has no tool_use block|the next message has no tool_result|there is no output of the calls"
    "|before it has no call|no result follows for|the last message has no text to continue"
)


@cache
def service() -> Service:
    """A service whose engine is never started."""
    tokenizer = load_tokenizer(MODEL_DIR)
    assert tokenizer is not None
    found = Service(ReplicaSet(EngineConfig()), ServerConfig(), "m", Keys([], []))
    found.open(RequestProcessor("m", tokenizer, SamplingParams(), Ready(2048, 2048, 16384, 1024), 0, TextThreads()))
    return found


@cache
def schemas() -> Schemas:
    app: Any = make_app(service())
    document = app.app.openapi()
    return Schemas(document["components"]["schemas"])


def refusal(kind: type[Object], body: dict[str, Any]) -> ApiError | None:
    """Why a body is refused by everything that comes before the engine."""
    processor = service().processor

    async def read() -> None:
        found = parse(json.dumps(body).encode(), kind)
        check_fields(found, strict=False)
        if isinstance(found, ResponsesBody):
            items = read_items(found, service().stored, "")
            if not items and not found.instructions:
                return
            found = responses_input.to_chat(found, [(one.place, one.item) for one in items]).body
        if isinstance(found, CountTokensBody):
            found, _ = messages_chat.to_chat(found)
            choice_of(found)
        if isinstance(found, ChatBody | CompletionBody):
            processor.check_together(found)
            await (
                processor.chat(found, RequestContext())
                if isinstance(found, ChatBody)
                else processor.completion(found, RequestContext())
            )
        elif isinstance(found, TokenizeBody) and found.messages is None:
            check_without_messages(found)
        elif isinstance(found, TokenizeBody):
            await processor.tokenize(chat_encoder(found), "messages", processor.context)
        elif isinstance(found, SchedulerBody):
            _ = found.policy is None or make_policy(found.policy)
            _ = found.order is None or make_order(found.order)

    try:
        asyncio.run(read())
    except ApiError as error:
        return error
    return None


@pytest.mark.parametrize(
    "kind", [ChatBody, CompletionBody, ResponsesBody, MessagesBody, TokenizeBody, DetokenizeBody, SchedulerBody]
)
def test_no_permitted_body_is_refused(kind: type[Object]) -> None:
    known = schemas()
    schema = known.named[kind.__name__]

    @examples(60, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        body = data.draw(known.values(schema))
        error = refusal(kind, body)
        assert error is None or BEYOND_SCHEMAS.search(error.message), (error.message, body)

    holds()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (ChatBody, {"messages": [{"role": "user", "content": None}]}),
        (ChatBody, {"messages": [{"role": "user", "content": "x"}], "guided_json": 5}),
        (ChatBody, {"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_schema"}}),
        (ChatBody, {"messages": [{"role": "user", "content": "x"}], "mirostat": 2}),
        (ChatBody, {"messages": [{"role": "user", "content": "x"}], "top_logprobs": 2}),
        (ChatBody, {"messages": [{"role": "user", "content": "x", "function_call": {"name": "x"}}]}),
        (CompletionBody, {"prompt": "x", "logit_bias": {"2048": 1}}),
        (CompletionBody, {"prompt": "x", "logit_bias": {"fox": 1}}),
        (CompletionBody, {"prompt": "x", "max_tokens": 0}),
        (CompletionBody, {"prompt": "x", "min_tokens": 3}),
        (CompletionBody, {"prompt": "x", "n": 129}),
        (CompletionBody, {"prompt": "x", "truncate_prompt_tokens": 0}),
        (CompletionBody, {"prompt": [2048]}),
        (ResponsesBody, {"input": [{"role": "user", "content": None}]}),
        (ResponsesBody, {"input": [{"type": "teapot"}]}),
        (ResponsesBody, {"input": "x", "tools": [{"type": "function", "name": "a b"}]}),
        (ResponsesBody, {"input": "x", "text": {"format": {"type": "json_schema"}}}),
        (ResponsesBody, {"input": "x", "background": True}),
        (ResponsesBody, {"input": "x", "metadata": {"a": 1}}),
        (ResponsesBody, {"input": "x", "stream_options": {"include_obfuscation": False}}),
        (ChatBody, {"messages": [{"role": "user", "content": "x"}], "tool_choice": "required"}),
        (
            ChatBody,
            {"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function", "function": {"name": "a b"}}]},
        ),
        (TokenizeBody, {}),
        (TokenizeBody, {"prompt": "x", "tools": [{"type": "function", "function": {"name": "look"}}]}),
        (TokenizeBody, {"prompt": "x", "continue_final_message": True}),
        (MessagesBody, {"messages": HI}),
        (MessagesBody, {"messages": HI, "max_tokens": 0}),
        (MessagesBody, {"messages": HI, "max_tokens": 5, "stop": ["x"]}),
        (MessagesBody, {"messages": HI, "max_tokens": 5, "n": 2}),
        (MessagesBody, {"messages": HI, "max_tokens": 5, "thinking": {"type": "enabled"}}),
        (MessagesBody, {"messages": HI, "max_tokens": 5, "tool_choice": {"type": "tool"}}),
        (MessagesBody, {"messages": HI, "max_tokens": 5, "tools": [{"type": "bash_20250124", "name": "bash"}]}),
        (MessagesBody, {"messages": [{"role": "user", "content": [{"type": "image"}]}], "max_tokens": 5}),
        (CountTokensBody, {"messages": [{"role": "user", "content": [CALL]}]}),
        (SchedulerBody, {"policy": "magic"}),
        (SchedulerBody, {"order": "fair:prompt_cost=much"}),
    ],
)
def test_what_is_refused_is_not_permitted(kind: type[Object], body: dict[str, Any]) -> None:
    known = schemas()
    assert not known.fits(known.named[kind.__name__], body)
    if kind is not SchedulerBody and body:
        assert refusal(kind, body) is not None


def union_tags(schema: Any) -> Iterator[str]:
    """The tags of all unions in a schema of pydantic's core."""
    if isinstance(schema, dict):
        if schema.get("type") == "tagged-union":
            yield from schema["choices"]
        schema = list(schema.values())
    for inner in schema if isinstance(schema, list | tuple) else ():
        yield from union_tags(inner)


@pytest.mark.parametrize("kind", [ChatBody, CompletionBody, ResponsesBody, MessagesBody])
def test_no_tag_of_a_union_can_be_taken_for_a_field(kind: type[Object]) -> None:
    tags = set(union_tags(kind.__pydantic_core_schema__))
    assert tags
    assert all(" " in tag for tag in tags)
