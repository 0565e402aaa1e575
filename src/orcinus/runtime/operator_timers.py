"""Timers around a model's operators, put on from outside.

The attributes through which an iteration calls its operators are replaced by functions that also read the clock, and put
back afterwards: code that is not being measured stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter
from types import TracebackType
from typing import Any

from orcinus.runtime.attention import cpu, reference
from orcinus.runtime.cpu_kernels.layers import now
from orcinus.runtime.executor import Eager, TorchExecutor
from orcinus.runtime.models import Decoder
from orcinus.runtime.models.fused_layers import FusedLayers
from orcinus.runtime.models.layer import Layer
from orcinus.runtime.models.mixture import Mixture
from orcinus.runtime.operator_work import OperatorKind

Target = tuple[object, str, OperatorKind]  # an object, the attribute that is called, and what the call is
# What the attention backends of CPUs call before attention itself; `attend` has the rest.
HEADS = ((cpu, "prepare_heads"), (cpu, "prepare_many_heads"), (reference, "split"))

STAGE_KINDS = (  # of `STAGES`
    OperatorKind.NORMS, OperatorKind.QKV, OperatorKind.HEADS, OperatorKind.ATTENTION, OperatorKind.OUTPUT, OperatorKind.UP,
    OperatorKind.ACTIVATION, OperatorKind.DOWN,
)  # fmt: skip


class OperatorTimers:
    """Seconds and calls of each operator, while it is entered.

    A call inside another one counts for the inner one alone, so the seconds of all operators add up to those of the outermost
    calls.
    """

    def __init__(self, targets: list[Target]) -> None:
        self._targets = targets
        self._before: list[tuple[object, str, bool, Any]] = []  # attributes to put back; whether the object itself had it
        self._open: list[OperatorKind] = []
        self._last = 0.0
        self.seconds: dict[OperatorKind, float] = {}
        self.calls: dict[OperatorKind, int] = {}

    def clear(self) -> None:
        """Forget what was measured."""
        self.seconds, self.calls = dict.fromkeys(OperatorKind, 0.0), dict.fromkeys(OperatorKind, 0)

    def __enter__(self) -> OperatorTimers:
        self.clear()
        for owner, name, kind in self._targets:
            own, function = name in vars(owner), getattr(owner, name)
            self._before.append((owner, name, own, function))
            timed = self.timed_stages(owner) if isinstance(owner, FusedLayers) and name == "run" else self.timed(function, kind)
            setattr(owner, name, timed)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        while self._before:
            owner, name, own, function = self._before.pop()
            if own:
                setattr(owner, name, function)
            else:
                delattr(owner, name)

    def timed(self, function: Callable[..., Any], kind: OperatorKind) -> Callable[..., Any]:
        """The function, its time counted for `kind`."""

        def call(*arguments: Any, **named: Any) -> Any:
            self._switch()
            self._open.append(kind)
            self.calls[kind] += 1
            try:
                return function(*arguments, **named)
            finally:
                self._switch()
                self._open.pop()

        return call

    def timed_stages(self, layers: FusedLayers) -> Callable[..., Any]:
        """Fused layers, whose time counts for the operators that they are made of."""
        whole = self.timed(layers.run, OperatorKind.BETWEEN)

        def call(*arguments: Any) -> Any:
            run = layers.layers[: arguments[-1]]
            calls = dict.fromkeys(STAGE_KINDS, len(run)) | {OperatorKind.NORMS: sum(len(layer.norms()) for layer in run)}
            ticks, first, began = layers.ticks.copy(), now(), perf_counter()
            found = whole(*arguments)
            tick = (perf_counter() - began) / (now() - first)
            for kind, ticked in zip(STAGE_KINDS, layers.ticks - ticks, strict=True):
                self.calls[kind] += calls[kind]
                self.seconds[kind] += float(ticked) * tick
                self.seconds[OperatorKind.BETWEEN] -= float(ticked) * tick
            self.calls[OperatorKind.BETWEEN] -= 1
            return found

        return call

    def _switch(self) -> None:
        """Give the time since the last switch to the operator that ran."""
        now = perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._last
        self._last = now


def operator_targets(executor: TorchExecutor) -> list[Target]:
    """Where an executor of a CPU calls its operators."""
    assert isinstance(executor.run, Eager), "a CPU runs its model eagerly"
    return [
        (executor.run.inputs, "load", OperatorKind.PACKING),
        (executor, "choose", OperatorKind.CHOOSING),
        *((backend, name, OperatorKind.HEADS) for backend, name in HEADS),
        *_of_model(executor.model),
    ]


def _of_model(model: Decoder) -> Iterator[Target]:
    for table in (model.embed, model.positions):
        if table is not None:
            yield table, "forward", OperatorKind.EMBEDDING
    if model.fused_layers is not None:
        yield model.fused_layers, "run", OperatorKind.BETWEEN
        yield model.fused_layers, "enter", OperatorKind.EMBEDDING
        yield model.fused_layers, "normalized", OperatorKind.NORMS
    for layer in model.layers.values():
        assert isinstance(layer, Layer)
        for norm in layer.norms():
            yield norm, "forward", OperatorKind.NORMS
        yield layer.attention.qkv, "forward", OperatorKind.QKV
        yield layer.attention, "attend", OperatorKind.ATTENTION
        yield layer.attention.out, "forward", OperatorKind.OUTPUT
        if isinstance(layer.mlp, Mixture):
            yield layer.mlp, "forward", OperatorKind.ROUTER  # what is left of it without its MLPs
            yield layer.mlp, "up", OperatorKind.UP
            yield layer.mlp, "activate", OperatorKind.ACTIVATION
            yield layer.mlp, "down", OperatorKind.DOWN
        mlp = layer.mlp.shared if isinstance(layer.mlp, Mixture) else layer.mlp
        if mlp is not None:
            yield mlp, "forward", OperatorKind.ACTIVATION  # what is left of it without both products
            yield mlp.up, "forward", OperatorKind.UP
            yield mlp.down, "forward", OperatorKind.DOWN
    yield model.norm, "forward", OperatorKind.NORMS
    yield model.head, "forward", OperatorKind.HEAD
