"""transformers' model in place of our decoder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from orcinus.errors import ConfigError
from orcinus.runtime.attention.port import Attention, Heads
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.linear_weight import LinearWeight, Split, SplitKind, SplitPart
from orcinus.runtime.lora.product import Segment
from orcinus.runtime.models import Decoder
from orcinus.runtime.models.linear import Factory, Linear, PlainWeight
from orcinus.runtime.models.mixture import Mixture
from orcinus.runtime.models.mlp import MLP
from orcinus.runtime.pack import PackedBatch
from orcinus.runtime.transformers_backend.given_states import GivenStates, head_of
from orcinus.runtime.transformers_backend.interface import ARGUMENT, PagedAttention
from orcinus.runtime.transformers_backend.spec import TransformersSpec

Placed = Callable[[str, Tensor], Tensor]  # a tensor's name and numbers -> its numbers where and as they are served


class TransformersDecoder(Decoder):
    """A decoder whose layers are transformers' modules; attention, linear layers and the embedding's memory are ours.

    `model` is on the meta device (then this is an outline), or loaded: its tensors are then moved one after the other, and each
    linear layer gets its final form at once. Raises `ConfigError` for a mesh: these layers are not split.
    """

    spec: TransformersSpec

    def __init__(self, spec: TransformersSpec, attend: Attention, make: Factory, model: Any, placed: Placed) -> None:
        nn.Module.__init__(self)
        if make.place.mesh.size > 1:
            raise ConfigError(
                f"{spec.architecture} runs through transformers (model_impl), whose layers are not split: leave out tp and pp"
            )
        self.spec, self.attend, self.dtype = spec, attend, make.dtype
        self.place, self.collectives = make.place, make.collectives
        self.positions, self.norm, self.fused_layers = None, None, None
        self.stage, self.kv_groups = range(spec.num_layers), spec.kv_groups
        self.layer_heads = [
            Heads(spec.num_heads, spec.num_kv_heads, spec.head_dim, scale, window, None, spec.soft_cap)
            for scale, window in zip(spec.scales, spec.windows, strict=True)
        ]
        _place_modules(model, make, placed)
        self.base = getattr(model, model.base_model_prefix)
        self.embed, self.head = model.get_input_embeddings(), model.get_output_embeddings()
        setattr(model, model.base_model_prefix, GivenStates())
        self.model = model

    @property
    def heads(self) -> Heads:
        return self.layer_heads[0]

    @property
    def mlp_columns(self) -> int:
        return self.spec.intermediate_size

    def mlps(self) -> Iterator[MLP | Mixture]:
        """None of our own."""
        return iter(())

    def forward(
        self, batches: Sequence[PackedBatch], kv: Sequence[LayerKV], x: Tensor | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """Hidden states of all tokens, which are one sequence to transformers' code, or of `rows` of them."""
        assert x is None, "there are no stages"
        batch = batches[0]
        call = PagedAttention(self.attend, batch, kv, self.layer_heads)
        ids, positions = batch.tokens.long()[None], batch.positions.long()[None]
        hidden: Tensor = self.base(input_ids=ids, position_ids=positions, use_cache=False, **{ARGUMENT: call})[0]
        return hidden[0] if rows is None else hidden[0].index_select(0, rows)

    def local_logits(self, hidden: Tensor) -> Tensor:
        return head_of(self.model, hidden)


class FlatLinear(Linear):
    """Our linear layer for tensors of any number of dimensions."""

    def forward(self, x: Tensor, segments: Sequence[Segment] = ()) -> Tensor:
        return super().forward(x.reshape(-1, x.shape[-1]), segments).view(*x.shape[:-1], self.weight.shape[0])


def _place_modules(model: Any, make: Factory, placed: Placed) -> None:
    """Place all tensors, module by module, and replace linear layers by ours; a tensor of several modules is placed once."""
    named, head = list(model.named_modules()), model.get_output_embeddings()
    uses = Counter(id(tensor) for _, module in named for _, tensor in _tensors(module))
    shared: dict[int, Tensor] = {}
    for prefix, module in named:
        for name, tensor in _tensors(module):
            numbers = shared.get(id(tensor))
            if numbers is None:
                numbers = placed(f"{prefix}.{name}".lstrip("."), tensor.detach())
                if uses[id(tensor)] > 1:
                    shared[id(tensor)] = numbers
            _put(module, name, numbers)
        if type(module) is nn.Linear:
            made = FlatLinear(
                _weight(make, module, is_head=module is head), None if module.bias is None else module.bias.detach()
            )
            module._parameters.clear()  # `named` still holds the module, and a packed weight is a copy
            owner, _, own = prefix.rpartition(".")
            setattr(model.get_submodule(owner), own, made)
            if make.device.type != "meta":
                made.process_after_loading()


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """A module's own parameters and buffers."""
    return [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]


def _put(module: nn.Module, name: str, numbers: Tensor) -> None:
    if name in module._parameters:
        module._parameters[name] = nn.Parameter(numbers, requires_grad=False)
    else:
        module._buffers[name] = numbers


def _weight(make: Factory, linear: nn.Linear, *, is_head: bool) -> LinearWeight:
    outputs = linear.out_features
    kind = SplitKind.VOCABULARY if is_head else SplitKind.COLUMN
    return make.to_quantize(PlainWeight(linear.weight.detach(), Split(kind, (SplitPart(outputs, outputs),))))
