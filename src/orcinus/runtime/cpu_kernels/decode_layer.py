"""The layers of a decoder in one call, for a batch of decodes: the other kernels one after the other.

What a decode computes between two products takes microseconds, and calling a kernel from Python takes as long. So Python
calls once for all layers that are alike. The kernels are the same functions that the operators call one by one, so the bits
are the same, too.

    x += delta;  attended = attention(norm x);  x += attended;  delta = mlp(norm x)
    x += delta;  attended = attention(norm x);                  delta = mlp(norm x) + attended      in parallel
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from orcinus.runtime.compiled import exact, external, keep_compiled
from orcinus.runtime.cpu_kernels import decode_attention, heads, norm
from orcinus.runtime.cpu_kernels import gated as activations
from orcinus.runtime.cpu_kernels.elements import MANY, load, rounded
from orcinus.runtime.cpu_kernels.layer_table import of_layer
from orcinus.runtime.cpu_kernels.norm import add_row
from orcinus.runtime.cpu_kernels.products import multiply
from orcinus.runtime.cpu_kernels.vectors import INDEX

STAGES = NORMS, QKV, HEADS, ATTENTION, OUTPUT, UP, ACTIVATION, DOWN = range(8)  # whose time is taken

attend_decodes = external(decode_attention.attend_decodes)
gated, gated_of_many = external(activations.gated), external(activations.gated_of_many)
prepare_heads, prepare_many_heads = external(heads.prepare_heads), external(heads.prepare_many_heads)
activated, activated_of_many = external(activations.activated), external(activations.activated_of_many)
add_normalize, add_normalize_many = external(norm.add_normalize), external(norm.add_normalize_many)
normalize, normalize_many = external(norm.normalize), external(norm.normalize_many)


@intrinsic
def cycles(_):
    """The processor's cycle counter."""

    def generate(_context, builder, _signature, _arguments):
        counter = cgutils.get_or_insert_function(builder.module, ir.FunctionType(INDEX, []), "llvm.readcyclecounter")
        return builder.call(counter, [])

    return types.int64(), generate


@exact
def now():
    """`cycles`, for Python."""
    return cycles()


@exact(forceinline=True)
def _lap(ticks, stage, begin):
    """Count the cycles since `begin` for a stage; return the cycle counter."""
    end = cycles()
    ticks[stage] += end - begin
    return end


@exact(forceinline=True)
def _norm(x, norm, eps, out):
    if x.size >= MANY:
        normalize_many(x, norm, eps, out)
    else:
        normalize(x, norm, eps, out)


@exact(forceinline=True)
def _add_norm(x, delta, norm, eps, out):
    if x.size >= MANY:
        add_normalize_many(x, delta, norm, eps, out)
    else:
        add_normalize(x, delta, norm, eps, out)


@exact(forceinline=True)
def _scale(out, norm, eps, multiplier):
    """An output as it is added to the residual stream: normalised and multiplied in place, if the model does so."""
    if len(norm[1]):
        plain = out.copy()  # kernels of several threads take their arrays for different ones
        _norm(plain, norm, eps, out)
    if multiplier != 1:
        for row in range(len(out)):
            for i in range(out.shape[1]):
                out[row, i] = rounded(load(out[row, i]) * multiplier, out)


@exact(forceinline=True)
def _activate(x, has_gate, kind, out):
    """act(gate) · up, or act(up)."""
    if has_gate and x.size >= MANY:
        gated_of_many(x, out, kind)
    elif has_gate:
        gated(x, out, kind)
    elif x.size >= MANY:
        activated_of_many(x, out, kind)
    else:
        activated(x, out, kind)


@exact
def _decode_layer(
    x, delta, cos, sin, blocks, offsets, tables, lengths, ticks, kv, scale, cap, reach, piece, attention_norm, qkv, heads,
    query_norm, key_norm, output, attention_post_norm, parallel, mlp_norm, up, has_gate, activation, columns, down,
    mlp_post_norm, eps, multiplier,
):  # fmt: skip
    """One layer of D decodes: `x` and `delta` `[D, hidden_size]` are overwritten.

    Angles, slots, block tables, lengths, keys and values are those of `prepare_heads` and `decode_attention`; `ticks` `[8]`
    counts the cycles of `STAGES`. The rest are the layer's own: `attention_scalars`, norms as `normalize` takes them (with an
    empty weight: there is none, and in parallel the MLP reads attention's), weights of the norms of heads, weights of products
    as `multiply` takes them, the number of query heads, whether attention and MLP run in parallel, whether the MLP has a gate,
    the activation (one of `KINDS`), the MLP's columns, the norms' eps, and the residual multiplier.
    """
    rows, begin = len(x), cycles()
    normed = np.empty(x.shape, x.dtype)
    _add_norm(x, delta, attention_norm, eps, normed)
    begin = _lap(ticks, NORMS, begin)

    dim, kv_heads = kv[0].shape[3], kv[0].shape[1]
    projected = np.empty((rows, (heads + 2 * kv_heads) * dim), x.dtype)
    multiply(normed, qkv, projected)
    begin = _lap(ticks, QKV, begin)
    if projected.size >= MANY:
        prepare_many_heads(projected, heads, query_norm, key_norm, eps, cos, sin, kv, blocks, offsets)
    else:
        prepare_heads(projected, heads, query_norm, key_norm, eps, cos, sin, kv, blocks, offsets)
    begin = _lap(ticks, HEADS, begin)

    heads_out, attended = np.empty((rows, heads * dim), x.dtype), np.empty(x.shape, x.dtype)
    attend_decodes(projected, kv, tables, lengths, scale, cap, reach, piece, heads_out)
    begin = _lap(ticks, ATTENTION, begin)
    multiply(heads_out, output, attended)
    begin = _lap(ticks, OUTPUT, begin)

    _scale(attended, attention_post_norm, eps, multiplier)
    if not parallel:
        _add_norm(x, attended, mlp_norm, eps, normed)
    elif len(mlp_norm[1]):
        _norm(x, mlp_norm, eps, normed)
    begin = _lap(ticks, NORMS, begin)

    wide, narrow = np.empty((rows, (1 + has_gate) * columns), x.dtype), np.empty((rows, columns), x.dtype)
    multiply(normed, up, wide)
    begin = _lap(ticks, UP, begin)
    _activate(wide, has_gate, activation, narrow)
    begin = _lap(ticks, ACTIVATION, begin)
    multiply(narrow, down, delta)
    begin = _lap(ticks, DOWN, begin)
    _scale(delta, mlp_post_norm, eps, multiplier)
    if parallel:
        for row in range(rows):
            add_row(delta, attended, row)
    _lap(ticks, NORMS, begin)


decode_layer = external(_decode_layer)


@exact
def decode_layers(x, delta, turns, groups, ticks, table, like):
    """Some layers of D decodes: `x` and `delta` `[D, hidden_size]` are overwritten.

    `turns` are the angles of each rotary embedding, `groups` the slots, block tables and lengths of each group of layers. A row
    of the table says which of both a layer has; the rest is a `table_row` of its own arguments, and `like` are one layer's.
    """
    for layer in range(len(table)):
        turn, group = turns[table[layer, 0]], groups[table[layer, 1]]
        decode_layer(x, delta, *turn, *group, ticks, *of_layer(like, table, layer, 2))


now, decode_layers = keep_compiled(now), keep_compiled(decode_layers)
