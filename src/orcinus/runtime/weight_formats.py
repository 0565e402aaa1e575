"""What becomes of each stored format of weights on this machine, from the registries of formats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from orcinus.errors import ConfigError
from orcinus.gguf_file import TYPES
from orcinus.runtime.checkpoint import FLOATS
from orcinus.runtime.device import DTYPES, choose_device
from orcinus.runtime.device_memory import MOST_READ, product_bandwidth
from orcinus.runtime.packed_weights import layout_name
from orcinus.runtime.quant_methods.layout import Grid
from orcinus.runtime.quantized_modules import kept_format
from orcinus.runtime.quantized_weights import QUANTIZED_WEIGHTS
from orcinus.runtime.weight_files import BITS

KEPT = "as stored, with products of its own"
WIDTH = 4096  # inputs of a measured product
BILLION = 10**9
GRIDS = {  # of quantised checkpoints, by what their numbers are
    "int8, a scale for each output": Grid(8),
    "8 bits in groups of 128": Grid(8, group=128),
    "4 bits in groups of 128": Grid(4, group=128),
    "4 bits in groups of 128 with zero points": Grid(4, group=128, zero_points=True),
    "FP8": Grid(8, is_float=True),
}


@dataclass(frozen=True, slots=True)
class ServedFormat:
    """A format of weights, and the product that multiplies it on this machine."""

    source: str  # of the weights, or the option that makes them
    name: str
    bits: float  # of a weight, as it is stored or made
    served: str  # how products read it; or why there are none
    dtype: str | None  # of activations; None: it cannot be multiplied here
    quantization: str | None = None  # in `QUANTIZED_WEIGHTS`

    @property
    def product(self) -> tuple[str | None, str | None]:
        """What its speed depends on."""
        return self.dtype, self.quantization


def served_formats() -> list[ServedFormat]:
    """Every format that can be loaded or made, in the order of the registries."""
    return [*_floats(), *_checkpoints(), *_gguf(), *_quantized()]


def decode_ms(each: ServedFormat) -> float:
    """Milliseconds in which a decode multiplies a billion weights; measured, over a tenth of a second."""
    assert each.dtype is not None, "it cannot be multiplied here"
    dtype = DTYPES[each.dtype]
    rate = product_bandwidth(torch.device("cpu"), dtype, MOST_READ, WIDTH, 1, quantization=each.quantization)
    made = None if each.quantization is None else QUANTIZED_WEIGHTS[each.quantization]
    size = dtype.itemsize if made is None else made.bytes_of((WIDTH, WIDTH)) / WIDTH**2
    return 1000 * BILLION * size / rate


def _floats() -> Iterator[ServedFormat]:
    for name, dtype in FLOATS.items():
        yield _upcast("safetensors", name, dtype)


def _checkpoints() -> Iterator[ServedFormat]:
    for name, grid in GRIDS.items():
        kept = kept_format(grid, WIDTH, "F16")
        if kept is None:
            yield _upcast("quantised safetensors", name, None, torch.bfloat16, grid.bits)
        else:
            dtype = choose_device("auto", "auto", torch.bfloat16).dtype_name
            yield ServedFormat("quantised safetensors", name, grid.bits, KEPT, dtype, kept.product)


def _gguf() -> Iterator[ServedFormat]:
    for kind in TYPES.values():
        yield _upcast("GGUF", kind.name, FLOATS.get(kind.name))


def _upcast(
    source: str, name: str, stored: torch.dtype | None, checkpoint: torch.dtype | None = None, bits: float | None = None
) -> ServedFormat:
    """A format whose numbers become those of the engine's dtype.

    `stored` is None for blocks, and for what has scales; `checkpoint` is then the dtype that its config names.
    """
    device = choose_device("auto", "auto", stored or checkpoint)
    layout = f"{device.dtype_name}, {layout_name(device.device.type, device.dtype)}"
    verb = "" if stored is device.dtype else "dequantised to " if stored is None else "converted to "
    return ServedFormat(source, name, BITS[name] if bits is None else bits, verb + layout, device.dtype_name)


def _quantized() -> Iterator[ServedFormat]:
    dtype = choose_device("auto", "auto", torch.bfloat16).dtype_name
    for name, made in QUANTIZED_WEIGHTS.items():
        bits = 8 * made.bytes_of((WIDTH, WIDTH)) / WIDTH**2
        try:
            made.check()
        except ConfigError as error:
            yield ServedFormat("--quantization", name, bits, f"not here: {error}", None)
            continue
        notes = "".join(f"; {note}" for note in made.notes())
        yield ServedFormat("--quantization", name, bits, f"made at loading, with products of its own{notes}", dtype, name)
