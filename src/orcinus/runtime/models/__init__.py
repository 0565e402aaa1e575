"""Models as data: a row per architecture, and one decoder that all of them are."""

from __future__ import annotations

from orcinus.runtime.models.decoder import Decoder, Factory
from orcinus.runtime.models.families import ARCHITECTURES, WRAPPERS, Family, Place
from orcinus.runtime.models.spec import DecoderSpec, Rope

__all__ = ["ARCHITECTURES", "WRAPPERS", "Decoder", "DecoderSpec", "Factory", "Family", "Place", "Rope"]
