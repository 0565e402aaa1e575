"""The peers: which adapter each has, and in which Python it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from environments import FOLDER, HERE, LLAMA, VLLM, Environment, Say


@dataclass(frozen=True, slots=True)
class Kind:
    """A peer. Without an environment of its own it runs in the Python that runs this."""

    adapter: Path
    environment: Environment | None = None
    quantizes: bool = False  # whether it can round a plain checkpoint's weights to 8 and 4 bits

    def command(self, say: Say) -> list[str | Path]:
        """What starts its adapter, after making its environment. Raises `NotInstalled`."""
        if self.environment:
            self.environment.make(say)
        return [self.environment.python if self.environment else sys.executable, self.adapter]

    def variables(self, threads: int) -> dict[str, str]:
        """The process's environment: the same threads for all, and nothing from the hub."""
        own = {name: value for name, value in os.environ.items() if not (self.environment and name == "PYTHONPATH")}
        counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads))
        quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}
        return own | counts | quiet


BASE = "orcinus"  # whom the others are compared with
PEERS: Mapping[str, Kind] = {
    BASE: Kind(HERE / "adapter_orcinus.py", quantizes=True),
    "hf-generate": Kind(HERE / "adapter_hf_generate.py"),
    "hf-continuous": Kind(HERE / "adapter_hf_continuous.py"),
    "vllm": Kind(HERE / "adapter_vllm.py", VLLM),
    "llama.cpp": Kind(HERE / "adapter_llama_cpp.py", LLAMA, quantizes=True),
}


def log_of(name: str) -> Path:
    """Where what a peer prints goes."""
    FOLDER.mkdir(exist_ok=True)
    return FOLDER / f"{name}.log"
