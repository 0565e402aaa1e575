"""Paged attention against the formula in float64 and against the reference backend, on random ragged batches."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from orcinus.errors import ConfigError
from orcinus.runtime.attention import Heads, ReferenceAttention
from orcinus.runtime.kernels.attention import paged_attention
from orcinus.runtime.kernels.launch_configs import LaunchConfig
from orcinus.runtime.kernels.split_kv import Partials
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.pack import PackedBatch, PagedBatch
from tests.examples import examples
from tests.product import part
from tests.runtime.test_attention import NUM_BLOCKS, exact, filled_kv, joined

CPU = torch.device("cpu")
SMALL = LaunchConfig(16, 16, 4, 2)
NOWHERE = 10**6  # a block that does not exist: reading it fails


@dataclass(frozen=True)
class World:
    """One batch in all three forms, the keys in place."""

    q: Tensor
    k: Tensor
    v: Tensor
    kv: LayerKV
    packed: PackedBatch
    paged: PagedBatch

    @property
    def scale(self) -> float:
        return float(self.q.shape[2] ** -0.5)

    def attend(self, window: int | None = None, *, launch: LaunchConfig = SMALL, **kwargs: object) -> Tensor:
        return paged_attention(
            self.q, self.kv.keys, self.kv.values, self.paged, self.scale, window, launch=launch, **kwargs  # type: ignore[arg-type]
        )  # fmt: skip

    def error(self, ours: Tensor, window: int | None = None) -> float:
        """‖ours - exact‖ / ‖exact‖."""
        truth = exact(self.q, self.k, self.v, self.kv, self.packed, self.scale, window)
        return float((ours[: len(truth)].double() - truth).norm() / truth.norm())


def requests_of(batch: PagedBatch, begin: int, end: int, most_rows: int) -> PagedBatch:
    """Requests `[begin, end)`, whose rows are counted from the first of them."""
    some = slice(begin, end)
    return PagedBatch(batch.firsts[begin : end + 1], batch.ends[some], batch.tables[some], most_rows, batch.most_context)


def world(
    sizes: list[tuple[int, int]], block_size: int, kv_heads: int, group: int, dim: int, dtype: torch.dtype = torch.float32
) -> World:
    """Requests of (tokens already there, tokens to run; 0 = padding), their blocks scattered over the pool."""
    random = torch.Generator().manual_seed(len(sizes) + dim)
    blocks = iter(torch.randperm(NUM_BLOCKS, generator=random).tolist())
    tables = [[next(blocks) for _ in range(-(-(start + count) // block_size))] if count else [] for start, count in sizes]
    most = max(map(len, tables))
    counts = torch.tensor([0] + [count for _, count in sizes])
    padded = torch.tensor([[*table, *[NOWHERE] * (most - len(table))] for table in tables], dtype=torch.int32)
    ends = torch.tensor([start + count for start, count in sizes], dtype=torch.int32)
    paged = PagedBatch(counts.cumsum(0).int(), ends, padded, int(counts.max()), most * block_size)
    owner = torch.arange(len(sizes)).repeat_interleave(counts[1:])
    positions = torch.cat([torch.arange(start, start + count) for start, count in sizes])
    slots = padded[owner, positions // block_size]
    unused = requests_of(paged, 0, 0, 1)
    packed = PackedBatch(positions, positions, slots, positions % block_size, positions[:0], positions[:0], unused, paged, 0)
    total = len(packed.tokens)
    q, k, v = (torch.randn(total, heads, dim, generator=random).to(dtype) for heads in (kv_heads * group, kv_heads, kv_heads))
    kv = filled_kv(packed, block_size, kv_heads, dim, dtype)
    kv.write(packed, k, v)
    return World(q, k, v, kv, packed, paged)


SIZES = st.lists(st.tuples(st.integers(0, 30), st.sampled_from([0, 1, 1, 2, 7, 18])), min_size=1, max_size=4).filter(
    lambda sizes: any(count for _, count in sizes)
)


@examples(25)
@given(
    SIZES,
    st.sampled_from([None, None, 1, 5, 16]),
    st.sampled_from([1, 2, 3, 8]),
    st.sampled_from([5, 16, 20]),
    st.sampled_from([1, 5, 16, 32]),
)
def test_random_ragged_batches(sizes: list[tuple[int, int]], window: int | None, group: int, dim: int, block: int) -> None:
    """Equal to the formula and to the reference backend: chunks, decodes, padding, windows, odd sizes."""
    block = max(block, -(-sum(start + count for start, count in sizes) // (NUM_BLOCKS - 4)))
    it = world(sizes, block, 1, group, dim)
    ours = it.attend(window)
    assert it.error(ours, window) < 1e-6
    qkv, heads = joined(it.q, it.k, it.v), Heads(group, 1, dim, it.scale, window)
    assert torch.allclose(ours.flatten(1), ReferenceAttention()(qkv, None, it.kv, it.packed, heads), atol=1e-5)


@pytest.mark.parametrize("shares", [1, 3])
def test_soft_caps_of_scores(shares: int) -> None:
    it = world([(0, 1), (600, 1), (0, 0), (9, 4), (0, 19)], 32, 1, 3, 20)
    ours = it.attend(soft_cap=0.7, shares=shares)
    truth = exact(it.q, it.k, it.v, it.kv, it.packed, it.scale, None, 0.7)
    assert float((ours.double() - truth).norm() / truth.norm()) < 1e-6


MIXED = [(0, 1), (33, 1), (0, 0), (9, 4), (0, 19), (3, 1)]


@pytest.mark.parametrize(
    ("kv_heads", "group", "dim", "block_size"),
    part((2, 4, 64, 16), (1, 7, 96, 5), full=[(1, 1, 80, 5), (1, 7, 96, 16), (3, 2, 32, 8), (1, 1, 256, 16), (1, 8, 128, 16)]),
)
def test_geometries(kv_heads: int, group: int, dim: int, block_size: int) -> None:
    it = world(MIXED, block_size, kv_heads, group, dim)
    assert it.error(it.attend()) < 1e-6


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 1e-2), (torch.float16, 1e-3)])
@pytest.mark.parametrize("dim", [64, 80])
def test_narrow_dtypes(dtype: torch.dtype, bound: float, dim: int) -> None:
    it = world(MIXED, 16, 2, 2, dim, dtype)
    ours = it.attend()
    assert ours.dtype is dtype
    assert it.error(ours) < bound


@pytest.mark.parametrize("launch", [LaunchConfig(16, 32, 4, 2), LaunchConfig(64, 16, 4, 2), LaunchConfig(32, 128, 4, 2)])
def test_any_tile_gives_the_same(launch: LaunchConfig) -> None:
    """Also tiles larger than a block, and larger than the context."""
    it = world(MIXED, 8, 1, 3, 16)
    assert it.error(it.attend(launch=launch)) < 1e-6
    assert it.error(it.attend(7, launch=launch), 7) < 1e-6


DECODES = [(299, 1), (0, 0), (0, 1), (700, 1), (31, 1)]


@pytest.mark.parametrize("window", [None, 300])
@pytest.mark.parametrize("shares", [1, 2, 3])
def test_shares_of_a_context_merge_to_the_whole(shares: int, window: int | None) -> None:
    it = world(DECODES, 32, 2, 2, 16)
    assert it.error(it.attend(window, shares=shares, launch=LaunchConfig(16, 64, 4, 2)), window) < 1e-6


def test_shares_serve_chunks_as_well() -> None:
    it = world([(600, 9), (20, 3)], 32, 1, 2, 16)
    assert it.error(it.attend(shares=2, launch=LaunchConfig(16, 64, 4, 2))) < 1e-6


def test_few_decodes_are_shared_out_without_being_asked() -> None:
    it = world(DECODES, 32, 1, 2, 16)
    partials = Partials.empty(128, 4, 2, 16, CPU)
    partials.logs.fill_(torch.nan)
    assert it.error(it.attend(partials=partials, launch=LaunchConfig(16, 64, 4, 2))) < 1e-6
    assert not partials.logs[0].isnan().any()


def test_partial_results_are_never_taken_from_shares_that_had_nothing_to_do() -> None:
    it = world(DECODES, 32, 1, 2, 16)
    partials = Partials.empty(3, 4, 2, 16, CPU)
    partials.outs.fill_(torch.nan)
    partials.logs.fill_(torch.nan)
    assert it.error(it.attend(partials=partials, shares=3, launch=LaunchConfig(16, 64, 4, 2))) < 1e-6


def test_rows_without_a_request_are_left_alone() -> None:
    """A captured graph has more rows and requests than the batch that it runs."""
    it = world([(5, 3), (9, 1), (0, 0), (0, 0)], 8, 1, 2, 16)
    q = torch.cat([it.q, torch.full((5, 2, 16), torch.nan)])
    for shares in (1, 2):
        out = torch.full_like(q, 7.0)
        paged_attention(q, it.kv.keys, it.kv.values, it.paged, it.scale, out=out, launch=SMALL, shares=shares)
        assert it.error(out) < 1e-6
        assert (out[4:] == 7).all()


def test_decodes_and_chunks_of_one_batch_can_be_launched_apart() -> None:
    it = world([(40, 1), (7, 1), (9, 4), (0, 20)], 8, 1, 2, 16)
    out = torch.empty_like(it.q)
    for rows, requests, most in ((slice(0, 2), (0, 2), 1), (slice(2, None), (2, 4), 20)):
        some = requests_of(it.paged, *requests, most)
        paged_attention(it.q[rows], it.kv.keys, it.kv.values, some, it.scale, out=out[rows], launch=SMALL)
    assert it.error(out) < 1e-6


def test_slots_that_were_never_written_may_hold_anything() -> None:
    it = world([(10, 1), (3, 4)], 16, 1, 2, 16)
    clean = it.attend()
    written = torch.zeros(NUM_BLOCKS, 16, dtype=torch.bool)
    for request, length in enumerate(it.paged.ends.tolist()):
        for position in range(length):
            written[it.paged.tables[request, position // 16], position % 16] = True
    for memory in (it.kv.keys, it.kv.values):
        memory.transpose(1, 2)[~written] = torch.nan
    assert torch.equal(it.attend(), clean)


def test_large_scores_stay_finite() -> None:
    it = world([(30, 1), (0, 6)], 8, 1, 1, 16)
    it.kv.keys.mul_(1e4)
    assert torch.isfinite(it.attend()).all()


def test_queries_may_lie_inside_a_fused_projection() -> None:
    it = world(MIXED, 8, 1, 2, 16)
    wide = torch.cat([it.q, it.q.new_zeros(len(it.q), 2, 16)], dim=1)[:, :2]
    out = paged_attention(wide, it.kv.keys, it.kv.values, it.paged, it.scale, launch=SMALL)
    assert torch.equal(out, it.attend())


def test_nothing_to_do() -> None:
    it = world([(5, 1)], 8, 1, 2, 16)
    empty = requests_of(it.paged, 0, 0, 1)
    assert paged_attention(it.q[:0], it.kv.keys, it.kv.values, empty, 1.0).shape == (0, 2, 16)


def test_tensors_that_do_not_fit_are_refused() -> None:
    it = world([(5, 1)], 8, 1, 2, 16)
    keys, values = it.kv.keys, it.kv.values
    for q, k, v in [
        (it.q.bfloat16(), keys, values),
        (it.q[..., :8].contiguous(), keys, values),
        (it.q, keys.transpose(2, 3), values),
        (it.q, keys, values[:, :, :4].contiguous()),
        (it.q.transpose(1, 2).contiguous().transpose(1, 2), keys, values),
    ]:
        with pytest.raises(ConfigError):
            paged_attention(q, k, v, it.paged, 1.0)
    it = world([(5, 1)], 8, 1, 20, 16)
    with pytest.raises(ConfigError, match="take 32"):
        it.attend()
