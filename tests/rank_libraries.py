"""What every process of `tests.rank_processes` has loaded before it is forked: torch, and what Numba needs of a kernel."""

from __future__ import annotations

from numba.core.registry import cpu_target

from orcinus.runtime.parallel import worker
from tests import rank_processes

__all__ = ["rank_processes", "worker"]

cpu_target.target_context.refresh()  # a second of every process else
