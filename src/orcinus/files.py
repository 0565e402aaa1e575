"""Checks that a file can be written, before the work begins."""

from __future__ import annotations

import os
from pathlib import Path


def can_write(path: str | Path) -> bool:
    """Whether this user may create or overwrite a file there."""
    path = Path(path)
    if path.exists():
        return not path.is_dir() and os.access(path, os.W_OK)
    return os.access(path.parent, os.W_OK | os.X_OK)
