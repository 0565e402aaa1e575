"""The model that is served, and its tokenizer."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

import orcinus
from orcinus.serve.chat_encoder import chat_encoder
from orcinus.serve.errors import invalid
from orcinus.serve.field_rules import ENDINGS
from orcinus.serve.openapi import ANY_ERRORS, BODY_ERRORS, gives, takes
from orcinus.serve.response_schema import Detokenized, ModelCard, ModelList, Tokenized, TokenizerInfo, Version
from orcinus.serve.schema import DetokenizeBody, TokenizeBody
from orcinus.serve.service import Service


def check_without_messages(body: TokenizeBody) -> None:
    """Refuse chat-template fields without messages. Raises `ApiError`."""
    options = body.chat_template_kwargs.model_fields_set if body.chat_template_kwargs else ()
    given = {"tools": body.tools, "chat_template_kwargs": options, **{name: getattr(body, name) for name in ENDINGS}}
    for name, value in given.items():
        if value:
            raise invalid(name, f"{name} needs messages; a prompt goes through no chat template")


def router(service: Service) -> APIRouter:
    """`/v1/models`, `/tokenize`, `/detokenize`, `/tokenizer_info` and `/version`."""
    routes = APIRouter()

    def card(name: str) -> dict[str, Any]:
        ready, base = service.processor.ready, service.processor.name
        made = {"id": name, "object": "model", "created": service.created, "owned_by": "orcinus"}
        parent = base if name in service.processor.adapters else None
        return {**made, "parent": parent, "max_model_len": ready.max_model_len, "revision": ready.revision}

    @routes.get("/v1/models", **gives(ModelList, ANY_ERRORS))
    async def models() -> dict[str, Any]:
        # Codex needs the list `models`. It would use an entry's instructions, which an entry must have, in place of its own.
        return {"object": "list", "data": [card(name) for name in service.processor.names], "models": []}

    @routes.get("/v1/models/{name:path}", **gives(ModelCard, (404, *ANY_ERRORS)))
    async def model(name: str) -> dict[str, Any]:
        service.processor.check_name(name)
        return card(name)

    @routes.post("/tokenize", **takes(TokenizeBody, Tokenized, BODY_ERRORS))
    async def tokenize(request: Request) -> dict[str, Any]:
        body = await service.read(request, TokenizeBody)
        model = service.processor
        model.check_name(body.model)
        if (body.prompt is None) == (body.messages is None):
            raise invalid("prompt", "give either prompt or messages")
        if body.messages is None:
            check_without_messages(body)
        prompt, where = (body.prompt, "prompt") if body.messages is None else (chat_encoder(body), "messages")
        with service.threads.counting():
            ids = await model.tokenize(prompt, where, model.countable, special=body.add_special_tokens is not False)
        strings = (
            [model.tokenizer.token_bytes(token).decode("utf-8", "replace") for token in ids] if body.return_token_strs else None
        )
        return {"tokens": list(ids), "count": len(ids), "max_model_len": model.ready.max_model_len, "token_strs": strings}

    @routes.post("/detokenize", **takes(DetokenizeBody, Detokenized, BODY_ERRORS))
    async def detokenize(request: Request) -> dict[str, Any]:
        body = await service.read(request, DetokenizeBody)
        model = service.processor
        model.check_name(body.model)
        with service.threads.counting():
            text = await model.detokenize(body.tokens, "tokens", special=body.skip_special_tokens is False)
        return {"prompt": text}

    @routes.get("/version", **gives(Version, ANY_ERRORS))
    async def version() -> dict[str, str]:
        return {"version": orcinus.__version__}

    @routes.get("/tokenizer_info", **gives(TokenizerInfo, ANY_ERRORS))
    async def tokenizer_info() -> dict[str, Any]:
        return {**service.processor.tokenizer.facts(), "model_max_length": service.processor.ready.max_model_len}

    return routes
