"""A checkpoint folder: config, architecture and weights, all checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from orcinus.config import dtype_name
from orcinus.errors import ModelError, one_line
from orcinus.gguf_config import GgufArchitecture, gguf_architecture
from orcinus.gguf_file import is_gguf, read_gguf
from orcinus.model_config import config_name, config_of, read_config, shown
from orcinus.runtime.attention import ATTENTION, Attention
from orcinus.runtime.device import Device
from orcinus.runtime.device_memory import release_freed
from orcinus.runtime.dummy import fill_at_random
from orcinus.runtime.gguf_weights import gguf_family, read_gguf_tensors, scaled_rope
from orcinus.runtime.linear_weight import PLAIN_LAYERS, LayerFormats
from orcinus.runtime.models import (
    ARCHITECTURES,
    Decoder,
    DecoderSpec,
    Factory,
    Family,
    Linear,
    Piece,
    Place,
)
from orcinus.runtime.models.read_spec import find_architecture, read_spec
from orcinus.runtime.operators import PLAIN, Operators
from orcinus.runtime.parallel.collectives import ALONE, Collectives
from orcinus.runtime.parallel.mesh import WHOLE, MeshPlace
from orcinus.runtime.quant_methods import quantization_settings, read_scheme
from orcinus.runtime.quantized_modules import QuantizedModules, find_modules
from orcinus.runtime.stored_gguf import GgufMatrices, kept_matrices
from orcinus.runtime.stored_tensor import MappedTensor, StoredTensor
from orcinus.runtime.tensor_match import DTYPES, EMBEDDING, FLOATS, HEAD, match
from orcinus.runtime.transformers_backend import (
    TransformersSpec,
    check_weights,
    load_transformers_model,
    outline_of,
    read_transformers_spec,
)
from orcinus.runtime.weight_files import TensorHeader, equal_tensors, read_headers, read_tensors


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model folder's description; no weight has been read yet."""

    folder: Path  # or a GGUF file, which holds all that a folder does
    architecture: str
    spec: DecoderSpec
    dtype: torch.dtype | None  # dtype of the saved weights
    notes: tuple[str, ...] = ()  # where the weights differ from the config, one line each
    quantized: QuantizedModules | GgufMatrices | None = None  # None: its weights become plain
    gguf: GgufArchitecture | None = None  # how its tensors are named, if `folder` is a GGUF file

    @property
    def config_name(self) -> str:
        """The file that describes the model, for messages."""
        return config_name(self.folder)

    @property
    def family(self) -> Family:
        return ARCHITECTURES[self.architecture] if self.gguf is None else gguf_family(self.gguf)

    @property
    def formats(self) -> LayerFormats:
        """The formats of linear layers that are not filled with plain numbers."""
        return PLAIN_LAYERS if self.quantized is None else self.quantized.formats

    def headers(self, files: Mapping[str, TensorHeader]) -> Mapping[str, TensorHeader]:
        """The headers of its files, with one tensor for each quantised matrix."""
        return files if self.quantized is None else self.quantized.headers(files)

    def saved_bytes(self, names: Iterable[str], files: Mapping[str, TensorHeader]) -> int:
        """Bytes in the files of what is read for some names of `headers`."""
        read = names if self.quantized is None else self.quantized.files_of(names)
        return sum(files[name].num_bytes for name in read)


def open_checkpoint(folder: Path, model_impl: str = "auto") -> Checkpoint:
    """Read the config of a folder or GGUF file.

    `model_impl` says whose code runs its layers: ours, transformers', or ours if there is a row for it. Raises `ModelError` if
    the config is missing, broken, or of an architecture that cannot run so.
    """
    config = read_config(folder)
    if model_impl == "transformers":
        return _transformers_checkpoint(config, folder, f"model_impl transformers cannot run {folder}")
    try:
        architecture = find_architecture(config, folder)
    except ModelError as unknown:
        if model_impl == "orcinus":
            raise
        return _transformers_checkpoint(config, folder, f"{unknown}; transformers' code for it cannot run here, either")
    dtype = _saved_dtype(config, folder)
    family = ARCHITECTURES[architecture]
    try:
        spec = read_spec(config, family)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from None
    except Exception as error:  # a config can make its readers raise anything
        raise ModelError(f"{config_of(folder)} cannot be understood: {one_line(error)}") from error
    if not is_gguf(folder):
        return Checkpoint(folder, architecture, spec, dtype)
    spec = scaled_rope(replace(spec, norm_offset=0.0), folder)  # llama.cpp's converter adds the offset
    return Checkpoint(folder, architecture, spec, dtype, gguf=gguf_architecture(read_gguf(folder)))


def _transformers_checkpoint(config: Mapping[str, Any], folder: Path, refusal: str) -> Checkpoint:
    """A checkpoint whose layers are transformers'. Raises `ModelError`, which begins with `refusal`."""
    spec = read_transformers_spec(config, folder, refusal)
    return Checkpoint(folder, spec.architecture, spec, _saved_dtype(config, folder), notes=spec.notes)


def known_checkpoint(folder: Path, architecture: str, spec: DecoderSpec, device: str, *, keeps: bool) -> Checkpoint:
    """A checkpoint whose spec another process has found.

    transformers, which knows the defaults of configs, is not loaded for it.
    """
    config = read_config(folder)
    gguf = gguf_architecture(read_gguf(folder)) if is_gguf(folder) else None
    found = Checkpoint(folder, architecture, spec, _saved_dtype(config, folder), gguf=gguf)
    quantized = gguf is not None or quantization_settings(config)
    return with_quantized(found, read_headers(folder), device, keeps=keeps) if quantized else found


def with_quantized(
    checkpoint: Checkpoint, files: Mapping[str, TensorHeader], device: str, *, keeps: bool, dummy: bool = False
) -> Checkpoint:
    """The checkpoint, with what its files hold quantised, for a kind of device.

    A CPU `keeps` integers for which it has a product. Raises `ModelError` if something quantised cannot be read.
    """
    folder, keeps = checkpoint.folder, keeps and device == "cpu"
    if checkpoint.gguf is not None:
        if not keeps or dummy:
            return checkpoint
        matrices = kept_matrices(files, checkpoint.family, outline(checkpoint.spec))
        return replace(checkpoint, quantized=matrices) if matrices.types else checkpoint
    try:
        scheme = read_scheme(read_config(folder))
        if scheme is None:
            return checkpoint
        if dummy:
            raise ModelError("load_format dummy makes up plain weights only, and this checkpoint is quantized: use auto")
        found = find_modules(*scheme, files, checkpoint.family, outline(checkpoint.spec), keeps=keeps)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from None
    return replace(checkpoint, quantized=found)


def with_weights(checkpoint: Checkpoint, files: Mapping[str, TensorHeader], *, readable: bool) -> Checkpoint:
    """The checkpoint, completed with its weights' dtype and tied head.

    A head that differs from the embedding is kept even if the config ties them, as in transformers. Only `readable` weights
    can show that; with headers alone, the config is believed. Raises `ModelError` if a file cannot be read.
    """
    tensors = checkpoint.headers(files)
    floats = [tensor for tensor in tensors.values() if tensor.dtype in FLOATS]
    if checkpoint.dtype is None and floats:
        checkpoint = replace(checkpoint, dtype=FLOATS[max(floats, key=lambda tensor: tensor.num_bytes).dtype])
    if isinstance(checkpoint.spec, TransformersSpec):
        return checkpoint
    places = {place.parameter: name for name in tensors if (place := checkpoint.family.place(name))}
    if not (checkpoint.spec.tied and HEAD in places and EMBEDDING in places):
        return checkpoint
    head, embedding = places[HEAD], places[EMBEDDING]
    if not readable:
        ties = f"{checkpoint.config_name} ties the output to the embedding"
        note = f"{ties}, and {head} is stored too: they are compared when it is loaded"
        return replace(checkpoint, notes=(*checkpoint.notes, note))
    both_plain = {tensors[head].dtype, tensors[embedding].dtype} <= FLOATS.keys()
    if both_plain and equal_tensors(checkpoint.folder, head, embedding):
        return checkpoint
    note = (
        f"{checkpoint.config_name} ties the output to the embedding, but {head} differs from {embedding}: both are kept; "
        f"write tie_word_embeddings false into {checkpoint.config_name} if that is meant"
    )
    return replace(checkpoint, spec=replace(checkpoint.spec, tied=False), notes=(*checkpoint.notes, note))


@lru_cache(maxsize=8)
def outline(
    spec: DecoderSpec,
    dtype: torch.dtype = torch.float32,
    formats: LayerFormats = PLAIN_LAYERS,
    place: MeshPlace = WHOLE,
    quantization: str | None = None,
) -> Decoder:
    """The decoder, or a rank's part, on the meta device.

    Raises `ConfigError` if it is impossible.
    """
    make = Factory(torch.device("meta"), dtype, formats=formats, quantization=quantization, place=place)
    attend = ATTENTION["reference"]()
    return outline_of(spec, attend, make) if isinstance(spec, TransformersSpec) else Decoder(spec, attend, make)


def load_model(
    checkpoint: Checkpoint,
    device: Device,
    attend: Attention,
    operators: Operators = PLAIN,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    dummy: bool = False,
    quantization: str | None = None,
    place: MeshPlace = WHOLE,
    collectives: Collectives = ALONE,
    complete: Callable[[str, Linear], None] = lambda name, linear: None,
) -> Decoder:
    """Build the decoder on the device and fill it with weights.

    At a place of a mesh, only that rank's part is built, and only its bytes are read. The decoder is made where it will run, so
    a GPU's model has no second copy in the machine's memory: one tensor of the files is mapped at a time, and a device other
    than the CPU holds one more tensor while it is converted. Each layer is packed or quantised when it is complete. `dummy`
    makes random weights instead. `complete` is called for every linear layer with its weights as they were saved, before it is
    packed or quantised: adapters are added there. `progress` is called after every tensor with the bytes loaded and the bytes
    in all. Raises `ModelError` if weights and config disagree.
    """
    make = Factory(device.device, device.dtype, operators, checkpoint.formats, quantization, place, collectives)
    if isinstance(checkpoint.spec, TransformersSpec):
        folder = None if dummy else checkpoint.folder
        return load_transformers_model(checkpoint.spec, folder, checkpoint.dtype, attend, make, progress)
    model = Decoder(checkpoint.spec, attend, make)
    if dummy:
        whole = outline(checkpoint.spec)
        fill_at_random(model, whole, progress, model.process_when_filled(whole.tensors(), complete))
    else:
        _fill_from_files(model, checkpoint, progress, complete)
    model.process_after_loading()
    if quantization is not None or checkpoint.quantized is not None:
        release_freed()
    return model


def _fill_from_files(
    model: Decoder,
    checkpoint: Checkpoint,
    progress: Callable[[int, int], None],
    complete: Callable[[str, Linear], None],
) -> None:
    """Fill the model from the files, after checking all of them."""
    headers = checkpoint.headers(read_headers(checkpoint.folder))
    places = match(checkpoint, outline(checkpoint.spec, model.dtype, checkpoint.formats), headers)
    found = {name: list(_pieces(model, place)) for name, place in places.items()}
    pieces = {name: each for name, each in found.items() if each}
    sizes = {
        name: headers[name].bytes_of(sum(piece.target.numel() for _, mine in each for piece in mine))
        for name, each in pieces.items()
    }
    done, total = 0, sum(sizes.values())
    filled = model.process_when_filled([parameter for each in pieces.values() for parameter, _ in each], complete)
    del found
    for name, tensor in _stored_tensors(checkpoint, {name: places[name] for name in sizes}):
        left = pieces.pop(name)
        while left:
            parameter, mine = left.pop()  # the last reference to a weight that is packed or quantised when it is filled
            for piece in mine:
                tensor.copy_to(piece.target, piece.region, transposed=places[name].transposed)
                if piece.added:
                    piece.target.add_(piece.added)
            del piece, mine
            filled(parameter)
        done += sizes[name]
        progress(done, total)


def _pieces(model: Decoder, place: Place) -> Iterator[tuple[str, list[Piece]]]:
    """The parameters at a place that this rank holds some of, and the pieces of each, as regions of the stored tensor."""
    for number, parameter in enumerate(place.parameters(model.spec.num_experts)):
        if pieces := model.pieces(parameter, place.part):
            first = (number,) if place.stacked else ()
            yield parameter, [piece._replace(region=(*first, *piece.region)) for piece in pieces]


def _stored_tensors(checkpoint: Checkpoint, wanted: Mapping[str, Place]) -> Iterator[tuple[str, StoredTensor]]:
    """The wanted tensors of a checkpoint, mapped one at a time."""
    if checkpoint.gguf is not None:
        yield from read_gguf_tensors(checkpoint.folder, wanted, checkpoint.spec)
        return
    orders = {name: torch.from_numpy(place.order(checkpoint.spec)) for name, place in wanted.items() if place.order is not None}
    assert not isinstance(checkpoint.quantized, GgufMatrices)
    made = set() if checkpoint.quantized is None else {name for name in wanted if checkpoint.quantized.has(name)}
    for name, tensor in read_tensors(checkpoint.folder, wanted.keys() - made):
        yield name, MappedTensor(tensor, orders.get(name))
    if checkpoint.quantized is not None:  # after biases, so that each layer gets its final form when its matrix is there
        yield from checkpoint.quantized.read(checkpoint.folder, made, orders)


def used_tensors(checkpoint: Checkpoint, tensors: Mapping[str, TensorHeader]) -> Collection[str]:
    """The names of the tensors that are loaded. Raises `ModelError` if they do not fit the config."""
    if isinstance(checkpoint.spec, TransformersSpec):
        check_weights(checkpoint.spec, checkpoint.folder, tensors)
        return tensors
    return match(checkpoint, outline(checkpoint.spec, formats=checkpoint.formats), checkpoint.headers(tensors))


def _saved_dtype(config: Mapping[str, Any], folder: Path) -> torch.dtype | None:
    """The dtype that a config names; None if it names none."""
    named = config.get("dtype") if config.get("dtype") is not None else config.get("torch_dtype")
    if named is None or named == "auto":
        return None
    dtype = DTYPES.get(dtype_name(named)) if isinstance(named, str) else None
    if dtype is None:
        raise ModelError(f"{config_of(folder)} says dtype {shown(named)}: known are auto, {', '.join(DTYPES)}")
    return dtype
