"""Which requests run in the next iteration. One policy a file, and one line here."""

from __future__ import annotations

from orcinus.core.policies.orca import Orca
from orcinus.core.policies.request_level import RequestLevel
from orcinus.core.ports import Policy

POLICIES: dict[str, type[Policy]] = {
    "request-level": RequestLevel,
    "orca": Orca,
}

__all__ = ["POLICIES", "Orca", "RequestLevel"]
