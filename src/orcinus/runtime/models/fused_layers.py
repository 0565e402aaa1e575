"""The layers of a decoder on a CPU: one call of a kernel for all that are alike.

It holds what does not change between iterations, in the form that the kernel takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import Any, NamedTuple, TypeAlias

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from orcinus.runtime.attention.cpu import CpuAttention
from orcinus.runtime.cpu_kernels.decode_attention import attention_scalars
from orcinus.runtime.cpu_kernels.elements import MANY, array
from orcinus.runtime.cpu_kernels.gated import KINDS
from orcinus.runtime.cpu_kernels.layer_table import form, table_row
from orcinus.runtime.cpu_kernels.layers import STAGES, enter_layers, run_layers
from orcinus.runtime.cpu_kernels.norm import RMS, add_normalize, add_normalize_many
from orcinus.runtime.cpu_kernels.operators import CpuOperators, NormArrays, layer_norm_arrays, rms_norm_arrays
from orcinus.runtime.grouped_weights import GroupedWeight
from orcinus.runtime.huge_pages import LINE, PAGE, zeros
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.models.embedding import Embedding
from orcinus.runtime.models.layer import Layer, LayerNorm, Norm, RMSNorm, SelfAttention
from orcinus.runtime.models.linear import Linear
from orcinus.runtime.models.mlp import MLP
from orcinus.runtime.models.rotary_angles import RotaryAngles
from orcinus.runtime.models.spec import DecoderSpec
from orcinus.runtime.pack import PackedBatch
from orcinus.runtime.panel_weights import PanelWeight

Array: TypeAlias = np.ndarray[Any, Any]


class _Workspace:
    """Memory for what layers compute, kept for the next iteration.

    The system clears new memory before it is first written, which took a tenth of a prompt's time.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype, self._line = dtype, LINE // dtype.itemsize
        self.release()

    def release(self) -> None:
        """Return the memory to the system."""
        self._memory: Array = array(torch.empty(0, dtype=self._dtype))

    def arrays(self, rows: int, columns: Sequence[int]) -> tuple[Array, ...]:
        """Arrays of so many rows and columns, whose contents are left over.

        With other columns they share their memory. They are valid until a call with more rows or columns.
        """
        begins = [*accumulate((-(-rows * count // self._line) * self._line for count in columns), initial=0)]
        if begins[-1] > len(self._memory):
            self.release()
            self._memory = array(zeros((max(begins[-1], PAGE // self._dtype.itemsize),), self._dtype))
        parts = zip(begins, columns, strict=False)
        return tuple([self._memory[begin : begin + rows * count].reshape(rows, count) for begin, count in parts])


class _LayerRun(NamedTuple):
    """Neighbouring layers with arrays of the same shapes and formats."""

    first: int
    table: Array  # a row for each layer
    columns: tuple[int, ...]  # of the workspace's arrays
    like: tuple[Any, ...]  # arguments of the first one


class _Arrays(NamedTuple):
    """The workspace's arrays for so many rows."""

    rows: int
    stream: Array  # the residual stream
    delta: Array  # what is to be added to it
    turns: tuple[tuple[Array, Array], ...]  # angles of each rotary embedding; at last those of layers without one
    of_runs: tuple[tuple[Array, ...], ...]  # what each run of layers computes in between
    normed: Array  # what the norm behind the layers makes of both
    tensors: tuple[Tensor, Tensor, Tensor]  # `stream`, `delta` and `normed`
    threads: int  # that divide the work


class FusedLayers:
    """All layers of a decoder, in as few calls as there are runs of layers with arrays of the same shapes and formats.

    `layers` are the loaded layers of a stage, for which `can_fuse` is true; `kv_groups` and `rotary` are their groups of block
    tables and their rotary embeddings, whose angles are `angles`. `embed` is the embedding, if what it looks up goes into the
    first layer unchanged, and `norm` the one behind the last layer, if the stage has it. One call at a time: calls share a
    workspace.
    """

    def __init__(
        self,
        spec: DecoderSpec,
        layers: Sequence[Layer],
        kv_groups: Sequence[int],
        rotary: Sequence[int | None],
        angles: Sequence[RotaryAngles],
        embed: Embedding | None,
        norm: nn.Module | None,
        dtype: torch.dtype,
    ) -> None:
        self.layers, self._kv_groups, self._rotary, self._angles = layers, kv_groups, rotary, angles
        self._hidden_size, self._dtype = spec.hidden_size, dtype
        self._nothing = array(torch.empty(0, 0, dtype=dtype))
        self._norm = _norm(norm, self._nothing.reshape(-1)) if norm is not None else None
        self._eps = np.float32(spec.norm_eps)
        self._embedding = array(embed.weight.data) if embed is not None and embed.plain else None
        self._own = [_of_layer(layer, spec) for layer in layers]
        self._columns = [_columns(layer, spec) for layer in layers]
        self._workspace = _Workspace(dtype)
        self._kv: Sequence[LayerKV] = ()  # of the last iteration; it is the same in all of them
        self._runs: list[_LayerRun] = []
        self._arrays: _Arrays | None = None
        self.ticks: NDArray[np.int64] = np.zeros(len(STAGES), np.int64)  # cycles of each stage so far

    def embeds(self, batch: PackedBatch) -> bool:
        """Whether a call looks up the vectors of the batch's tokens itself; for many rows torch has more threads."""
        return self._embedding is not None and len(batch.tokens) * self._hidden_size < MANY

    def run(self, batches: Sequence[PackedBatch], kv: Sequence[LayerKV], x: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
        """The first `count` layers: the residual stream `[T, hidden_size]`, and what is to be added to it.

        Both are valid until the next call. `x` is the stream before the layers (overwritten); None: vectors of the batch's
        tokens, for which `embeds` must be true. No row may belong to an adapter.
        """
        rows = len(batches[0].tokens)
        if kv is not self._kv:
            self._use(kv)
        arrays = self._arrays
        if arrays is None or arrays.rows != rows:
            arrays = self._arrays = self._arranged(rows)
        stream = self.enter(batches[0], x, arrays)
        groups = tuple(map(_group, batches))
        for run, workspace in zip(self._runs, arrays.of_runs, strict=True):
            table = run.table[: max(0, count - run.first)]
            run_layers(stream, arrays.delta, workspace, arrays.turns, groups, arrays.threads, self.ticks, table, run.like)
        return arrays.tensors[0] if x is None else x, arrays.tensors[1]

    def enter(self, batch: PackedBatch, x: Tensor | None, arrays: _Arrays) -> Array:
        """The residual stream before the layers, as `run` takes `x`; the other arrays are as a first layer needs them."""
        ids = batch.tokens.numpy()
        if x is None:
            assert self._embedding is not None, "these layers do not look up vectors"
            stream, embedding = arrays.stream, self._embedding
        else:
            stream, embedding, ids = array(x), self._nothing, ids[:0]
        tables = (*(angles.arrays(batch.decodes.most_context) for angles in self._angles), (self._nothing, self._nothing))
        enter_layers(ids, embedding, batch.positions.numpy(), tables, stream, arrays.delta, arrays.turns)
        return stream

    def normalized(self, x: Tensor) -> Tensor:
        """The norm behind all layers, of the call that returned the stream `x` (overwritten); valid until the next call."""
        at = self._arrays
        assert at is not None, "the layers come first"
        assert self._norm is not None, "only the last stage has norm and head"
        add_norm = add_normalize if at.normed.size < MANY else add_normalize_many
        add_norm(at.stream if x is at.tensors[0] else array(x), at.delta, self._norm, self._eps, at.normed)
        return at.tensors[2]

    def release(self) -> None:
        """Return the workspace to the system: another kind of batch needs memory."""
        self._arrays = None
        self._workspace.release()

    def _arranged(self, rows: int) -> _Arrays:
        """Arrays for so many rows; those of before become invalid."""
        self._arrays = None  # else their memory stays while more is found
        angles = [column for angles in self._angles for column in [angles.columns] * 2]
        columns = [self._hidden_size, self._hidden_size, self._hidden_size if self._norm is not None else 0, *angles]
        widest = [max(of_runs) for of_runs in zip(*[run.columns for run in self._runs], strict=True)]
        self._workspace.arrays(rows, [*columns, *widest])  # enough for every run
        of_runs = tuple([self._workspace.arrays(rows, [*columns, *run.columns])[len(columns) :] for run in self._runs])
        stream, delta, normed, *turns = self._workspace.arrays(rows, columns)
        pairs = (*zip(turns[::2], turns[1::2], strict=True), (self._nothing, self._nothing))
        tensors = _tensor(stream, self._dtype), _tensor(delta, self._dtype), _tensor(normed, self._dtype)
        return _Arrays(rows, stream, delta, pairs, of_runs, normed, tensors, numba.get_num_threads())

    def _use(self, kv: Sequence[LayerKV]) -> None:
        self._kv, arguments = kv, []
        for layer, memory, own in zip(self.layers, kv, self._own, strict=True):
            heads = layer.attention.heads
            scalars = attention_scalars(heads.scale, heads.window, heads.soft_cap)
            arguments.append((memory.arrays(), *scalars, *own))
        places = zip([-1 if rope is None else rope for rope in self._rotary], self._kv_groups, strict=True)
        rows = [[*place, *table_row(each)] for place, each in zip(places, arguments, strict=True)]
        self._runs = []
        for _, numbers in groupby(range(len(rows)), lambda number: (form(arguments[number]), self._columns[number])):
            first, *others = numbers
            table = np.array([rows[number] for number in (first, *others)], np.int64)
            self._runs.append(_LayerRun(first, table, self._columns[first], arguments[first]))
        self._kept, self._arrays = arguments, None  # the tables hold addresses


def _tensor(numbers: Array, dtype: torch.dtype) -> Tensor:
    """The same memory as a tensor, whatever numpy takes its numbers for."""
    return torch.from_numpy(numbers).view(dtype)


def _group(batch: PackedBatch) -> tuple[tuple[Array, ...], ...]:
    """A batch as a group of layers sees it, for the kernel: slots, decodes, chunks."""
    decodes, chunks = batch.decodes, batch.chunks
    return (
        (batch.slot_blocks.numpy(), batch.slot_offsets.numpy()),
        (decodes.tables.numpy(), decodes.ends.numpy()),
        (chunks.firsts.numpy(), chunks.ends.numpy(), chunks.tables.numpy()),
    )


def _columns(layer: Layer, spec: DecoderSpec) -> tuple[int, ...]:
    """Columns of the workspace's arrays for a layer, in the kernel's order."""
    attention, mlp = layer.attention, layer.mlp
    assert isinstance(mlp, MLP), "as `can_fuse` found"
    return (
        spec.hidden_size,
        attention.qkv.weight.shape[0],
        attention.out.weight.shape[1],
        spec.hidden_size,
        mlp.up.weight.shape[0],
        mlp.down.weight.shape[1],
    )


def _of_layer(layer: Layer, spec: DecoderSpec) -> tuple[Any, ...]:
    """What is a layer's own, in the order of the kernel's arguments."""
    attention, mlp = layer.attention, layer.mlp
    assert isinstance(mlp, MLP), "as `can_fuse` found"
    assert isinstance(layer.attention_norm, Norm), "as `can_fuse` found"
    none = array(torch.empty(0, dtype=layer.attention_norm.dtype))
    heads = [none if norm is None else array(norm.weight.data) for norm in (attention.q_norm, attention.k_norm)]
    return (
        _norm(layer.attention_norm, none),
        _product(attention.qkv),
        attention.heads.num_heads,
        *heads,
        _product(attention.out),
        _norm(layer.attention_post_norm, none),
        int(layer.parallel),
        _norm(layer.mlp_norm, none),
        _product(mlp.up),
        int(mlp.gated),
        KINDS[mlp.activation],
        _product(mlp.down),
        _norm(layer.mlp_post_norm, none),
        np.float32(spec.norm_eps),
        np.float32(layer.multiplier),
    )


def can_fuse(spec: DecoderSpec, layers: Sequence[Layer], ranks: int) -> bool:
    """Whether the kernel knows how these layers compute: it has a part of the decoder's switches."""
    known = spec.norm_inputs and spec.clip_qkv is None and spec.qk_norm in (None, "head")
    return known and ranks == 1 and all(map(_is_known, layers))


def _is_known(layer: Layer) -> bool:
    attention, mlp = layer.attention, layer.mlp
    if type(attention) is not SelfAttention or type(mlp) is not MLP:
        return False
    linears = attention.qkv, attention.out, mlp.up, mlp.down
    ours = type(attention.attend) is CpuAttention and type(mlp.operators) is CpuOperators
    return ours and mlp.activation in KINDS and all(map(_has_kernel, linears))


def _has_kernel(linear: Linear) -> bool:
    """Whether kernels can multiply a layer's weight."""
    weight = linear.weight
    if isinstance(weight, PanelWeight):
        return weight.dtype is torch.float32 or weight.shape[1] % 2 == 0
    return isinstance(weight, GroupedWeight)


def _product(linear: Linear) -> tuple[Any, ...]:
    """A layer's weight and bias, as `multiply` takes them."""
    assert isinstance(linear.weight, PanelWeight | GroupedWeight), "as `can_fuse` found"
    return linear.weight.arguments(linear.bias)


def _norm(norm: nn.Module | None, none: Array) -> NormArrays:
    """A norm as kernels take it; with an empty weight if there is none."""
    if isinstance(norm, LayerNorm):
        return layer_norm_arrays(norm.size, norm.weight, norm.bias, norm.dtype)
    return rms_norm_arrays(norm.weight) if isinstance(norm, RMSNorm) else (RMS, none, none)
