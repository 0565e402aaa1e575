"""A mixture of experts (Shazeer et al., 2017): each token passes a few of many MLPs, which a router chooses.

    scores = router(x)                                   a score for each expert
    out    = sum over the chosen experts of weight · expert(x)  [+ shared(x), which every token passes]

Tokens are sorted by expert, and each expert multiplies its tokens at once; experts without tokens are not read. An output is
summed in float32, in the order of the experts, so that a token's bits do not depend on the tokens beside it.

Over several devices every tensor rank has some of the experts, whole, and its part of the shared MLP (expert parallelism:
GShard, Lepikhin et al., 2021). All ranks have all tokens and the router, so one sum over the ranks is all that they exchange.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from orcinus.runtime.linear_weight import PLAIN_LAYERS, Split
from orcinus.runtime.lora.product import Segment
from orcinus.runtime.models.linear import Factory, Linear
from orcinus.runtime.models.mlp import MLP
from orcinus.runtime.models.spec import DecoderSpec, MixtureSpec
from orcinus.runtime.panel_weights import PanelWeight
from orcinus.runtime.parallel.collectives import ALONE
from orcinus.runtime.parallel.mesh import WHOLE

UNQUANTIZED = ("router", "shared_gate")  # layers whose scores choose or weigh experts: rounded ones may choose others
ROWS = 2**9  # of experts' products at a time: few calls for a batch of decodes, and copies of a prompt's tokens stay in a cache


class Mixture(nn.Module):
    """A rank's experts, the router, and its part of the shared MLP.

    The router is not quantised: it is small, and a rounded score may choose another expert. A checkpoint's that is quantised is
    dequantised.
    """

    def __init__(self, spec: DecoderSpec, mixture: MixtureSpec, make: Factory) -> None:
        super().__init__()
        self.spec, self.operators, self.collectives = mixture, make.operators, make.collectives
        whole = replace(make, place=WHOLE, collectives=ALONE)
        plain = replace(whole, quantization=None, formats=PLAIN_LAYERS)
        self.router = _linear("router", plain, spec.hidden_size, mixture.num_experts)
        self.mine, self.num_active = make.share(mixture.num_experts), 0  # experts of this rank; those with tokens, last time
        self.experts = nn.ModuleDict(
            {str(index): MLP(spec, whole.within(f"experts.{index}"), mixture.expert_size) for index in self.mine}
        )
        part = replace(make, collectives=ALONE)  # summed with the experts' outputs
        self.shared = MLP(spec, part.within("shared"), mixture.shared_size) if mixture.shared_size else None
        self.shared_gate = _linear("shared_gate", plain, spec.hidden_size, 1) if mixture.shared_gate else None

    def forward(self, x: Tensor, adapters: Sequence[Segment] = ()) -> Tensor:
        """`[T, hidden size]` -> the same. Adapters of experts are refused, so none of these is one."""
        chosen, weights = self.operators.route(self.router(x), self.spec.per_token, normalized=self.spec.normalized)
        out = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
        experts, order = chosen.flatten().sort(stable=True)
        rows, weights = order // chosen.shape[1], weights.flatten()[order]
        for active, counts, span in self._turns(experts.bincount(minlength=self.spec.num_experts).tolist()):
            copies = self.up(active, x.index_select(0, rows[span]), counts)
            passed = self.down(active, self.activate(copies), counts)
            out.index_add_(0, rows[span], passed.float().mul_(weights[span, None]))
        if self.shared is not None:
            shared: Tensor = self.shared(x)
            out.add_(shared if self.shared_gate is None else self.operators.gate_rows(shared, self.shared_gate(x)))
        return self.collectives.all_reduce(out.to(x.dtype))

    def _turns(self, counts: Sequence[int]) -> Iterator[tuple[list[MLP], list[int], slice]]:
        """This rank's experts that have tokens, as many at a time as have about `ROWS` of them.

        Yields experts, the tokens of each, and where these lie among all that are sorted by expert.
        """
        first = last = sum(counts[: self.mine.start])
        active, sizes, self.num_active = list[MLP](), list[int](), 0
        for index in self.mine:
            if counts[index]:
                active.append(self._expert(index))
                sizes.append(counts[index])
                last += counts[index]
            if active and (last - first >= ROWS or index == self.mine[-1]):
                yield active, sizes, slice(first, last)
                self.num_active += len(active)
                active, sizes, first = [], [], last

    def up(self, experts: Sequence[MLP], x: Tensor, counts: Sequence[int]) -> Tensor:
        """Gate and up of rows sorted by expert."""
        return segmented_product([expert.up for expert in experts], x, counts)

    def activate(self, x: Tensor) -> Tensor:
        """The activation, which all experts share."""
        return self._expert(self.mine.start).activate(x)

    def _expert(self, index: int) -> MLP:
        expert = self.experts[str(index)]
        assert isinstance(expert, MLP)
        return expert

    def down(self, experts: Sequence[MLP], x: Tensor, counts: Sequence[int]) -> Tensor:
        """Outputs of rows sorted by expert."""
        return segmented_product([expert.down for expert in experts], x, counts)

    @property
    def num_bytes(self) -> int:
        """Bytes of this rank's experts."""
        return sum(linear.num_bytes for linear in self.experts.modules() if isinstance(linear, Linear))

    def unread(self, tokens: int) -> float:
        """The share of experts that an iteration of so many tokens does not read, if the router has no preference."""
        return 1 - self.spec.expected_experts(tokens) / self.spec.num_experts


def segmented_product(linears: Sequence[Linear], x: Tensor, counts: Sequence[int]) -> Tensor:
    """Segments of rows, each times its own layer: the first `counts[0]` rows times the first one, and so on."""
    weights = [linear.weight for linear in linears if isinstance(linear.weight, PanelWeight) and linear.bias is None]
    if len(weights) == len(linears):
        return PanelWeight.multiply_segments(weights, x, counts)
    return torch.cat([linear(rows) for linear, rows in zip(linears, torch.split(x, list(counts)), strict=True)])


def _linear(name: str, make: Factory, inputs: int, outputs: int) -> Linear:
    return make.linear(name, inputs, outputs, Split.columns(outputs), bias=False)
