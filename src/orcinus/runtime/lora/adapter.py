"""An adapter's folder, matched with a model by headers alone."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orcinus.errors import ModelError
from orcinus.runtime.checkpoint import Checkpoint, outline
from orcinus.runtime.hub import find_adapter
from orcinus.runtime.lora.adapter_config import AdapterConfig, read_adapter_config
from orcinus.runtime.models import ARCHITECTURES, Decoder
from orcinus.runtime.models.linear import Linear
from orcinus.runtime.models.row_order import RowOrder
from orcinus.runtime.tensor_match import FLOATS
from orcinus.runtime.weight_files import TensorHeader, file_headers, some

WEIGHTS = "adapter_model.safetensors"
TENSOR = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight")
NUMBER = re.compile(r"\d+")
ONE_LAYER = re.compile(r"(?:^|\.)\d+\.")  # in a target: the name of one layer's module
ADAPTED = re.compile(r"layers\.\d+\.(?:attention\.(?:qkv|out)|mlp\.(?:up|down))")
CANNOT = {"lora_embedding_": "an embedding", "lora_magnitude_vector": "DoRA"}


@dataclass(frozen=True, slots=True)
class Pair:
    """The A and the B of one module of the checkpoint, and their place in the decoder."""

    linear: str  # the decoder's linear layer
    part: int | None  # of a fused layer
    order: RowOrder | None  # of B's rows, if it differs from the decoder's
    rank: int
    scale: float
    a: str  # names of the tensors: A [rank, inputs] …
    b: str  # … and B [outputs, rank]


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter that fits a model; no weight has been read yet."""

    name: str
    folder: Path
    pairs: Mapping[str, tuple[Pair, ...]]  # by the decoder's linear layer
    base: str | None  # the model that it was trained on

    @property
    def file(self) -> Path:
        return self.folder / WEIGHTS

    def num_weights(self, part: Decoder) -> int:
        """Numbers of A and B in a rank's part of a model."""
        found = part.linears()
        pairs = [(found[name], pair) for name, pairs in self.pairs.items() if name in found for pair in pairs]
        return sum(pair.rank * sum(share.lengths) for linear, pair in pairs for share in linear.shares(pair.part))


def open_adapters(asked: Sequence[tuple[str, str]], checkpoint: Checkpoint) -> tuple[Adapter, ...]:
    """The adapters of these names and paths.

    Raises `ModelError` if one cannot be served with this model.
    """
    return tuple(_open(name, path, checkpoint) for name, path in asked)


def _open(name: str, path: str, checkpoint: Checkpoint) -> Adapter:
    try:
        folder = find_adapter(path)
        config = read_adapter_config(folder)
        return Adapter(name, folder, _match(config, folder, checkpoint), config.base)
    except ModelError as error:
        raise ModelError(f"adapter {name}: {error}") from None


def _match(config: AdapterConfig, folder: Path, checkpoint: Checkpoint) -> Mapping[str, tuple[Pair, ...]]:
    """The adapter's pairs by the decoder's linear layers. Raises `ModelError`."""
    if not (folder / WEIGHTS).is_file():
        pickled = "; adapter_model.bin is not read" if (folder / "adapter_model.bin").is_file() else ""
        raise ModelError(f"{WEIGHTS} is missing in {folder}{pickled}: save the adapter with peft as safetensors")
    headers = file_headers([folder / WEIGHTS])
    model = outline(checkpoint.spec, formats=checkpoint.formats).linears()
    found: dict[str, list[Pair]] = defaultdict(list)
    modules: dict[str, str | None] = {}
    for module, tensors in _modules(headers, folder).items():
        pair = _pair(module, tensors, config, checkpoint)
        modules[module] = None if pair is None else pair.linear
        if pair is None:
            continue
        if pair.linear not in model:
            raise ModelError(f"{module} is adapted in {folder}, and {checkpoint.architecture} has no such linear layer")
        if any(other.part == pair.part for other in found[pair.linear]):
            raise ModelError(f"{folder} holds two updates of {module}: remove one of them")
        _check(module, pair, model[pair.linear], headers, checkpoint)
        found[pair.linear].append(pair)
    if not found:
        raise ModelError(f"{folder} adapts no linear layer of {checkpoint.architecture}")
    _check_complete(config, modules, model, folder)
    return {linear: tuple(pairs) for linear, pairs in found.items()}


def _modules(headers: Mapping[str, TensorHeader], folder: Path) -> dict[str, dict[str, str]]:
    """The tensors A and B of each module, by the module's name. Raises `ModelError`."""
    modules: dict[str, dict[str, str]] = defaultdict(dict)
    for name in headers:
        match = TENSOR.fullmatch(name)
        if match is None:
            meaning = next((f" of {what}" for kind, what in CANNOT.items() if kind in name), "")
            raise ModelError(
                f"{folder} holds {name}, a tensor{meaning} that is not supported: merge it into the model with peft"
            )
        modules[match[1]][match[2]] = name
    single = sorted(next(iter(tensors.values())) for tensors in modules.values() if len(tensors) == 1)
    if single:
        raise ModelError(f"weights are missing in {folder}: {some(single)} without the other half of A and B")
    return dict(modules)


def _pair(module: str, tensors: Mapping[str, str], config: AdapterConfig, checkpoint: Checkpoint) -> Pair | None:
    """A module's pair; None for parts of the checkpoint that are not loaded, such as an image encoder."""
    family = ARCHITECTURES[checkpoint.architecture]  # a GGUF file has other names, and an adapter does not
    name = f"{module}.weight"
    place = family.place(name)
    if place is None:
        if family.skips(name):
            return None
        raise ModelError(f"the model has no module {module}: the adapter is of another architecture")
    linear = place.parameter.removesuffix(".weight")
    if not ADAPTED.fullmatch(linear):
        raise ModelError(f"an update of {module} is not supported: embedding, head, norms and experts cannot be adapted")
    return Pair(
        linear, place.part, place.order, config.rank_of(module), config.scale_of(module), tensors["A"], tensors["B"]
    )  # fmt: skip


def _check(module: str, pair: Pair, linear: Linear, headers: Mapping[str, TensorHeader], checkpoint: Checkpoint) -> None:
    """Raise `ModelError` if a module's tensors have wrong shapes or formats."""
    outputs, inputs = linear.weight.shape
    if pair.part is not None:
        span = linear.weight.split.span(pair.part)
        outputs = span.stop - span.start
    for name, wanted in ((pair.a, (pair.rank, inputs)), (pair.b, (outputs, pair.rank))):
        if headers[name].dtype not in FLOATS:
            raise ModelError(f"{name} is {headers[name].dtype}: only float tensors are supported")
        if headers[name].shape != wanted:
            raise ModelError(
                f"{name} has shape {list(headers[name].shape)}, but {module} of this model and the adapter's config want "
                f"{list(wanted)}"
            )


def _check_complete(config: AdapterConfig, modules: Mapping[str, str | None], linears: Iterable[str], folder: Path) -> None:
    """Raise `ModelError` if a target has no tensors, or has them in some layers only.

    `modules` are the adapted ones, with the decoder's linear layer if they have one.
    """
    for target in sorted(config.targets):
        mine = {linear for module, linear in modules.items() if f".{module}".endswith(f".{target}")}
        if not mine:
            raise ModelError(f"weights are missing in {folder}: target_modules names {target}, and no tensor is of it")
        kinds = {_kind(linear) for linear in mine if linear is not None}
        missing = sorted({linear for linear in linears if _kind(linear) in kinds} - mine)
        if missing and not ONE_LAYER.search(target):
            raise ModelError(f"weights are missing in {folder}: {target} has no tensors for {some(missing)}")


def _kind(linear: str) -> str:
    """A linear layer's name without the number of its layer."""
    return NUMBER.sub("*", linear)


def base_notes(adapters: Sequence[Adapter], model: str) -> Iterator[str]:
    """What a user should know of adapters that were trained on a model of another name."""
    for adapter in adapters:
        if adapter.base is not None and Path(adapter.base).name.lower() != model.rpartition("/")[2].lower():
            yield f"adapter {adapter.name} was trained on {adapter.base}, and the model is {model}: the texts may be of no use"


def named(adapters: Sequence[Adapter]) -> tuple[tuple[str, str], ...]:
    """Names and folders, from which another process opens the same adapters."""
    return tuple((adapter.name, str(adapter.folder.absolute())) for adapter in adapters)
