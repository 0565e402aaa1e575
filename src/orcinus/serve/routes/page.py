"""The page at `/`, and its files."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from orcinus import page
from orcinus.serve.errors import ApiError

SAFE = {  # headers of every file: nothing is guessed, nothing is told to other sites
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def router() -> APIRouter:
    """`/` and `/page/FILE`: they hold no secret, so they need no key."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    async def index() -> Response:
        content, policy = page.index()
        return Response(content, media_type="text/html", headers=SAFE | {"Content-Security-Policy": policy})

    @routes.get("/page/standalone.html")
    async def standalone() -> Response:
        headers = SAFE | {"Content-Security-Policy": "sandbox", "Content-Disposition": "attachment"}
        return Response(page.standalone(), media_type="text/html", headers=headers)

    @routes.get("/page/{name}")
    async def file(request: Request, name: str) -> Response:
        found = page.find(name)
        if found is None:
            raise ApiError(404, "the page has no such file", code="not_found")
        headers = SAFE | {"ETag": f'"{found.tag}"'}
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(found.content, headers=headers | {"Content-Type": found.kind})

    return routes
