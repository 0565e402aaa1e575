"""The quantised modules of a checkpoint: found in its headers, checked, and read as the decoder needs them.

A layer whose parts are all stored on the grid of a product keeps its integers. All others are dequantised, piece by piece, as
they are read.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from orcinus.errors import ModelError
from orcinus.runtime.linear_weight import LayerFormats
from orcinus.runtime.models import Decoder, Family
from orcinus.runtime.models.family import Place
from orcinus.runtime.models.mixture import UNQUANTIZED
from orcinus.runtime.quant_methods.layout import CodeLayout, Grid, check_module
from orcinus.runtime.quant_methods.scheme import Scheme
from orcinus.runtime.quantized_tensor import QuantizedTensor, StoredNumbers
from orcinus.runtime.stored_format import StoredFormat
from orcinus.runtime.stored_groups import GroupsFormat
from orcinus.runtime.stored_int8 import Int8Format
from orcinus.runtime.weight_files import TensorHeader, files_of_tensors, map_tensors

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
    layer: str | None  # the decoder's linear layer that it fills, or a part of; None: an embedding, a head or a router
    scales: str  # their dtype
    kept: StoredFormat | None = None  # in which its layer keeps the integers; None: they are dequantised

    def headers(self) -> dict[str, TensorHeader]:
        """The tensors that stand for its own, by the last part of their names."""
        shape = self.shape[::-1] if self.place.transposed else self.shape
        if self.kept is not None:
            return self.kept.headers(self.shape) | {
                "weight": TensorHeader(self.kept.headers(self.shape)["weight"].dtype, shape)
            }
        grid = self.layout.grid
        return {"weight": TensorHeader("fp8" if grid.is_float else f"int{grid.bits}", shape)}


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
            found |= {f"{name}.{kind}": header for kind, header in module.headers().items()}
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
        module, _, kind = name.rpartition(".")
        return module in self.modules and kind in self.modules[module].headers()

    def read(self, folder: Path, wanted: Container[str], orders: Mapping[str, Tensor]) -> Iterator[tuple[str, QuantizedTensor]]:
        """The wanted tensors that `headers` made up, module by module. Raises `ModelError` if a file cannot be read."""
        files = files_of_tensors(folder)
        for name in self.zeros:
            if map_tensors(files, [name])[name].any():
                raise ModelError(f"{folder} holds {name}, which the model does not have")
        for name, module in self.modules.items():
            made = {kind: full for kind in module.headers() if (full := f"{name}.{kind}") in wanted}
            if not made:
                continue
            mapped = map_tensors(files, [f"{name}.{kind}" for kind in module.kinds])
            tensors = {full.rpartition(".")[2]: tensor for full, tensor in mapped.items()}
            try:
                blocks = module.layout.blocks(tensors, module.shape[1])
                if module.kept is not None:
                    module.kept.check(blocks)
            except ModelError as error:
                raise ModelError(f"{name} in {folder} cannot be read: {error}") from None
            numbers = StoredNumbers(module.layout, module.shape, tensors, blocks, module.kept)
            for kind, full in made.items():
                yield full, QuantizedTensor(numbers, kind, orders.get(full))

    def notes(self, quantization: str | None) -> Iterator[str]:
        """What becomes of the modules, where that is not what the files hold."""
        yield from (f"{self.method} weights: {remark}" for remark in self.remarks)
        lost = [module for module in self.modules.values() if module.kept is None]
        if lost and quantization is None:
            yield (
                f"{self.method} weights: {_counted(lost)} are dequantized as they are loaded: no product here takes their "
                "layers as they are. On a CPU, quantization int8 or int4 keeps them small"
            )

    @property
    def summary(self) -> str:
        """The modules by what becomes of them."""
        kept = [module for module in self.modules.values() if module.kept is not None]
        lost = [module for module in self.modules.values() if module.kept is None]
        parts = [f"{_counted(kept)} as they are"] * bool(kept) + [f"{_counted(lost)} dequantized"] * bool(lost)
        return f"{self.method}: {', '.join(parts)}"


def _counted(modules: Sequence[QuantizedModule]) -> str:
    grids = ", ".join(dict.fromkeys(module.layout.grid.words for module in modules))
    return f"{len(modules)} matrices ({grids})"


def find_modules(
    method: str, scheme: Scheme, files: Mapping[str, TensorHeader], family: Family, outline: Decoder, *, keeps: bool
) -> QuantizedModules:
    """The quantised modules of a checkpoint, whose layers keep their integers or not.

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
        of_layer = layer if layer in linears and layer.rpartition(".")[2] not in ("head", *UNQUANTIZED) else None
        modules[name] = QuantizedModule(layout, shape, own, place, of_layer, headers[layout.scale].dtype)
        if "bias" in headers and f"{layer}.bias" not in tensors:
            zeros.append(f"{name}.bias")
    read = {f"{name}.{kind}" for name, module in modules.items() for kind in module.kinds}
    ignored = {f"{name}.{kind}" for name, headers in kinds.items() for kind in headers if kind in IGNORED}
    parts = {name: len(linear.weight.split.parts) for name, linear in linears.items()}
    kept = _kept(modules.values(), parts) if keeps else {}
    modules = {name: replace(module, kept=kept.get(module.layer or "")) for name, module in modules.items()}
    formats = LayerFormats(tuple(kept.items()))
    return QuantizedModules(method, modules, formats, frozenset(ignored - read), tuple(zeros), scheme.notes)


def _shape(matrix: Tensor) -> tuple[int, int]:
    outputs, inputs = matrix.shape
    return outputs, inputs


def _kept(modules: Iterable[QuantizedModule], parts: Mapping[str, int]) -> dict[str, StoredFormat]:
    """The formats of layers that can keep their integers: every part is stored on the same grid."""
    found: dict[str, list[StoredFormat | None]] = {}
    for module in modules:
        if module.layer is not None:
            fills = parts[module.layer] if module.place.part is None else 1
            formats = [kept_format(module.layout.grid, module.shape[1], module.scales)] * fills
            found.setdefault(module.layer, []).extend(formats)
    same = {layer: formats[0] for layer, formats in found.items() if len(formats) == parts[layer] and len(set(formats)) == 1}
    return {layer: each for layer, each in same.items() if each is not None}


def kept_format(grid: Grid, inputs: int, scales: str) -> StoredFormat | None:
    """The format that keeps integers with scales of a dtype, in safetensors' words; None: there is none."""
    if Int8Format.suits(grid):
        return Int8Format()
    return GroupsFormat.of(grid, scales) if GroupsFormat.suits(grid, inputs) else None
