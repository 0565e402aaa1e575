"""Rows of checkpoints' tensors in the decoder's order.

The decoder has one order of rows: all queries, all keys, all values, head by head; and in every head the dimensions that
rotate together are half a rotation apart. Checkpoints of other orders are read row by row, once, so that no operator has to
know of them.

An order is a function from a spec to `[rows of ours]`: which row of the checkpoint's tensor each of them is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from orcinus.runtime.models.spec import DecoderSpec

Rows: TypeAlias = "NDArray[np.int64]"
RowOrder: TypeAlias = Callable[[DecoderSpec], Rows]


def grouped_qkv(spec: DecoderSpec) -> Rows:
    """For query, key and value heads stored group by group: a group's queries, its key, its value (GPT-NeoX, Falcon)."""
    group = spec.num_heads // spec.num_kv_heads
    rows = _heads(spec.num_kv_heads * (group + 2), spec.head_dim).reshape(spec.num_kv_heads, group + 2, spec.head_dim)
    return np.concatenate([part.reshape(-1) for part in (rows[:, :group], rows[:, group], rows[:, group + 1])])


def paired_queries(spec: DecoderSpec) -> Rows:
    """For queries whose neighbouring dimensions rotate together (GPT-J, Cohere)."""
    return _paired(spec, spec.num_heads)


def paired_keys(spec: DecoderSpec) -> Rows:
    """The same for keys."""
    return _paired(spec, spec.num_kv_heads)


def paired_qkv(spec: DecoderSpec) -> Rows:
    """The same for queries, keys and values, which are not rotated, one after the other (ChatGLM)."""
    queries, keys = paired_queries(spec), paired_keys(spec)
    return np.concatenate((queries, len(queries) + keys, len(queries) + len(keys) + np.arange(len(keys))))


def after_padding(spec: DecoderSpec) -> Rows:
    """For positions behind two rows that nothing reads (OPT)."""
    return np.arange(2, 2 + spec.max_position_embeddings)


def _heads(count: int, head_dim: int) -> Any:
    return np.arange(count * head_dim).reshape(count, head_dim)


def _paired(spec: DecoderSpec, count: int) -> Rows:
    """(0, 1), (2, 3), … become (0, half), (1, half + 1), …; what is not rotated stays where it is."""
    rows = _heads(count, spec.head_dim)
    rotated = 2 * len(spec.ropes[0].inverse_frequencies) if spec.ropes else 0
    turned = rows[:, :rotated].reshape(count, rotated // 2, 2).transpose(0, 2, 1).reshape(count, rotated)
    return np.concatenate((turned, rows[:, rotated:]), axis=1).reshape(-1)
