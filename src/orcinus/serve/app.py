"""The routes."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

import orcinus
from orcinus.errors import ConfigError, EngineError
from orcinus.serve.answers import Reply
from orcinus.serve.body import read_json, validate
from orcinus.serve.engine_client import PromptRead
from orcinus.serve.errors import ApiError, on_any_error, on_api_error, on_http_error
from orcinus.serve.messages import Use, Using
from orcinus.serve.schema import ChatBody, CompletionBody, Sampling, SchedulerBody
from orcinus.serve.service import Service

HEARTBEAT_S = 5.0  # without a sign of the engine for so long, the server is not healthy
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def make_app(service: Service) -> FastAPI:
    """The application around one model."""
    app = FastAPI(title="Orcinus", version=orcinus.__version__, docs_url=None, redoc_url=None)
    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_any_error)
    _add_models(app, service)
    _add_generation(app, service)
    _add_state(app, service)
    return app


def _add_models(app: FastAPI, service: Service) -> None:
    def card() -> dict[str, Any]:
        return {
            "id": service.served.model,
            "object": "model",
            "created": service.created,
            "owned_by": "orcinus",
            "max_model_len": service.ready.max_model_len,
        }

    @app.api_route("/v1/models", methods=["GET", "HEAD"])
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card()]}

    @app.api_route("/v1/models/{name:path}", methods=["GET", "HEAD"])
    async def model(name: str) -> dict[str, Any]:
        service.check_model(name)
        return card()

    @app.post("/tokenize")
    async def tokenize(request: Request) -> dict[str, Any]:
        found = await read_json(request)
        text = found.get("prompt")
        if not isinstance(text, str):
            raise ApiError(400, "prompt: must be a string", param="prompt", code="invalid_value")
        ids = await service.tokenize(text)
        return {"tokens": list(ids), "count": len(ids), "max_model_len": service.ready.max_model_len}

    @app.post("/detokenize")
    async def detokenize(request: Request) -> dict[str, Any]:
        found = await read_json(request)
        ids = found.get("tokens")
        size = service.ready.vocab_size
        if not isinstance(ids, list) or not all(type(one) is int and 0 <= one < size for one in ids):
            raise ApiError(400, f"tokens: must be a list of ids from 0 to {size - 1}", param="tokens", code="invalid_value")
        return {"prompt": service.tokenizer.decode(ids)}


def _add_generation(app: FastAPI, service: Service) -> None:
    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = validate(ChatBody, await read_json(request))
        ignored = _check(body)
        return await answer(request, body, await service.chat(body), "chatcmpl", ignored)

    @app.post("/v1/completions")
    async def complete(request: Request) -> Response:
        body = validate(CompletionBody, await read_json(request))
        ignored = _check(body)
        return await answer(request, body, await service.completion(body), "cmpl", ignored)

    def _check(body: Sampling) -> list[str]:
        service.check_model(body.model)
        return service.check_fields(body)

    async def answer(request: Request, body: Sampling, prepared: Any, prefix: str, ignored: list[str]) -> Response:
        pieces = service.submit(prepared, body)
        reply = Reply(f"{prefix}-{uuid.uuid4().hex}", int(time.time()), service.served.model, body, prepared, service.tokenizer)
        headers = {"X-Request-ID": request.headers.get("x-request-id", body.request_id or reply.id)[:256]}
        if ignored:
            headers["X-Ignored-Fields"] = ", ".join(ignored)[:1024].encode("ascii", "replace").decode()
        if body.stream:
            return StreamingResponse(reply.frames(pieces), media_type="text/event-stream", headers=headers | STREAM_HEADERS)
        await _collect(request, reply, pieces)
        return JSONResponse(reply.whole(), headers=headers)


async def _collect(request: Request, reply: Reply, pieces: AsyncIterator[Any]) -> None:
    """Take all pieces, unless the client goes away."""

    async def collect() -> None:
        async for piece in pieces:
            if isinstance(piece, PromptRead):
                reply.note(piece)
            else:
                reply.take(piece)

    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = {asyncio.create_task(collect()), asyncio.create_task(hung_up())}
    done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    for task in done:
        task.result()
    if not all(choice.finish_reason for choice in reply.choices.values()) or not reply.choices:
        raise ApiError(499, "the client hung up", code="client_closed")


def _add_state(app: FastAPI, service: Service) -> None:
    client = service.client

    @app.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> Response:
        silent = time.monotonic() - client.state.last_sign
        if client.dead is not None or silent > HEARTBEAT_S:
            reason = client.dead or f"the engine has been silent for {silent:.0f} s"
            raise ApiError(503, reason, code="engine_dead")
        return JSONResponse({"status": "ok"})

    @app.api_route("/ready", methods=["GET", "HEAD"])
    async def ready() -> Response:
        service.check_room(0)
        return JSONResponse({"status": "ready"})

    async def using(change: Use) -> Using:
        try:
            return await client.use(change)
        except ConfigError as error:
            raise ApiError(400, str(error), code="invalid_value") from None
        except EngineError as error:
            raise ApiError(503, str(error), code="engine_dead") from None

    def state(now: Using) -> dict[str, Any]:
        return {
            "policy": now.policy,
            "order": now.order,
            "limits": {"max_batch_size": now.max_batch_size, "max_batch_tokens": now.max_batch_tokens},
            "running": client.state.running,
            "waiting": client.state.waiting,
            "free_blocks": client.state.free_blocks,
            "num_blocks": service.ready.num_blocks,
        }

    @app.get("/v1/scheduler")
    async def scheduler() -> dict[str, Any]:
        return state(await using(Use()))

    @app.put("/v1/scheduler")
    async def switch(request: Request) -> dict[str, Any]:
        body = validate(SchedulerBody, await read_json(request))
        return state(await using(Use(**body.model_dump())))
