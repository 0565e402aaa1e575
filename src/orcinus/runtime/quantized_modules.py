"""The quantised modules of a checkpoint: found in its headers, checked, and read as the decoder needs them.

A layer whose parts are all stored on the grid of a product keeps its integers. All others are dequantised, piece by piece, as
they are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from orcinus.errors import ModelError
from orcinus.runtime.linear_weight import LayerFormats, WeightFormat
from orcinus.runtime.models import Decoder, Family
from orcinus.runtime.models.family import Place
from orcinus.runtime.quant_methods.layout import Blocks, CodeLayout, Grid, check_module, pieces_of
from orcinus.runtime.quant_methods.scheme import Scheme
from orcinus.runtime.stored_int8 import Int8Format
from orcinus.runtime.stored_tensor import put
from orcinus.runtime.weight_files import TensorHeader, files_of_tensors, map_tensors

AT_ONCE = 2**21  # numbers that are dequantised at once
# Tensors that say nothing about weights: scales of activations, keys and values, and what settings say already.
IGNORED = (
    *("input_scale", "input_zero_point", "input_global_scale", "output_scale", "output_zero_point", "input_scale_ub"),
    *("weight_shape", "weight_format", "weight_g_idx", "g_idx", "q_scale", "k_scale", "v_scale"),
)


@dataclass(frozen=True, slots=True)
class QuantizedModule:
    """A module of the checkpoint, by its name there."""

    layout: CodeLayout
    shape: tuple[int, int]
    kinds: tuple[str, ...]  # its tensors, by the last part of their names
    place: Place
    layer: str | None  # the decoder's linear layer that it fills, or a part of; None: an embedding or a head


@dataclass(frozen=True, slots=True)
class QuantizedModules:
    """What a checkpoint stores quantised, and what it becomes on a device."""

    method: str
    modules: Mapping[str, QuantizedModule]
    formats: LayerFormats  # of layers that keep their integers
    ignored: frozenset[str]  # tensors that nothing reads
    zeros: tuple[str, ...]  # biases that the model does not have: some writers add them
    remarks: tuple[str, ...]  # about its settings

    def headers(self, files: Mapping[str, TensorHeader]) -> dict[str, TensorHeader]:
        """The headers of the files, with a `weight` (and a `scale`) in place of each module's own tensors."""
        own = {f"{name}.{kind}" for name, module in self.modules.items() for kind in module.kinds}
        found = {name: header for name, header in files.items() if name not in own | self.ignored | {*self.zeros}}
        for name, module in self.modules.items():
            grid = module.layout.grid
            kept = self._keeps(module)
            dtype = "I8" if kept else "fp8" if grid.is_float else f"int{grid.bits}"
            found[f"{name}.weight"] = TensorHeader(dtype, module.shape[::-1] if module.place.transposed else module.shape)
            if kept:
                found[f"{name}.scale"] = TensorHeader("F32", module.shape[:1])
        return found

    def files_of(self, names: Iterable[str]) -> set[str]:
        """The tensors of the files behind some names of `headers`."""
        found: set[str] = set()
        for name in names:
            module = name.rpartition(".")[0]
            found |= {f"{module}.{kind}" for kind in self.modules[module].kinds} if self.has(name) else {name}
        return found

    def has(self, name: str) -> bool:
        """Whether a header is one of those that `headers` makes up."""
        return name.rpartition(".")[0] in self.modules and name.endswith((".weight", ".scale"))

    def read(self, folder: Path, wanted: Container[str], orders: Mapping[str, Tensor]) -> Iterator[tuple[str, QuantizedTensor]]:
        """The wanted tensors that `headers` made up, module by module. Raises `ModelError` if a file cannot be read."""
        files = files_of_tensors(folder)
        for name in self.zeros:
            if map_tensors(files, [name])[name].any():
                raise ModelError(f"{folder} holds {name}, which the model does not have")
        for name, module in self.modules.items():
            made = {kind: full for kind in ("weight", "scale") if (full := f"{name}.{kind}") in wanted}
            if not made:
                continue
            mapped = map_tensors(files, [f"{name}.{kind}" for kind in module.kinds])
            tensors = {full.rpartition(".")[2]: tensor for full, tensor in mapped.items()}
            try:
                blocks = module.layout.blocks(tensors, module.shape[1])
            except ModelError as error:
                raise ModelError(f"{name} in {folder} cannot be dequantized: {error}") from None
            for kind, full in made.items():
                yield full, QuantizedTensor(module, tensors, blocks, kind, self._keeps(module), orders.get(full))

    def notes(self, quantization: str | None) -> Iterator[str]:
        """What becomes of the modules, where that is not what the files hold."""
        yield from (f"{self.method} weights: {remark}" for remark in self.remarks)
        layers = {module.layer: module for module in self.modules.values() if not self._keeps(module)}
        if not layers or quantization is not None:
            return
        count = sum(not self._keeps(module) for module in self.modules.values())
        grids = ", ".join(Counter(_words(module.layout.grid) for module in layers.values()))
        yield (
            f"{self.method} weights: {count} of {len(self.modules)} matrices ({grids}) are dequantized as they are loaded: "
            "no product here takes their layers as they are. On a CPU, quantization int8 or int4 keeps them small"
        )

    def _keeps(self, module: QuantizedModule) -> bool:
        return module.layer is not None and self.formats.of(module.layer) is not None


def _words(grid: Grid) -> str:
    return "8-bit floats" if grid.is_float else f"{grid.bits} bits"


def find_modules(
    method: str, scheme: Scheme, files: Mapping[str, TensorHeader], family: Family, outline: Decoder, device: str
) -> QuantizedModules:
    """The quantised modules of a checkpoint, for a kind of device.

    Raises `ModelError` if settings and headers contradict each other.
    """
    kinds: dict[str, dict[str, TensorHeader]] = {}
    for name, header in files.items():
        owner, _, kind = name.rpartition(".")
        kinds.setdefault(owner, {})[kind] = header
    linears, tensors = outline.linears(), outline.tensors()
    modules, zeros = {}, []
    for name, headers in kinds.items():
        place = family.place(f"{name}.weight")
        if place is None or place.parameter not in tensors or (layout := scheme.layout(name, headers)) is None:
            continue
        shape = _shape(outline.part(place.parameter, place.part))
        own = check_module(name, layout, headers, shape)
        layer = place.parameter.removesuffix(".weight")
        modules[name] = QuantizedModule(layout, shape, own, place, layer if layer in linears and layer != "head" else None)
        if "bias" in headers and f"{layer}.bias" not in tensors:
            zeros.append(f"{name}.bias")
    read = {f"{name}.{kind}" for name, module in modules.items() for kind in module.kinds}
    ignored = {f"{name}.{kind}" for name, headers in kinds.items() for kind in headers if kind in IGNORED}
    parts = {name: len(linear.weight.split.parts) for name, linear in linears.items()}
    formats = _formats(modules.values(), parts) if device == "cpu" else LayerFormats()
    return QuantizedModules(method, modules, formats, frozenset(ignored - read), tuple(zeros), scheme.notes)


def _shape(matrix: Tensor) -> tuple[int, int]:
    outputs, inputs = matrix.shape
    return outputs, inputs


def _formats(modules: Iterable[QuantizedModule], parts: Mapping[str, int]) -> LayerFormats:
    """The formats of layers that can keep their integers: every part is stored on the same grid."""
    found: dict[str, list[WeightFormat | None]] = {}
    for module in modules:
        if module.layer is not None:
            fills = parts[module.layer] if module.place.part is None else 1
            found.setdefault(module.layer, []).extend([kept_format(module.layout.grid)] * fills)
    kept = ((layer, formats[0]) for layer, formats in found.items() if len(formats) == parts[layer] and len(set(formats)) == 1)
    return LayerFormats(tuple((layer, each) for layer, each in kept if each is not None))


def kept_format(grid: Grid) -> WeightFormat | None:
    """The format that keeps the integers of a grid; None: there is none."""
    return Int8Format() if Int8Format.suits(grid) else None


@dataclass(frozen=True, slots=True)
class QuantizedTensor:
    """A module's numbers, integers or scales, read in pieces."""

    module: QuantizedModule
    tensors: Mapping[str, Tensor]  # views of the files
    blocks: Blocks
    kind: str  # weight or scale
    keeps: bool  # whether a weight stays integers
    order: Tensor | None = None  # the file's row for each of the decoder's; None = they are in the same order

    def copy_to(self, target: Tensor, region: tuple[slice | int, ...], *, transposed: bool) -> None:
        """Fill `target` with a region of the tensor, in the dtype of the target."""
        del transposed  # the numbers of a module are [outputs, inputs] wherever they lie
        spans = [
            part for part in (*region, slice(None), slice(None)) if isinstance(part, slice)
        ]  # no matrix of stacked experts
        rows, columns = (range(size)[span] for size, span in zip(self.module.shape, spans, strict=False))
        if self.kind == "scale":
            scale = self.blocks.scale
            target.copy_(scale[self._rows(rows), 0] if len(scale) > 1 else scale[0])
            return
        for piece in pieces_of(rows, columns, AT_ONCE):
            some = self._rows(piece)
            codes = self.module.layout.codes(self.tensors, some, columns)
            numbers = self.blocks.integers(codes, some, columns) if self.keeps else self.blocks.dequantize(codes, some, columns)
            put(numbers, target[piece.start - rows.start : piece.stop - rows.start], transposed=False)

    def _rows(self, rows: range) -> Tensor:
        return torch.arange(rows.start, rows.stop) if self.order is None else self.order[rows.start : rows.stop]
