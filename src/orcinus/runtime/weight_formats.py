"""What becomes of each stored format of weights on this machine, from the registries of formats."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import torch

from orcinus.errors import ConfigError
from orcinus.gguf_file import TYPES
from orcinus.runtime.device import DTYPES, choose_device
from orcinus.runtime.device_memory import best_seconds
from orcinus.runtime.gguf_levels import KEPT_TYPES
from orcinus.runtime.linear_weight import LinearWeight, Split, WeightFormat
from orcinus.runtime.models import PlainWeight
from orcinus.runtime.packed_weights import layout_name
from orcinus.runtime.quant_methods.layout import Grid
from orcinus.runtime.quantized_modules import kept_format
from orcinus.runtime.quantized_weights import QUANTIZED_WEIGHTS
from orcinus.runtime.stored_gguf import GgufFormat
from orcinus.runtime.tensor_match import FLOATS
from orcinus.runtime.weight_files import BITS

KEPT = "as stored, with products of its own"
WIDTH = 4096  # inputs of a measured product
BILLION = 10**9
MEASURED = 2**26  # bytes of a measured weight: more than caches hold
CPU = torch.device("cpu")
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
    kept: WeightFormat | None = None  # of a checkpoint's integers

    @property
    def product(self) -> Hashable:
        """What its speed depends on."""
        return self.dtype, self.quantization, self.kept

    def weight(self, outputs: int, inputs: int) -> LinearWeight:
        """A weight of ones in this format, for measurements."""
        if self.quantization is not None:
            return QUANTIZED_WEIGHTS[self.quantization].ones(outputs, inputs)
        make = PlainWeight.make if self.kept is None else self.kept.make
        made = make((outputs, inputs), Split.columns(outputs), DTYPES[self.dtype or "float32"], CPU)
        for tensor in made.tensors().values():
            tensor.fill_(1)
        return made.process_after_loading()


def served_formats() -> list[ServedFormat]:
    """Every format that can be loaded or made, in the order of the registries."""
    return [*_floats(), *_checkpoints(), *_gguf(), *_quantized()]


def decode_ms(each: ServedFormat) -> float:
    """Milliseconds in which a decode multiplies a billion weights; measured, over a tenth of a second."""
    assert each.dtype is not None, "it cannot be multiplied here"
    dtype = DTYPES[each.dtype]
    plain = each.quantization is None and each.kept is None
    outputs = int(MEASURED / (WIDTH * (dtype.itemsize if plain else each.bits / 8)))
    weight, x = each.weight(outputs, WIDTH), torch.ones(1, WIDTH, dtype=dtype)
    return 1000 * BILLION * best_seconds(lambda: weight.multiply(x, None).sum()) / (outputs * WIDTH)


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
            yield ServedFormat("quantised safetensors", name, grid.bits, KEPT, dtype, kept=kept)


def _gguf() -> Iterator[ServedFormat]:
    for kind in TYPES.values():
        if (kept := KEPT_TYPES.get(kind.name)) is None:
            yield _upcast("GGUF", kind.name, FLOATS.get(kind.name))
            continue
        dtype = choose_device("auto", "auto", None).dtype_name
        served = f"kept in {8 * kept.grid.bytes_of((WIDTH, WIDTH)) / WIDTH**2:.1f} bits, with products of its own"
        yield ServedFormat("GGUF", kind.name, BITS[kind.name], served, dtype, kept=GgufFormat((kind.name,)))


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
