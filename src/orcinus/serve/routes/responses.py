"""`/v1/responses`: create a response, fetch it, delete it."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from orcinus.errors import shown
from orcinus.serve.answers import Answers
from orcinus.serve.dialects.reply import Reply, ServedModel
from orcinus.serve.dialects.responses import ResponsesReply, events_without_answer, response_object, without_answer
from orcinus.serve.dialects.responses_history import PlacedItem, read_items, without_oldest_turns
from orcinus.serve.dialects.responses_input import to_chat
from orcinus.serve.dialects.responses_items import InputMessage
from orcinus.serve.dialects.responses_objects import DeletedResponse, ResponseObject
from orcinus.serve.dialects.responses_output import Output
from orcinus.serve.dialects.responses_schema import ResponsesBody
from orcinus.serve.errors import ApiError
from orcinus.serve.openapi import ANY_ERRORS, GENERATION_ERRORS, gives, takes
from orcinus.serve.request_context import request_context
from orcinus.serve.responses import JSON, STREAM_HEADERS
from orcinus.serve.routes.generation import answer_chat
from orcinus.serve.service import Service

PREFIX = "resp_"
SEALED = "reasoning.encrypted_content"
ANYTHING = InputMessage(role="user", content="Hello")


def router(service: Service) -> APIRouter:
    """`POST /v1/responses`, and `GET` and `DELETE` of one that is stored."""
    routes = APIRouter()

    @routes.post("/responses", include_in_schema=False)
    @routes.post("/v1/responses", **takes(ResponsesBody, ResponseObject, GENERATION_ERRORS, streams=True))
    async def create(request: Request) -> Response:
        async with service.receiving(request, ResponsesBody) as body:
            items = read_items(body, service.stored, _holder(request))
            if not items and not body.instructions:
                return await _without_answer(service, request, body)
            return await _answer(service, request, body, items)

    @routes.get("/v1/responses/{id}", **gives(ResponseObject, (404, *ANY_ERRORS)))
    async def fetch(request: Request, id: str) -> Response:  # noqa: A002
        stored = service.stored.find(_holder(request), id)
        if stored is None:
            raise _unknown(id)
        return Response(stored.response, media_type="application/json")

    @routes.delete("/v1/responses/{id}", **gives(DeletedResponse, (404, *ANY_ERRORS)))
    async def delete(request: Request, id: str) -> dict[str, Any]:  # noqa: A002
        if not service.stored.remove(_holder(request), id):
            raise _unknown(id)
        return {"id": id, "object": "response", "deleted": True}

    return routes


async def _answer(service: Service, request: Request, body: ResponsesBody, items: list[PlacedItem]) -> Response:
    """The response of the model. Raises `ApiError` with the client's own field names."""
    holder = _holder(request)
    chat = to_chat(body, [(one.place, one.item) for one in items])

    def keep(response: dict[str, Any]) -> bool:
        return service.stored.add(holder, response, [one.to_json() for one in items])

    def make_reply(answers: Answers, served: ServedModel) -> Reply:
        response = response_object(answers.call.id, body, chat.tools, chat.warnings, served)
        suffix = answers.call.id.removeprefix(PREFIX)
        return ResponsesReply(answers, response, Output(suffix, chat.tools, SEALED in (body.include or ())), keep)

    asked = chat.body
    if body.truncation == "auto":
        with chat.names.in_errors(), service.threads.counting():
            asked = await without_oldest_turns(service.processor, asked)
    return await answer_chat(service, request, asked, PREFIX, make_reply, chat.names)


async def _without_answer(service: Service, request: Request, body: ResponsesBody) -> Response:
    """The response to a request that says nothing; the engine does not see it.

    Raises `ApiError` for what would be refused beside an input.
    """
    chat = to_chat(body, [("input", ANYTHING)])
    with chat.names.in_errors(), service.threads.counting():
        service.processor.check_name(body.model)
        service.processor.check_together(chat.body)
        await service.processor.chat(
            chat.body, request_context(chat.body, request.scope["orcinus"]["holder"], service.adapters)
        )
    id, served = f"{PREFIX}{uuid.uuid4().hex[:24]}", ServedModel(body.model or service.processor.name, service.fingerprint)  # noqa: A001
    made = response_object(id, body, chat.tools, chat.warnings, served) | {"store": False}
    if body.stream:
        return Response(events_without_answer(made), headers=STREAM_HEADERS, media_type="text/event-stream")
    return JSON(without_answer(made))


def _holder(request: Request) -> str:
    """Whose responses a request sees: those of its key."""
    holder = request.scope["orcinus"]["holder"]
    return "" if holder is None else str(holder.name)


def _unknown(id: str) -> ApiError:  # noqa: A002
    return ApiError(
        404, f"there is no response {shown(id)}, or it is not stored (any more)", param="id", code="response_not_found"
    )
