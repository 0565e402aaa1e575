"""The OpenAPI document: what each route takes and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from orcinus.serve import schema
from orcinus.serve.component_schema import numbers_below
from orcinus.serve.dialects.messages_schema import CountTokensBody, MessagesBody
from orcinus.serve.dialects.responses_schema import ResponsesBody
from orcinus.serve.response_schema import Error

REF = "#/components/schemas/{model}"
ANY_ERRORS = (400, 401, 403, 503)  # of every route: an odd path, no key, a foreign web page, a model that is still loading
BODY_ERRORS = (404, 408, 413, 415, 429, *ANY_ERRORS)
GENERATION_ERRORS = (499, 500, *BODY_ERRORS)
BODIES = (
    ResponsesBody,
    schema.ChatBody,
    schema.CompletionBody,
    schema.TokenizeBody,
    schema.DetokenizeBody,
    schema.SchedulerBody,
    schema.StepBody,
    schema.LoadBody,
    CountTokensBody,
    MessagesBody,
)


EVENT = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
Responses = dict[int | str, dict[str, Any]]


def takes(
    body: type[BaseModel],
    ok: type[BaseModel],
    errors: Sequence[int],
    error: type[BaseModel] = Error,
    *,
    streams: bool = False,
) -> dict[str, Any]:
    """Route arguments for a JSON body of this kind."""
    content = {"application/json": {"schema": {"$ref": REF.format(model=body.__name__)}}}
    extra = {"requestBody": {"content": content, "required": True}}
    return {**gives(ok, errors, error, kind="text/event-stream" if streams else None), "openapi_extra": extra}


def gives(
    ok: type[BaseModel] | None, errors: Sequence[int], error: type[BaseModel] = Error, *, kind: str | None = None
) -> dict[str, Any]:
    """Route arguments for a response of this kind."""
    responses: Responses = {status: {"model": error, "description": DESCRIPTIONS[status]} for status in sorted(set(errors))}
    good: dict[str, Any] = {"description": "OK"}
    if ok is not None:
        good["model"] = ok
    if kind is not None:
        good["content"] = {kind: {"itemSchema": EVENT}}
    elif ok is None:
        good["content"] = {"text/plain": {"schema": {"type": "string"}}}
    # None as response_model: responses are written unchanged
    return {"responses": {200: good, **responses}, "response_model": None}


DESCRIPTIONS = {
    400: "The request cannot be used; the error says which field.",
    401: "An API key is missing or unknown.",
    403: "This needs an admin key; or, without keys, a web page or a host name that may not use this server.",
    404: "There is no such model, request or path.",
    408: "The body did not come, or the request took longer than its timeout.",
    409: "The server is in another state.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "The queue is full, or there are too many large bodies; Retry-After says when to come back.",
    499: "The request was cancelled.",
    500: "The request failed while it ran.",
    503: "Loading, draining, or without an engine; Retry-After says when to come back.",
}


def document(app: FastAPI, limits: Mapping[str, int], *, with_keys: bool) -> dict[str, Any]:
    """The OpenAPI document of an application.

    Bodies are read by hand, so that every error has OpenAI's shape; they are added here. `limits` are those of the model, by
    the names with which `schema` marks the fields that they bound.
    """
    made = get_openapi(title=app.title, version=app.version, routes=app.routes)
    _, defined = models_json_schema([(body, "validation") for body in BODIES], ref_template=REF)
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas.update(defined.get("$defs", {}))
    for path in made["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    _narrow(schemas, limits)
    if with_keys:
        made["components"]["securitySchemes"] = {
            "key": {"type": "http", "scheme": "bearer"},
            "x_api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        made["security"] = [{"key": []}, {"x_api_key": []}]
        made["paths"]["/health"]["get"]["security"] = []
    return made


def _narrow(node: Any, limits: Mapping[str, int]) -> None:
    """Give marked numbers their true limits, wherever they are."""
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _narrow(inner, limits)
    if isinstance(node, dict) and isinstance(marked := node.pop("x-limit", None), str) and marked in limits:
        if "pattern" in node:
            node["pattern"] = numbers_below(limits[marked])
        else:
            node["exclusiveMaximum"] = limits[marked]
