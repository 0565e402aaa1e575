"""The warning about an observer that failed."""

from __future__ import annotations

import logging

from orcinus.core.ports import Observer
from orcinus.errors import OrcinusError

log = logging.getLogger(__name__)


def warn_of_dropped(observer: Observer, error: Exception) -> None:
    """Log that an engine dropped an observer, and why."""
    why = str(error) if isinstance(error, OrcinusError) else repr(error)
    log.warning("%s is dropped, the engine goes on without it: %s", type(observer).__name__, why)
