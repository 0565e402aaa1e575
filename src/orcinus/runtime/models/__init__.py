"""Models as data: a row per architecture, and one decoder for all."""

from __future__ import annotations

from orcinus.runtime.models.decoder import Decoder
from orcinus.runtime.models.families import ARCHITECTURES, WRAPPERS, Family, Place
from orcinus.runtime.models.linear import LINEAR_WEIGHTS, Factory, Linear, Piece, PlainWeight
from orcinus.runtime.models.spec import DecoderSpec, Rope

__all__ = [
    "ARCHITECTURES",
    "LINEAR_WEIGHTS",
    "WRAPPERS",
    "Decoder",
    "DecoderSpec",
    "Factory",
    "Family",
    "Linear",
    "Piece",
    "Place",
    "PlainWeight",
    "Rope",
]
