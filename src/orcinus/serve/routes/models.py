"""The model that is served, and its tokenizer."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from orcinus.serve.body import read_body
from orcinus.serve.errors import invalid
from orcinus.serve.model import Conversation, template_messages
from orcinus.serve.openapi import (
    ANY_ERRORS,
    BODY_ERRORS,
    Detokenized,
    ModelCard,
    ModelList,
    Tokenized,
    TokenizerInfo,
    gives,
    takes,
)
from orcinus.serve.schema import DetokenizeBody, TokenizeBody
from orcinus.serve.service import Service


def router(service: Service) -> APIRouter:
    """`/v1/models`, `/tokenize`, `/detokenize` and `/tokenizer_info`."""
    routes = APIRouter()

    def card() -> dict[str, Any]:
        length = service.model.ready.max_model_len
        made = {"id": service.model.name, "object": "model", "created": service.created, "owned_by": "orcinus"}
        return {**made, "max_model_len": length}

    @routes.get("/v1/models", **gives(ModelList, ANY_ERRORS))
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card()]}

    @routes.get("/v1/models/{name:path}", **gives(ModelCard, (404, *ANY_ERRORS)))
    async def model(name: str) -> dict[str, Any]:
        service.model.check_name(name)
        return card()

    @routes.post("/tokenize", **takes(TokenizeBody, Tokenized, BODY_ERRORS))
    async def tokenize(request: Request) -> dict[str, Any]:
        body = await read_body(request, TokenizeBody, service.workers)
        model = service.model
        model.check_name(body.model)
        if (body.prompt is None) == (body.messages is None):
            raise invalid("prompt", "give either prompt or messages")
        prompt: Any = body.prompt
        if body.messages is not None:
            prompt = Conversation(template_messages(body.messages), {})
        ids = await model.tokenize(prompt, "prompt" if body.messages is None else "messages")
        return {"tokens": list(ids), "count": len(ids), "max_model_len": model.ready.max_model_len}

    @routes.post("/detokenize", **takes(DetokenizeBody, Detokenized, BODY_ERRORS))
    async def detokenize(request: Request) -> dict[str, Any]:
        body = await read_body(request, DetokenizeBody, service.workers)
        model = service.model
        model.check_name(body.model)
        model.check_ids(body.tokens, "tokens")
        return {"prompt": await model.workers.run(model.tokenizer.decode, body.tokens)}

    @routes.get("/tokenizer_info", **gives(TokenizerInfo, ANY_ERRORS))
    async def tokenizer_info() -> dict[str, Any]:
        return {**service.model.tokenizer.facts(), "model_max_length": service.model.ready.max_model_len}

    return routes
