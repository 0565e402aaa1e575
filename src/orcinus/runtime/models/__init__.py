"""Models as data: a row per architecture, and one decoder for all.

Names that need torch load on first use: the registry of architectures does without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from orcinus.runtime.models.families import ARCHITECTURES
from orcinus.runtime.models.family import WRAPPERS, Family, Place
from orcinus.runtime.models.spec import DecoderSpec, MixtureSpec, Rope

if TYPE_CHECKING:
    from orcinus.runtime.models.decoder import Decoder
    from orcinus.runtime.models.linear import Factory, Linear, Piece, PlainWeight

__all__ = [
    "ARCHITECTURES",
    "WRAPPERS",
    "Decoder",
    "DecoderSpec",
    "Factory",
    "Family",
    "Linear",
    "MixtureSpec",
    "Piece",
    "Place",
    "PlainWeight",
    "Rope",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'decoder' if name == 'Decoder' else 'linear'}"), name)
