"""Architectures without a row of our own: transformers' layers over our attention and K/V memory.

The idea is vLLM's Transformers backend: transformers' decoders call attention through a table of functions, and ours is one
more entry of it. A flat batch is one sequence to all of their code, because nothing but attention looks at another token:
`probe` shows that before a weight is read.
"""

from __future__ import annotations

from orcinus.runtime.transformers_backend.decoder import TransformersDecoder
from orcinus.runtime.transformers_backend.probe import read_transformers_spec
from orcinus.runtime.transformers_backend.spec import TransformersSpec
from orcinus.runtime.transformers_backend.weights import check_weights, load_transformers_model, outline_of

__all__ = [
    "TransformersDecoder",
    "TransformersSpec",
    "check_weights",
    "load_transformers_model",
    "outline_of",
    "read_transformers_spec",
]
