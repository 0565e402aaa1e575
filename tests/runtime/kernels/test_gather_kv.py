"""Copies of contexts against those of the K/V memory itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from orcinus.runtime.kernels.gather_kv import gather_contexts
from orcinus.runtime.kv_cache import LayerKV, allocate
from orcinus.runtime.pack import PagedBatch
from tests.examples import examples

NOWHERE = 10**6  # a block that does not exist, an end that none has


def memory(block_size: int, kv_heads: int, dim: int, dtype: torch.dtype = torch.float32) -> LayerKV:
    """One layer of two, so that a block does not follow its neighbour at once."""
    kv = allocate(2, 64, kv_heads, block_size, dim, dtype, torch.device("cpu"))[1]
    kv.keys.normal_()
    kv.values.normal_()
    return kv


def paged(sizes: list[tuple[int, int]], block_size: int) -> PagedBatch:
    """Requests of (tokens already there, tokens to run; 0 = padding), whose rows do not begin at 0."""
    blocks = iter(torch.randperm(64, generator=torch.Generator().manual_seed(len(sizes))).tolist())
    tables = torch.full((len(sizes), 1 + max(sum(size) for size in sizes) // block_size), NOWHERE, dtype=torch.int32)
    for table, (start, count) in zip(tables, sizes, strict=True):
        for number in range(-(-(start + count) // block_size) if count else 0):
            table[number] = next(blocks)
    firsts = torch.tensor([5] + [count for _, count in sizes]).cumsum(0).int()
    ends = torch.tensor([start + count if count else NOWHERE for start, count in sizes], dtype=torch.int32)
    return PagedBatch(firsts, ends, tables, max(count for _, count in sizes), max(sum(size) for size in sizes))


def expected(kv: LayerKV, batch: PagedBatch, sizes: list[tuple[int, int]], window: int | None) -> list[tuple[Tensor, Tensor]]:
    """Of each request, the keys and values from the first that one of its tokens sees."""
    seen = [start + count - max(0, start + 1 - (window or start + 1)) if count else 0 for start, count in sizes]
    pairs = [kv.context(table, sum(size)) for table, size in zip(batch.tables, sizes, strict=True) if size[1]]
    some = iter(pairs)
    wanted = []
    for length in seen:
        keys, values = next(some) if length else (kv.keys[0][:, :0], kv.values[0][:, :0])
        wanted.append(
            (keys[:, keys.shape[1] - length :].transpose(0, 1), values[:, values.shape[1] - length :].transpose(0, 1))
        )
    return wanted


SIZES = st.lists(st.tuples(st.integers(0, 60), st.sampled_from([0, 1, 2, 7, 40])), min_size=1, max_size=5)


@examples(25)
@given(SIZES, st.sampled_from([None, 1, 5, 16]), st.sampled_from([8, 16, 20]), st.integers(0, 50))
def test_each_context_stands_where_it_is_said_to_begin(
    sizes: list[tuple[int, int]], window: int | None, block_size: int, spare: int
) -> None:
    batch, kv = paged(sizes, block_size), memory(block_size, 2, 20)
    wanted = expected(kv, batch, sizes, window)
    total = sum(len(keys) for keys, _ in wanted)
    keys, values, firsts = gather_contexts(kv.keys, kv.values, batch, total + spare, window)
    assert keys.shape == values.shape == (total + spare, 2, 20)
    assert firsts.dtype is torch.int32
    assert firsts.diff().tolist() == [len(keys) for keys, _ in wanted]
    assert firsts[0] == 0
    assert torch.equal(keys[:total], torch.cat([keys for keys, _ in wanted]))
    assert torch.equal(values[:total], torch.cat([values for _, values in wanted]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_dtypes_are_copied_as_they_are(dtype: torch.dtype) -> None:
    sizes = [(3, 4), (0, 9)]
    batch, kv = paged(sizes, 8), memory(8, 2, 64, dtype)
    keys, _, _ = gather_contexts(kv.keys, kv.values, batch, 16)
    assert torch.equal(keys, torch.cat([keys for keys, _ in expected(kv, batch, sizes, None)]))


def test_nothing_is_written_beyond_the_room_there_is() -> None:
    """Nor anything read for it."""
    batch, kv = paged([(50, 40)], 8), memory(8, 1, 16)
    keys, _, firsts = gather_contexts(kv.keys, kv.values, batch, 33)
    assert firsts.tolist() == [0, 90]
    assert torch.equal(keys, kv.context(batch.tables[0], 33)[0].transpose(0, 1))
