"""Attention backends against each other, and against the formula in float64."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numba
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from orcinus.memory.footprint import kv_token_bytes
from orcinus.runtime.attention import ATTENTION, Heads, reference
from orcinus.runtime.attention.port import Angles, rotate
from orcinus.runtime.attention.reference import parts
from orcinus.runtime.cpu_kernels import online_softmax
from orcinus.runtime.kv_cache import LayerKV, allocate
from orcinus.runtime.pack import PackedBatch, pack
from tests.examples import examples
from tests.product import part
from tests.seam import Part, batch_of

HERE = ("reference", "cpu")  # the others are in tests/runtime/gpu
NUM_BLOCKS = 64


def packed_batch(chunks: Sequence[Part], block_size: int) -> PackedBatch:
    (packed,) = pack(*batch_of(chunks), block_size)
    return packed


def ragged_batch(sizes: list[tuple[int, int]], block_size: int, seed: int) -> PackedBatch:
    """Chunks of (tokens already there, tokens to run), their blocks scattered over the pool."""
    blocks = iter(torch.randperm(NUM_BLOCKS, generator=torch.Generator().manual_seed(seed)).tolist())
    chunks = []
    for index, (start, count) in enumerate(sizes):
        table = tuple(next(blocks) for _ in range(-(-(start + count) // block_size)))
        chunks.append(Part(f"r{index}", (0,) * count, start, table))
    return packed_batch(chunks, block_size)


def filled_kv(batch: PackedBatch, block_size: int, heads: int, dim: int, dtype: torch.dtype) -> LayerKV:
    """K/V memory in which everything is random: what a token must not see is there too."""
    (kv,) = allocate(1, NUM_BLOCKS, heads, block_size, dim, dtype, torch.device("cpu"))
    kv.keys.normal_()
    kv.values.normal_()
    return kv


def exact(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kv: LayerKV,
    batch: PackedBatch,
    scale: float,
    window: int | None,
    soft_cap: float | None = None,
) -> Tensor:
    """softmax(q · kᵀ · scale) · v, token by token, in float64."""
    kv.write(batch, k, v)
    block_size = kv.keys.shape[2]
    out = torch.empty(q.shape, dtype=torch.float64)
    group = q.shape[1] // k.shape[1]
    for chunk in (*parts(batch.decodes, 0), *parts(batch.chunks, len(batch.sources))):
        table = chunk.blocks.tolist()
        places = [(table[p // block_size], slice(None), p % block_size) for p in range(chunk.end)]
        all_keys, all_values = (torch.stack([memory[place] for place in places]).double() for memory in (kv.keys, kv.values))
        for row, position in enumerate(range(chunk.start, chunk.end), chunk.rows.start):
            seen = slice(max(0, position + 1 - window) if window else 0, position + 1)
            keys, values = all_keys[seen], all_values[seen]
            for head in range(q.shape[1]):
                scores = keys[:, head // group] @ q[row, head].double() * scale
                if soft_cap is not None:
                    scores = soft_cap * torch.tanh(scores / soft_cap)
                out[row, head] = torch.softmax(scores, 0) @ values[:, head // group]
    return out


def joined(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As a projection leaves them, side by side."""
    return torch.cat((q, k, v), dim=1).flatten(1)


def compare(
    name: str,
    sizes: list[tuple[int, int]],
    block_size: int,
    kv_heads: int,
    group: int,
    dim: int,
    window: int | None,
    dtype: torch.dtype = torch.float32,
    *,
    normed: bool = False,
    rotated: bool = False,
    soft_cap: float | None = None,
) -> float:
    """Relative error ‖ours - exact‖ / ‖exact‖, of the outputs and of the stored keys and values."""
    torch.manual_seed(len(sizes) + dim)
    batch = ragged_batch(sizes, block_size, seed=dim)
    total = len(batch.tokens)
    q = torch.randn(total, kv_heads * group, dim).to(dtype)
    k, v = torch.randn(total, kv_heads, dim).to(dtype), torch.randn(total, kv_heads, dim).to(dtype)
    weights = torch.rand(2, dim).to(dtype) + 0.5
    norms = (weights[0], weights[1], 1e-6) if normed else None
    turns = torch.rand(total, dim // 2) * 6
    angles = (turns.cos().to(dtype), turns.sin().to(dtype)) if rotated else None
    kv = filled_kv(batch, block_size, kv_heads, dim, dtype)
    kept = LayerKV(kv.keys.clone(), kv.values.clone())
    heads = Heads(kv_heads * group, kv_heads, dim, dim**-0.5, window, norms, soft_cap)
    ours = ATTENTION[name]()(joined(q, k, v), angles, kv, batch, heads)
    assert ours.dtype is dtype
    q, k = prepared(q.double(), angles, norms and norms[0]), prepared(k.double(), angles, norms and norms[1])
    truth = exact(q, k.to(dtype), v, kept, batch, dim**-0.5, window, soft_cap)
    tolerance = 1e-2 if dtype is torch.bfloat16 else 1e-5
    assert kept.keys.allclose(kv.keys, rtol=tolerance, atol=tolerance)
    assert kept.values.equal(kv.values)
    return float((ours.view(q.shape).double() - truth).norm() / truth.norm())


def prepared(x: Tensor, angles: Angles | None, weight: Tensor | None) -> Tensor:
    """Heads `[T, heads, dim]` after norm (eps 1e-6) and rotation, in float64."""
    if weight is not None:
        x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight.double()
    return x if angles is None else rotate(x, angles[0].double(), angles[1].double())


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("window", [None, 7])
def test_soft_caps_of_scores(name: str, window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cap so low that the largest scores are cut to half; the reference computes three rows of the last chunk at a time."""
    monkeypatch.setattr(reference, "SCORES", 3 * 6 * 20)
    assert compare(name, [(0, 1), (40, 1), (9, 4), (0, 20)], 8, 2, 3, 20, window, normed=True, soft_cap=2.0) < 1e-5


SIZES = st.lists(st.tuples(st.integers(0, 40), st.sampled_from([1, 1, 1, 2, 7, 20])), min_size=1, max_size=5)


@examples(40)
@given(st.sampled_from(HERE), SIZES, st.sampled_from([None, 1, 5, 16, 33]), st.booleans(), st.booleans())
def test_random_ragged_batches(
    name: str, sizes: list[tuple[int, int]], window: int | None, normed: bool, rotated: bool
) -> None:
    assert compare(name, sizes, 8, 2, 3, 20, window, normed=normed, rotated=rotated) < 1e-5


# The CPU's kernel is compiled for each of them, and elsewhere for the bundled model and the tests' checkpoints.
GEOMETRIES = part(
    ("cpu", 1, 1, 2, 1),
    ("cpu", 2, 2, 64, 16),
    ("reference", 3, 1, 80, 5),
    full=[
        ("cpu", 3, 1, 80, 5),
        ("cpu", 1, 8, 128, 16),
        *(("reference", *one) for one in ((1, 1, 2, 1), (2, 2, 64, 16), (1, 8, 128, 16))),
    ],
)


@pytest.mark.parametrize(("name", "kv_heads", "group", "dim", "block_size"), GEOMETRIES)
def test_geometries(name: str, kv_heads: int, group: int, dim: int, block_size: int) -> None:
    sizes = [(0, 1), (7, 1), (9, 4), (0, 6), (3, 1)]
    assert compare(name, sizes, block_size, kv_heads, group, dim, window=None) < 1e-5


@pytest.mark.parametrize("name", HERE)
def test_bfloat16(name: str) -> None:
    sizes = [(0, 1), (37, 1), (30, 4), (0, 9)]
    assert compare(name, sizes, 16, 2, 2, 64, None, torch.bfloat16, normed=True, rotated=True) < 1e-2


def test_in_bfloat16_rounded_weights_cost_less_than_the_rounding_of_the_output() -> None:
    """Wherever the processor multiplies pairs of bfloat16, and more so elsewhere."""
    torch.manual_seed(0)
    batch = ragged_batch([(0, 300)], 16, 0)
    (kv,) = allocate(1, NUM_BLOCKS, 2, 16, 64, torch.bfloat16, torch.device("cpu"))
    qkv = torch.randn(300, 8 * 64).bfloat16()
    found = ATTENTION["cpu"]()(qkv.clone(), None, kv, batch, Heads(4, 2, 64, 0.125)).double()
    q, k, v = (part.transpose(0, 1) for part in torch.split(qkv.double().view(300, 8, 64), [4, 2, 2], dim=1))
    expected = scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.125, enable_gqa=True).transpose(0, 1).flatten(1)
    rounding = (expected.bfloat16().double() - expected).square().mean().sqrt()
    assert (found - expected).square().mean().sqrt() < 2 * rounding


@pytest.mark.parametrize("window", [None, 150, 40])
def test_long_sequences_are_put_together_from_pieces(window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online_softmax, "PIECE", online_softmax.KEYS)
    sizes = [(310, 1), (95, 1), (96, 1), (0, 1), (90, 12), (250, 20)]
    assert compare("cpu", sizes, 16, 2, 3, 20, window, normed=True, rotated=True) < 1e-5


def test_a_decode_is_the_same_to_the_bit_whatever_its_neighbours_and_threads() -> None:
    """Its sums are cut at multiples of a fixed number of tokens, and added in one order."""
    alone = ragged_batch([(39, 1)], 8, 3)
    beside = ragged_batch([(39, 1), (17, 1), (0, 20), (30, 1)], 8, 3)  # the first one has the same blocks
    torch.manual_seed(0)
    kv = filled_kv(beside, 8, 2, 20, torch.float32)
    qkv = torch.randn(len(beside.tokens), (6 + 2 + 2) * 20)
    attend, heads = ATTENTION["cpu"](), Heads(6, 2, 20, 20**-0.5)
    expected = attend(qkv[:1].clone(), None, LayerKV(kv.keys.clone(), kv.values.clone()), alone, heads)[0]
    assert attend(qkv.clone(), None, LayerKV(kv.keys.clone(), kv.values.clone()), beside, heads)[0].equal(expected)
    before = numba.get_num_threads()
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    assert attend(qkv, None, kv, beside, heads)[0].equal(expected)
    numba.set_num_threads(before)


@pytest.mark.parametrize(("group", "dim", "dtype"), [(3, 20, torch.float32), (2, 64, torch.bfloat16)])
@pytest.mark.parametrize("window", [None, 70, 150])
def test_chunks_longer_than_a_tile(window: int | None, group: int, dim: int, dtype: torch.dtype) -> None:
    """Several tiles of keys, several panels of rows, and their edges inside chunks."""
    sizes = [(250, 90), (0, 100), (95, 2), (7, 1), (96, 33)]
    limit = 1e-2 if dtype is torch.bfloat16 else 1e-5
    assert compare("cpu", sizes, 16, 2, group, dim, window, dtype, normed=True, rotated=True) < limit


CUTS = st.lists(st.integers(1, 299), max_size=6, unique=True)
KINDS = part((torch.float32, "auto"), full=[(torch.bfloat16, "auto"), (torch.bfloat16, "int8"), (torch.float32, "int8")])


@pytest.mark.parametrize(("dtype", "kv_cache_dtype"), KINDS)
@examples(12)
@given(
    cuts=CUTS,
    window=st.sampled_from([None, 60, 150]),
    soft_cap=st.sampled_from([None, 3.0]),
    block_size=st.sampled_from([5, 16]),
    group_and_dim=st.sampled_from([(3, 20), (1, 64), (4, 7)]),
    pieces=st.booleans(),
)
def test_a_token_has_the_same_bits_however_its_sequence_is_cut(
    dtype: torch.dtype, kv_cache_dtype: str, cuts: list[int], window: int | None, soft_cap: float | None, block_size: int,
    group_and_dim: tuple[int, int], pieces: bool,
) -> None:  # fmt: skip
    """Chunks of any length, decodes among them, against one chunk, and with short pieces, too."""
    torch.manual_seed(0)
    (group, dim), kv_heads, length = group_and_dim, 2, 300
    heads = Heads(group * kv_heads, kv_heads, dim, dim**-0.5, window, soft_cap=soft_cap)
    qkv, attend = torch.randn(length, (group + 2) * kv_heads * dim).to(dtype), ATTENTION["cpu"]()
    with pytest.MonkeyPatch.context() as patch:
        if pieces:
            patch.setattr(online_softmax, "PIECE", online_softmax.KEYS)
        found = []
        for bounds in ([0, length], [0, *sorted(cuts), length], [0, 250, *range(length - 20, length + 1)]):
            (kv,) = allocate(1, NUM_BLOCKS, kv_heads, block_size, dim, dtype, torch.device("cpu"), kv_cache_dtype)
            rows = []
            for start, end in itertools.pairwise(bounds):
                batch = ragged_batch([(start, end - start), (3, 9)], block_size, 5)  # the first request has the same blocks
                beside = torch.randn(9, qkv.shape[1]).to(dtype)
                rows.append(attend(torch.cat((qkv[start:end], beside)), None, kv, batch, heads)[: end - start])
            found.append(torch.cat(rows))
    assert all(each.equal(found[0]) for each in found[1:])


def test_the_decode_kernel_survives_large_scores() -> None:
    """The running maximum keeps exponentials finite."""
    batch = ragged_batch([(30, 1)], 8, 0)
    kv = filled_kv(batch, 8, 1, 20, torch.float32)
    kv.keys.mul_(1e3)
    q, k, v = torch.full((1, 3, 20), 100.0), torch.zeros(1, 1, 20), torch.zeros(1, 1, 20)
    outputs = [ATTENTION[name]()(joined(q, k, v), None, kv, batch, Heads(3, 1, 20, 1.0)) for name in HERE]
    assert torch.isfinite(outputs[0]).all()
    assert torch.allclose(outputs[0], outputs[1], atol=1e-5)


def test_packing_flattens_a_mixed_batch() -> None:
    """The paper's example: requests of 1, 1, 2 and 3 tokens make 7 rows."""
    parts_of_all = (
        Part("x1", (11,), 5, (3, 9)),
        Part("x2", (12,), 3, (4,)),
        Part("x3", (13, 14), 0, (7,)),
        Part("x4", (15, 16, 17), 4, (1, 2), samples=False),
    )
    packed = packed_batch(parts_of_all, 4)
    assert packed.tokens.tolist() == [11, 12, 13, 14, 15, 16, 17]
    assert packed.positions.tolist() == [5, 3, 0, 1, 4, 5, 6]
    assert packed.slot_blocks.tolist() == [9, 4, 7, 7, 2, 2, 2]
    assert packed.slot_offsets.tolist() == [1, 3, 0, 1, 0, 1, 2]
    assert packed.sample_rows.tolist() == [0, 1, 3]
    assert packed.decodes.firsts.tolist() == [0, 1, 2]
    assert [table[:used].tolist() for table, used in zip(packed.decodes.tables, (2, 1), strict=True)] == [[3, 9], [4]]
    assert packed.decodes.ends.tolist() == [6, 4]
    assert packed.chunks.firsts.tolist() == [0, 2, 5]
    assert [(part.rows, part.start, part.end) for part in parts(packed.chunks, 2)] == [(slice(2, 4), 0, 2), (slice(4, 7), 4, 7)]


def test_bytes_per_token_of_the_papers_models() -> None:
    """K and V of one token over all layers in fp16: 13B 0.819 MB, 175B 4.72 MB (Orca, table 1)."""
    assert kv_token_bytes(40, 40, 128, 2) == 819_200
    assert np.isclose(kv_token_bytes(96, 96, 128, 2), 4.72e6, rtol=1e-3)
