"""What transformers' code for a model does, found by running it without weights.

The model's own modules run on the CPU with made-up numbers that take no memory: each parameter is an overlapping view of a
few numbers, and products copy inputs to outputs. Where a layer attends, each token gets its own value. So three tokens show
what no name tells: which layers attend, with heads of which sizes, how far back, and whether anything else looks at other
tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from orcinus.disk_cache import DiskCache
from orcinus.errors import ModelError, one_line
from orcinus.gguf_file import is_gguf
from orcinus.model_config import config_of, shown
from orcinus.runtime.transformers_backend.architecture import (
    Unsuitable,
    find_class,
    make_skeleton,
    most_positions,
)
from orcinus.runtime.transformers_backend.given_states import GivenStates, head_of
from orcinus.runtime.transformers_backend.interface import ARGUMENT, Mask, quiet
from orcinus.runtime.transformers_backend.spec import TransformersSpec

USUAL = {"dropout", "sliding_window", "softcap", "position_ids", "is_causal", "use_cache", "return_dict", "cache_position"}
USUAL |= {"output_attentions", "output_hidden_states", "output_router_logits", "position_embeddings"}
SOURCES = tuple(str(file) for file in sorted(Path(__file__).parent.glob("*.py")))
KEPT = DiskCache("transformers-specs", ("transformers", "torch"), SOURCES)
MATMULS = {torch.matmul, torch.bmm, torch.mm, Tensor.matmul, Tensor.bmm, Tensor.mm, Tensor.__matmul__}
LARGE = 2**16  # numbers of a matrix that must be a weight
CLOSE = 1e-3
MOST_COLUMNS = 2**24  # of an MLP


@dataclass(frozen=True, slots=True)
class Attended:
    """One call of attention."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Any
    options: Mapping[str, Any]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Query heads, key and value heads, dimensions of each."""
        return self.query.shape[1], self.key.shape[1], self.query.shape[3]


@dataclass(slots=True)
class Recorder:
    """Attention that gives each token its own value, and remembers what it was called with."""

    calls: dict[int, Attended] = field(default_factory=dict)

    def __call__(self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, options: dict[str, Any]) -> Tensor:
        layer = getattr(module, "layer_idx", None)
        if not isinstance(layer, int) or layer in self.calls:
            raise Unsuitable("its layers do not attend once each")
        _check_call(query, key, value, options)
        if any(key.data_ptr() == call.key.data_ptr() for call in self.calls.values()):
            raise Unsuitable("some of its layers share keys and values")
        self.calls[layer] = Attended(query, key, value, mask, options)
        return value.repeat_interleave(query.shape[1] // value.shape[1], dim=1).transpose(1, 2).contiguous()


def _check_call(query: Tensor, key: Tensor, value: Tensor, options: Mapping[str, Any]) -> None:
    if key.shape != value.shape or key.shape[3] != query.shape[3]:
        raise Unsuitable("its keys and values differ in size")
    if query.shape[1] % key.shape[1] or not query.shape[2] == key.shape[2]:
        raise Unsuitable(f"its attention has queries {list(query.shape)} and keys {list(key.shape)}")
    if options.get("is_causal") is False:
        raise Unsuitable("its tokens see later ones")
    unknown = {name for name, value in options.items() if name not in USUAL | {"scaling"} and value is not None}
    if "s_aux" in unknown:
        raise Unsuitable("its attention has sinks")
    if unknown:
        raise Unsuitable(f"its attention has {', '.join(sorted(unknown))}, which ours does not know")


def read_transformers_spec(config: Mapping[str, Any], folder: Path, refusal: str) -> TransformersSpec:
    """The spec of a model's config.

    Raises `ModelError`, which begins with `refusal` and names the reason, if the model cannot run here.
    """
    try:
        if is_gguf(folder):
            raise Unsuitable("GGUF files need a row of our own")
        return _known_or_probed(config)
    except ModelError as reason:
        raise ModelError(f"{refusal}: {reason}") from None
    except Exception as error:  # a config can make its readers raise anything
        raise ModelError(f"{config_of(folder)} cannot be understood: {one_line(error)}") from error


def _known_or_probed(config: Mapping[str, Any]) -> TransformersSpec:
    """The spec of a config; each is probed once."""
    question = json.dumps(config).encode()
    if (kept := KEPT.find(question)) is not None:
        known = TransformersSpec.from_json(kept)
        assert isinstance(known, TransformersSpec)
        return known
    with quiet():
        found = _probed(*find_class(config))
    KEPT.keep(question, found.to_json())
    return found


def _probed(name: str, config: str) -> TransformersSpec:
    """The spec of a class that seems to suit."""
    skeleton = make_skeleton(config, torch.float32)
    embedding, head = skeleton.get_input_embeddings(), skeleton.get_output_embeddings()
    if not isinstance(embedding, nn.Embedding) or not isinstance(head, nn.Module):
        raise Unsuitable("it has no embedding, or no head")
    tied, experts = head.weight is embedding.weight, _has_experts(skeleton)
    calls, hidden, vocab = _watch(_hollow(skeleton))
    sizes = {"hidden_size": hidden, "vocab_size": vocab, "intermediate_size": _widest(skeleton, vocab, hidden)}
    return _spec(skeleton, calls, architecture=name, config=config, tied=tied, experts=experts, **sizes)


def _has_experts(model: nn.Module) -> bool:
    """Whether some matrices are neither linear layers' nor tables of embeddings."""
    owners = (module for module in model.modules() if not isinstance(module, nn.Linear | nn.Embedding))
    return any(parameter.dim() > 1 for module in owners for parameter in module.parameters(recurse=False))


def _hollow(model: Any) -> Any:
    """A model of the meta device, made to run on the CPU with numbers that take no memory."""
    tensors = (*model.parameters(), *model.buffers())
    numbers = torch.sin(torch.arange(1, max(sum(tensor.shape) for tensor in tensors) + 2, dtype=torch.float32))
    seen: dict[int, Tensor] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            made = seen.setdefault(id(parameter), nn.Parameter(_made_up(parameter, numbers), requires_grad=False))
            module._parameters[name] = made
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = _made_up(buffer, numbers)
    model.config._experts_implementation = "eager"
    return model


def _made_up(tensor: Tensor, numbers: Tensor) -> Tensor:
    """A view of some numbers in a tensor's shape, each row another."""
    if not tensor.is_floating_point():
        return torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
    return numbers.to(tensor.dtype).as_strided(tensor.shape, (1,) * tensor.dim())


class CopiedProducts(TorchFunctionMode):
    """Products with a weight copy inputs to outputs instead: as telling, and done at once."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if function is F.linear:
            x, weight = args[0], args[1] if len(args) > 1 else (kwargs or {})["weight"]
            return _copied(x, weight.shape[0])
        if function in MATMULS and len(args) > 1 and args[1].numel() >= LARGE:
            x, weight = args[:2]
            outputs = weight.shape[-1]
            return _copied(x, outputs) if x.dim() >= weight.dim() else _copied(x, outputs).expand(*weight.shape[:-2], -1, -1)
        return function(*args, **(kwargs or {}))


def _copied(x: Tensor, outputs: int) -> Tensor:
    return x.index_select(-1, (7 * torch.arange(outputs) + 3) % x.shape[-1])


@torch.inference_mode()
def _watch(model: Any) -> tuple[dict[int, Attended], int, int]:
    """The calls of attention of three tokens in a row, the hidden size and the vocabulary.

    Raises `Unsuitable` if a token depends on others outside of attention: then a flat batch would mix requests.
    """
    far = most_positions(model.config) - 1
    base, given = getattr(model, model.base_model_prefix, None), GivenStates()
    if base is None:
        raise Unsuitable("its head and its layers cannot be told apart")
    setattr(model, model.base_model_prefix, given)
    usual, hidden = _run(base, (1, 2, 3), (0, 1, 2))
    runs = [_run(base, tokens, (0, place, 0)) for tokens, place in (((1, 2, 1), 1), ((1, 3, 1), far))]
    rows = [_rows(calls, states) for calls, states in runs]
    for first, other in zip(rows[0], rows[1], strict=True):
        same = [first[0], other[0], other[2]]
        if not all(each.isfinite().all() and torch.allclose(first[2], each, rtol=CLOSE, atol=CLOSE) for each in same):
            raise Unsuitable("a token depends on others in more than attention, or on more than its position")
    layers = model.config.num_hidden_layers
    if set(usual) != set(range(layers)):
        raise Unsuitable(f"{len(usual)} of its {layers} layers attend")
    with _tried(), CopiedProducts():
        logits = head_of(model, hidden[0])
    if logits.shape[:-1] != (3,):
        raise Unsuitable(f"its logits have shape {list(logits.shape)}")
    return usual, hidden.shape[-1], logits.shape[-1]


def _run(base: Any, tokens: Sequence[int], positions: Sequence[int]) -> tuple[dict[int, Attended], Tensor]:
    recorder = Recorder()
    ids, places = (torch.tensor([numbers]) for numbers in (tokens, positions))
    with _tried(), CopiedProducts():
        out = base(input_ids=ids, position_ids=places, use_cache=False, **{ARGUMENT: recorder})
    return recorder.calls, out[0]


@contextmanager
def _tried() -> Iterator[None]:
    """A model's code, which can raise anything, as `Unsuitable`."""
    try:
        yield
    except Unsuitable:
        raise
    except Exception as error:
        raise Unsuitable(f"transformers' code for it fails over our attention ({one_line(error)[:200]})") from error


def _rows(calls: Mapping[int, Attended], states: Tensor) -> list[Tensor]:
    """All that was computed for each token, as lists of `[T, …]`."""
    attended = [each for _, call in sorted(calls.items()) for each in (call.query, call.key, call.value)]
    return [states[0], *(each[0].transpose(0, 1) for each in attended)]


def _spec(model: Any, calls: Mapping[int, Attended], **found: Any) -> TransformersSpec:
    ordered = [call for _, call in sorted(calls.items())]
    if len({call.sizes for call in ordered}) > 1:
        raise Unsuitable("its layers differ in their heads")
    caps = {call.options.get("softcap") for call in ordered}
    if len(caps) > 1:
        raise Unsuitable("its layers differ in their soft caps")
    (heads, kv_heads, head_dim), positions = ordered[0].sizes, most_positions(model.config)
    return TransformersSpec(
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=positions,
        scales=tuple(_scale(call, head_dim) for call in ordered),
        windows=tuple(window(call.mask, positions) for call in ordered),
        rotary=(None,) * len(ordered),
        soft_cap=caps.pop(),
        **found,
    )


def _scale(call: Attended, head_dim: int) -> float:
    scale = call.options.get("scaling")
    return head_dim**-0.5 if scale is None else float(scale)


def _widest(model: Any, vocab: int, hidden: int) -> int:
    """Columns of a layer's MLP, for estimates of memory; of a token's experts together, with the rows gathered for each."""
    config = model.config
    dense = [each.out_features for each in model.modules() if isinstance(each, nn.Linear) and each.out_features != vocab]
    columns = _most(config, "intermediate_size") or max(dense, default=1)
    return max(columns, _most(config, "num_experts_per_tok") * ((_most(config, "moe_intermediate_size") or columns) + hidden))


def _most(config: Any, name: str) -> int:
    """A size in a config, the largest if it has one for each layer; 0 if it has none. Raises `Unsuitable`."""
    found = getattr(config, name, None) or 0
    sizes: list[Any] = found if isinstance(found, list) and found else [found]
    if not all(type(size) is int and 0 <= size <= MOST_COLUMNS for size in sizes):
        raise Unsuitable(f"{name} must be a whole number up to {MOST_COLUMNS}, not {shown(found)}")
    return int(max(sizes))


def window(mask: Any, positions: int) -> int | None:
    """How many tokens a token sees, itself included; None = all before it.

    Raises `Unsuitable` unless it sees the last tokens up to itself.
    """
    if not isinstance(mask, Mask) or mask.custom:
        raise Unsuitable("it makes attention masks of its own")
    last = positions - 1
    seen = _seen(mask, last, positions + 1)
    count = int(seen.sum())
    if not bool(seen[positions - count : positions].all()) or bool(seen[positions:].any()):
        raise Unsuitable("its tokens see others than the last ones up to themselves")
    before = _seen(mask, last - 1, positions)
    expected = min(count, last) if count < positions else last
    if int(before.sum()) != expected or not bool(before[last - expected : last].all()):
        raise Unsuitable("its tokens see chunks of the text")
    return None if count == positions else count


def _seen(mask: Mask, query: int, keys: int) -> Tensor:
    """Which keys a query sees, `[keys]`."""
    seen = mask.function(0, 0, torch.tensor(query), torch.arange(keys))
    return torch.as_tensor(seen).expand(keys)
