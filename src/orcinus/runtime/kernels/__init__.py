"""The GPU path's kernels, in Triton: one concept a file.

Every file but `launch_configs` can be imported only where triton is.

All of them are made to be captured in a CUDA graph: what they launch depends on the shapes of tensors and on numbers
that the host knows, never on values that lie on the device, and nothing waits for the device.
"""

from __future__ import annotations

import os
from importlib.util import find_spec


def available() -> bool:
    """Whether triton is installed, so that the kernels can be imported."""
    return find_spec("triton") is not None


def interpreted() -> bool:
    """Whether triton interprets kernels on tensors of the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"
