"""From a body and its sender to the context of its requests."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import fields

from orcinus.core.request import RequestContext
from orcinus.core.slo import SLO
from orcinus.serve.keys import Holder
from orcinus.serve.schema import Sampling

FIELDS = tuple(field.name for field in fields(RequestContext))


def request_context(
    body: Sampling, holder: Holder | None, adapters: Collection[str] = (), slo: SLO | None = None
) -> RequestContext:
    """The `RequestContext` of a body's requests.

    Fields of equal names are taken from the body. With keys the client is the key's holder, and salts are the holder's own.
    """
    given = {name: value for name in FIELDS if (value := getattr(body, name, None)) is not None} | {"slo": slo}
    given["client"] = body.prompt_cache_key or body.user or ""
    if body.model in adapters:
        given["lora"] = body.model
    if holder is not None:
        salt = hashlib.sha256(f"{holder.name}\0{body.cache_salt or ''}".encode()).hexdigest()
        given |= {"client": holder.name, "cache_salt": salt}
    return RequestContext(**given)
