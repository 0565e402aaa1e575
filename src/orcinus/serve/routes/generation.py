"""Chats and completions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fastapi import APIRouter, Request
from starlette.responses import Response

from orcinus.core.request import RequestContext
from orcinus.serve.answers import Answers
from orcinus.serve.chat_encoder import unused_fields
from orcinus.serve.dialects.chat import ChatReply
from orcinus.serve.dialects.chat_history import check_results
from orcinus.serve.dialects.chat_tools import warnings_of, with_allowed_tools
from orcinus.serve.dialects.completions import CompletionReply
from orcinus.serve.dialects.field_names import AS_THEY_ARE, FieldNames
from orcinus.serve.dialects.reply import Reply, ServedModel
from orcinus.serve.openapi import GENERATION_ERRORS, takes
from orcinus.serve.request_context import request_context
from orcinus.serve.response_schema import ChatCompletion, TextCompletion
from orcinus.serve.responses import Events, WholeAnswer, answer_events
from orcinus.serve.schema import ChatBody, CompletionBody, Sampling
from orcinus.serve.service import Service
from orcinus.serve.slo_fields import wanted_slo
from orcinus.text.input_processor import TokenizedRequest

Preparing = Callable[[RequestContext], Awaitable[Sequence[TokenizedRequest]]]
MakingReply = Callable[[Answers, ServedModel], Reply]


def router(service: Service) -> APIRouter:
    """`POST /v1/chat/completions` and `POST /v1/completions`."""
    routes = APIRouter()

    @routes.post("/chat/completions", include_in_schema=False)
    @routes.post("/v1/chat/completions", **takes(ChatBody, ChatCompletion, GENERATION_ERRORS, streams=True))
    async def chat(request: Request) -> Response:
        async with service.receiving(request, ChatBody) as body:
            check_results(body.messages, continued=bool(body.continue_final_message))
            chat, names = with_allowed_tools(body)

            def make_reply(answers: Answers, served: ServedModel) -> Reply:
                return ChatReply(answers, served, chat, warnings_of(chat, names))

            return await answer_chat(service, request, chat, "chatcmpl-", make_reply, names)

    @routes.post("/completions", include_in_schema=False)
    @routes.post("/v1/completions", **takes(CompletionBody, TextCompletion, GENERATION_ERRORS, streams=True))
    async def complete(request: Request) -> Response:
        async with service.receiving(request, CompletionBody) as body:

            async def prepare(context: RequestContext) -> Sequence[TokenizedRequest]:
                return await service.processor.completion(body, context)

            def make_reply(answers: Answers, served: ServedModel) -> Reply:
                return CompletionReply(answers, served, body)

            return await answer(service, request, body, "cmpl-", prepare, make_reply)

    return routes


async def answer_chat(
    service: Service, request: Request, body: ChatBody, prefix: str, make_reply: MakingReply, names: FieldNames
) -> Events | WholeAnswer:
    """The response to a conversation of any dialect, whose names its errors have. Raises `ApiError`."""
    with names.in_errors():
        facts, unused = request.scope["orcinus"], unused_fields(body, service.processor.tokenizer.chat_template)
        facts["ignored"] = sorted({*facts["ignored"], *map(names.find, unused)})

        async def prepare(context: RequestContext) -> Sequence[TokenizedRequest]:
            return await service.processor.chat(body, context)

        return await answer(service, request, body, prefix, prepare, make_reply, names)


async def answer(
    service: Service,
    request: Request,
    body: Sampling,
    prefix: str,
    prepare: Preparing,
    make_reply: MakingReply,
    names: FieldNames = AS_THEY_ARE,
) -> Events | WholeAnswer:
    """The response to a checked body: admits and queues all its answers.

    `prefix` begins the id of the response; errors of the answers have the client's `names`. Raises `ApiError`.
    """
    model, config = service.processor, service.config
    model.check_name(body.model)
    model.check_together(body)
    request.scope["orcinus"]["model"] = body.model or model.name
    context = request_context(body, request.scope["orcinus"]["holder"], service.adapters, wanted_slo(body.slo, request.headers))
    call, prepared = await service.call(prefix, body, context, lambda: prepare(context))
    reply = make_reply(
        Answers(call, body, prepared, model.tokenizer, names), ServedModel(body.model or model.name, service.fingerprint)
    )
    headers = _headers(request, body, call.id)
    if body.stream:
        return answer_events(reply, headers, config.keep_alive, config.stream_interval_ms / 1000)
    return WholeAnswer(reply, headers)


def _headers(request: Request, body: Sampling, call_id: str) -> dict[str, str]:
    """Response headers besides the usual ones."""
    headers = {"X-Response-ID": call_id}  # sent before the first frame, so that a queued request can be cancelled
    named = body.request_id is not None and body.request_id.isascii() and body.request_id.isprintable()
    if "x-request-id" not in request.headers:  # else the front echoes it
        headers["X-Request-ID"] = body.request_id[:256] if named and body.request_id else call_id
    return headers
