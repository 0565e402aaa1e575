"""Formats that plain weights can be turned into when a model is loaded: the option `quantization`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from orcinus.runtime.cpu_kernels.vectors import has
from orcinus.runtime.int8_weights import Int8Weight
from orcinus.runtime.linear_weight import LinearWeight, Quantizer
from orcinus.runtime.rounded_weights import Int4Weight, Rounded8


class QuantizedWeight(Quantizer, Protocol):
    """What a format of `QUANTIZED_WEIGHTS` provides."""

    def ones(self, outputs: int, inputs: int) -> LinearWeight:
        """A weight of ones, for measurements."""
        ...

    def check(self) -> None:
        """Raise `ConfigError` if this machine cannot multiply such weights."""
        ...

    def check_shards(self, slices: Iterable[slice]) -> None:
        """Raise `ConfigError` if ranks cannot have these slices of the inputs."""
        ...

    def notes(self) -> Iterator[str]:
        """What a user of this machine should know."""
        ...

    def working_bytes(self, inputs: int, outputs: int, itemsize: int) -> float:
        """Bytes that a product adds to working memory for each row; `itemsize` is that of activations."""
        ...


# Tiles (AMX), which oneDNN knows, multiply a prompt's bytes several times as fast as vectors (ADR 78).
INT8 = Int8Weight if has("amx-int8") else Rounded8
QUANTIZED_WEIGHTS: Mapping[str, QuantizedWeight] = {"int8": INT8, "int4": Int4Weight}


def head_format(name: str) -> Quantizer:
    """The format of a head: 8 bits beside 4-bit layers, which takes back a third of what four bits lose (docs/log.md)."""
    return Rounded8 if name == "int4" else QUANTIZED_WEIGHTS[name]
