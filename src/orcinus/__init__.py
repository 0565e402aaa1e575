"""Orcinus: an LLM serving engine with iteration-level scheduling.

It decides what to run once per iteration, not once per request. The names below load on first use, because torch and
transformers take seconds: `import orcinus` itself takes none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from orcinus.threads import set_waiting

if TYPE_CHECKING:
    from orcinus.config import EngineConfig
    from orcinus.core.sampling_params import SamplingParams
    from orcinus.core.structured_outputs import StructuredOutputs
    from orcinus.errors import OrcinusError
    from orcinus.llm import LLM, RequestOutput
    from orcinus.sim.config import SimulationConfig
    from orcinus.sim.simulate import simulate

__version__ = "0.1.0"
__all__ = [
    "LLM",
    "EngineConfig",
    "OrcinusError",
    "RequestOutput",
    "SamplingParams",
    "SimulationConfig",
    "StructuredOutputs",
    "simulate",
]

set_waiting()  # before torch is loaded

_HOME = {
    "LLM": "orcinus.llm",
    "RequestOutput": "orcinus.llm",
    "EngineConfig": "orcinus.config",
    "SamplingParams": "orcinus.core.sampling_params",
    "StructuredOutputs": "orcinus.core.structured_outputs",
    "OrcinusError": "orcinus.errors",
    "SimulationConfig": "orcinus.sim.config",
    "simulate": "orcinus.sim.simulate",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'orcinus' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
