"""Routes for administrators alone."""

from __future__ import annotations

from fastapi import Request

from orcinus.serve.errors import ApiError


def admin_only(request: Request) -> None:
    """Raises `ApiError` 403 for a key that is no admin key. Without keys, everyone may."""
    holder = request.scope["orcinus"]["holder"]
    if holder is not None and not holder.admin:
        raise ApiError(403, "this needs an admin key", code="admin_key_required")
