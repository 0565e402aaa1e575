"""The layers of a decoder in one call: the other kernels one after the other.

What a decode computes between two products takes microseconds, and calling a kernel from Python takes as long. So Python
calls once for all layers that are alike. The kernels are the same functions that the operators call one by one, so the bits
are the same, too.

    x += delta;  attended = attention(norm x);  x += attended;  delta = mlp(norm x)
    x += delta;  attended = attention(norm x);                  delta = mlp(norm x) + attended      in parallel
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from orcinus.runtime.compiled import exact, external, keep_compiled
from orcinus.runtime.cpu_kernels import decode_attention, heads, norm, prompt_attention
from orcinus.runtime.cpu_kernels import gated as activations
from orcinus.runtime.cpu_kernels.elements import MANY
from orcinus.runtime.cpu_kernels.layer_table import of_layer
from orcinus.runtime.cpu_kernels.products import multiply
from orcinus.runtime.cpu_kernels.vectors import INDEX

STAGES = NORMS, QKV, HEADS, ATTENTION, OUTPUT, UP, ACTIVATION, DOWN = range(8)  # whose time is taken

attend_decodes, attend_prompts = external(decode_attention.attend_decodes), external(prompt_attention.attend_prompts)
gated, gated_of_many = external(activations.gated), external(activations.gated_of_many)
prepare_heads, prepare_many_heads = external(heads.prepare_heads), external(heads.prepare_many_heads)
activated, activated_of_many = external(activations.activated), external(activations.activated_of_many)
add_normalize, add_normalize_many = external(norm.add_normalize), external(norm.add_normalize_many)
normalize, normalize_many = external(norm.normalize), external(norm.normalize_many)
finish, finish_many = external(norm.finish), external(norm.finish_many)


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
def _finish(out, norm, eps, multiplier, others):
    if len(norm[1]) or multiplier != 1 or len(others):
        if out.size >= MANY:
            finish_many(out, norm, eps, multiplier, others)
        else:
            finish(out, norm, eps, multiplier, others)


@exact(forceinline=True)
def _attend(qkv, kv, decodes, chunks, threads, scale, cap, reach, piece, out):
    """Attention of decodes, and of chunks of prompts behind them."""
    cut = len(decodes[1])
    if cut:
        attend_decodes(qkv, kv, *decodes, scale, cap, reach, piece, out)
    if cut < len(qkv):
        attend_prompts(qkv[cut:], kv, *chunks, threads, scale, cap, reach, piece, out[cut:])


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
def _layer(
    x, delta, workspace, turn, slots, decodes, chunks, threads, ticks, kv, scale, cap, reach, piece, attention_norm, qkv, heads,
    query_norm, key_norm, output, attention_post_norm, parallel, mlp_norm, up, has_gate, activation, down, mlp_post_norm, eps,
    multiplier,
):  # fmt: skip
    """One layer of T rows: `x` and `delta` `[T, hidden_size]` are overwritten, and so is the workspace.

    Angles, slots, decodes (block tables and lengths), chunks (first rows, ends and block tables), keys and values are those of
    `prepare_heads`, `decode_attention` and `prompt_attention`; `ticks` `[8]` counts the cycles of `STAGES`. The rest are the
    layer's own: `attention_scalars`, norms as `normalize` takes them (with an empty weight: there is none, and in parallel the
    MLP reads attention's), weights of the norms of heads, weights of products as `multiply` takes them, the number of query
    heads, whether attention and MLP run in parallel, whether the MLP has a gate, the activation (one of `KINDS`), the norms'
    eps, and the residual multiplier.
    """
    normed, projected, heads_out, attended, wide, narrow = workspace
    begin = cycles()
    _add_norm(x, delta, attention_norm, eps, normed)
    begin = _lap(ticks, NORMS, begin)

    multiply(normed, qkv, projected)
    begin = _lap(ticks, QKV, begin)
    if projected.size >= MANY:
        prepare_many_heads(projected, heads, query_norm, key_norm, eps, *turn, kv, *slots)
    else:
        prepare_heads(projected, heads, query_norm, key_norm, eps, *turn, kv, *slots)
    begin = _lap(ticks, HEADS, begin)
    _attend(projected, kv, decodes, chunks, threads, scale, cap, reach, piece, heads_out)
    begin = _lap(ticks, ATTENTION, begin)
    multiply(heads_out, output, attended)
    begin = _lap(ticks, OUTPUT, begin)

    _finish(attended, attention_post_norm, eps, multiplier, attended[:0])
    if not parallel:
        _add_norm(x, attended, mlp_norm, eps, normed)
    elif len(mlp_norm[1]):
        _norm(x, mlp_norm, eps, normed)
    begin = _lap(ticks, NORMS, begin)

    multiply(normed, up, wide)
    begin = _lap(ticks, UP, begin)
    _activate(wide, has_gate, activation, narrow)
    begin = _lap(ticks, ACTIVATION, begin)
    multiply(narrow, down, delta)
    begin = _lap(ticks, DOWN, begin)
    _finish(delta, mlp_post_norm, eps, multiplier, attended if parallel else attended[:0])
    _lap(ticks, NORMS, begin)


run_layer = external(_layer)


@exact
def run_layers(x, delta, workspace, turns, groups, threads, ticks, table, like):
    """Some layers of T rows: `x` and `delta` `[T, hidden_size]` are overwritten.

    The workspace has an array of T rows for each intermediate result: what a norm returns, queries with keys and values,
    attention's result for each head and its output, the MLP before and after its activation. `turns` are the angles of each
    rotary embedding, `groups` the slots, decodes and chunks of each group of layers. A row of the table says which of both a
    layer has; the rest is a `table_row` of its own arguments, and `like` are one layer's.
    """
    for layer in range(len(table)):
        turn, group = turns[table[layer, 0]], groups[table[layer, 1]]
        run_layer(x, delta, workspace, turn, *group, threads, ticks, *of_layer(like, table, layer, 2))


@exact
def enter_layers(ids, embedding, positions, tables, x, delta, turns):
    """What layers of T rows begin with: vectors of the tokens in `x`, zeros in `delta`, both `[T, hidden_size]`, and angles.

    `ids` `[T]` are rows of the embedding; without any, `x` stays as it is. The angles of `positions` `[T]` in the tables of
    each rotary embedding go to `turns`.
    """
    for row in range(len(ids)):
        for i in range(x.shape[1]):
            x[row, i] = embedding[ids[row], i]
    for row in range(len(delta)):
        for i in range(delta.shape[1]):
            delta[row, i] = 0
    for rope in range(len(turns)):
        for part in range(2):
            table, out = tables[rope][part], turns[rope][part]
            for row in range(len(out)):
                for i in range(out.shape[1]):
                    out[row, i] = table[positions[row], i]


now, run_layers, enter_layers = keep_compiled(now), keep_compiled(run_layers), keep_compiled(enter_layers)
