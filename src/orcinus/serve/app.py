"""The ASGI application: routes, error handlers and middleware."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

import orcinus
from orcinus.serve import openapi
from orcinus.serve.browsers import Browsers
from orcinus.serve.ended_request import RequestListener
from orcinus.serve.errors import ApiError, on_any_error, on_api_error, on_http_error
from orcinus.serve.field_types import MOST_ANSWERS
from orcinus.serve.middleware import Middleware
from orcinus.serve.routes import generation, messages, models, pace, page, requests, responses, scheduler, state
from orcinus.serve.service import Service


def make_app(service: Service, listeners: Sequence[RequestListener] = ()) -> ASGIApp:
    """The whole ASGI application; `listeners` hear of every request that ended."""
    app = FastAPI(title="Orcinus", version=orcinus.__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_any_error)
    for subject in (generation, responses, messages, models, requests, scheduler, pace, state):
        app.router.routes.extend(subject.router(service).routes)  # flat, so that a 405 can list the methods of a path
    if not service.config.no_page:
        app.router.routes.extend(page.router().routes)
    keys = service.keys

    def document() -> dict[str, Any]:
        ready = service.processor.ready if service.loaded else None
        limits = {"vocab_size": ready.vocab_size, "max_model_len": ready.max_model_len} if ready else {}
        limits |= {"longest_prompt": ready.max_model_len + 1} if ready else {}
        limits["answers"] = min(MOST_ANSWERS, service.admission.bounds.of_one_request) + 1
        return openapi.document(app, limits, with_keys=bool(keys))

    app.openapi = document  # type: ignore[method-assign]
    config = service.config
    browsers = Browsers(config.host, config.allow_origin, config.allow_host)
    if listeners:
        service.keep_ledgers()
    return Middleware(app, keys, browsers, service.metrics, service.ledgers, listeners, leaving=lambda: service.leaving)
