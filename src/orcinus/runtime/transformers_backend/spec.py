"""The sizes of a model whose layers are transformers' code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orcinus.runtime.models.spec import DecoderSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformersSpec(DecoderSpec):
    """What plans, attention and K/V memory have to know of such a model; the probe finds it out.

    The switches of our own layers mean nothing here.
    """

    architecture: str  # transformers' class
    config: str  # config.json as JSON, without what would change how transformers runs a model
    experts: bool  # whether some weights are no linear layers' (mixtures of experts): our products do not replace theirs
    norm: Literal["rms", "layer"] = "rms"
    norm_eps: float = 0.0
    activation: str = ""
    gated_mlp: bool = True
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know, one line each."""
        others = ", and its experts are transformers' own, too" if self.experts else ""
        return (f"the layers of {self.architecture} are transformers' own code, slower than a row of our own{others}",)
