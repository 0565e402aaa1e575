"""Anthropic's Messages API."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from orcinus.serve.answers import Answers
from orcinus.serve.chat_encoder import chat_encoder
from orcinus.serve.dialects.messages import MessagesReply
from orcinus.serve.dialects.messages_chat import to_chat
from orcinus.serve.dialects.messages_openapi import MessagesError, MessagesResponse, TokenCount
from orcinus.serve.dialects.messages_schema import CountTokensBody, MessagesBody
from orcinus.serve.dialects.reply import ServedModel
from orcinus.serve.openapi import BODY_ERRORS, GENERATION_ERRORS, takes
from orcinus.serve.routes.generation import answer_chat
from orcinus.serve.service import Service
from orcinus.serve.tool_fields import choice_of


def router(service: Service) -> APIRouter:
    """`POST /v1/messages` and `POST /v1/messages/count_tokens`."""
    routes = APIRouter()

    @routes.post("/v1/messages", **takes(MessagesBody, MessagesResponse, GENERATION_ERRORS, MessagesError, streams=True))
    async def messages(request: Request) -> Response:
        async with service.receiving(request, MessagesBody) as body:
            chat, names = to_chat(body)
            sent_id = request.scope["orcinus"]["request_id"] if "x-request-id" in request.headers else None

            def make_reply(answers: Answers, served: ServedModel) -> MessagesReply:
                return MessagesReply(answers, served, body, sent_id)

            return await answer_chat(service, request, chat, "msg_", make_reply, names)

    @routes.post("/v1/messages/count_tokens", **takes(CountTokensBody, TokenCount, BODY_ERRORS, MessagesError))
    async def count_tokens(request: Request) -> dict[str, int]:
        body = await service.read(request, CountTokensBody)
        model = service.processor
        model.check_name(body.model)
        chat, names = to_chat(body)
        with names.in_errors(), service.threads.counting():
            choice_of(chat)  # raises what the request itself would
            ids = await model.tokenize(chat_encoder(chat), "messages", model.countable)
        return {"input_tokens": len(ids)}

    return routes
