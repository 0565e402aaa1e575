"""Random ragged batches with head norms and rotation, run through any backend, with or without room for padding."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from orcinus.core.batch import Batch
from orcinus.core.executor_state import RequestStates
from orcinus.runtime.attention import Attention, Heads
from orcinus.runtime.attention.port import Angles, split
from orcinus.runtime.batch_columns import BatchColumns
from orcinus.runtime.kv_cache import LayerKV, allocate
from orcinus.runtime.pack import Layout, PackedBatch, Packer, Shape, pack, shape_of
from tests.runtime.test_attention import exact
from tests.seam import Part, batch_of

NUM_BLOCKS = 64
NOWHERE = 10**6  # a block that does not exist, an end that no sequence has: using such a number fails
SIZES = st.lists(st.tuples(st.integers(0, 40), st.sampled_from([1, 1, 2, 7, 20])), min_size=1, max_size=4)
MIXED = [(0, 1), (37, 1), (30, 4), (0, 9), (7, 1), (3, 2)]


@dataclass(frozen=True)
class Case:
    """A batch of (tokens already there, tokens to run), and the layer that it meets."""

    sizes: list[tuple[int, int]]
    window: int | None = None
    block_size: int = 8
    kv_heads: int = 2
    group: int = 3
    dim: int = 16
    dtype: torch.dtype = torch.float32
    normed: bool = True
    rotated: bool = True

    def random(self) -> torch.Generator:
        return torch.Generator().manual_seed(len(self.sizes) + self.dim)

    def batch(self) -> tuple[Batch, RequestStates]:
        """Its blocks are scattered over the pool."""
        blocks = iter(torch.randperm(NUM_BLOCKS, generator=self.random()).tolist())
        chunks = []
        for index, (start, count) in enumerate(self.sizes):
            table = tuple(next(blocks) for _ in range(-(-(start + count) // self.block_size)))
            chunks.append(Part(f"r{index}", (0,) * count, start, table))
        return batch_of(chunks)

    def memory(self) -> tuple[LayerKV, ...]:
        """Two random layers, the second one under test; they hold tokens that must not be seen, too."""
        layers = allocate(2, NUM_BLOCKS, self.kv_heads, self.block_size, self.dim, self.dtype, torch.device("cpu"))
        random = self.random()
        for memory in (memory for layer in layers for memory in (layer.keys, layer.values)):
            memory.copy_(torch.randn(memory.shape, generator=random))
        return layers

    def projected(self) -> list[Tensor]:
        """The rows of each chunk, as the fused projection leaves them."""
        random, columns = self.random(), (self.group + 2) * self.kv_heads * self.dim
        return [torch.randn(count, columns, generator=random).to(self.dtype) for _, count in self.sizes]

    def heads(self, dtype: torch.dtype | None = None, device: str = "cpu") -> Heads:
        random = self.random()
        of_q, of_k = ((1 + torch.randn(self.dim, generator=random) / 4).to(self.dtype) for _ in range(2))
        norms = (of_q.to(device, dtype or self.dtype), of_k.to(device, dtype or self.dtype), 1e-6) if self.normed else None
        return Heads(self.kv_heads * self.group, self.kv_heads, self.dim, self.dim**-0.5, self.window, norms)

    def angles(self, positions: Tensor, dtype: torch.dtype | None = None) -> Angles | None:
        """As the decoder makes them, in the model's dtype; the same numbers in another if that is asked for."""
        if not self.rotated:
            return None
        angle = positions[:, None] * 1e4 ** -torch.linspace(0, 1, self.dim // 2)
        return angle.cos().to(self.dtype).to(dtype or self.dtype), angle.sin().to(self.dtype).to(dtype or self.dtype)


@dataclass(frozen=True)
class Outcome:
    """What a backend made of a case: the rows of each chunk, and what stands in K/V memory afterwards."""

    chunks: list[Tensor]
    layers: tuple[LayerKV, ...]

    @property
    def kv(self) -> LayerKV:
        return self.layers[-1]

    def error(self, other: Outcome) -> float:
        """‖ours - theirs‖ / ‖theirs‖, over all chunks."""
        ours, theirs = torch.cat(self.chunks).double(), torch.cat(other.chunks).double()
        return float((ours - theirs).norm() / theirs.norm())


def with_room(shape: Shape) -> Shape:
    """A larger shape, as a captured graph has."""
    return replace(
        shape,
        decodes=shape.decodes + 3,
        chunks=shape.chunks + 2,
        chunk_rows=shape.chunk_rows + 5,
        most_rows=shape.most_rows + 5,
        samples=shape.samples + 1,
        blocks=shape.blocks + 2,
        most_context=shape.most_context + 600,
    )


def run(attention: Attention, case: Case, *, padded: bool = False, device: str = "cpu") -> Outcome:
    """One layer's attention. Whatever padding could be mistaken for is not a number, or leads nowhere."""
    (batch, states), layers = case.batch(), tuple(LayerKV(kv.keys.to(device), kv.values.to(device)) for kv in case.memory())
    columns = BatchColumns.of(batch, states)
    shape = shape_of(columns)
    shape = with_room(shape) if padded else shape
    words = torch.full((shape.words,), NOWHERE, dtype=torch.int32)
    firsts = Packer(case.block_size).fill(Layout.over(words.numpy(), shape), columns, shape)
    angles = case.angles(PackedBatch.over(words, shape)[0].positions)
    qkv = torch.full((shape.rows, (case.group + 2) * case.kv_heads * case.dim), torch.nan, dtype=case.dtype)
    for first, rows in zip(firsts, case.projected(), strict=True):
        qkv[first : first + len(rows)] = rows
    there = None if angles is None else (angles[0].to(device), angles[1].to(device))
    out = attention(qkv.to(device), there, layers[-1], PackedBatch.over(words.to(device), shape)[0], case.heads(device=device))
    assert out.shape == (shape.rows, case.kv_heads * case.group * case.dim)
    assert out.dtype is case.dtype
    chunks = [out[first : first + count].cpu() for first, (_, count) in zip(firsts, case.sizes, strict=True)]
    return Outcome(chunks, tuple(LayerKV(kv.keys.cpu(), kv.values.cpu()) for kv in layers))


def truth(case: Case) -> Outcome:
    """The formula, token by token, in float64 from the same numbers."""
    (packed,) = pack(*case.batch(), case.block_size)
    kv = LayerKV(case.memory()[-1].keys.double(), case.memory()[-1].values.double())
    order = sorted(range(len(case.sizes)), key=lambda index: case.sizes[index][1] > 1)  # as a batch is packed: decodes first
    counts = [case.sizes[index][1] for index in order]
    qkv = torch.cat([case.projected()[index] for index in order]).double()
    heads = case.heads(torch.float64)
    q, k, v = split(qkv, case.angles(packed.positions, torch.float64), kv, packed, heads)
    rows = exact(q, k, v, kv, packed, heads.scale, case.window).flatten(1).split(counts)
    return Outcome([rows[order.index(index)] for index in range(len(order))], (kv,))


def written(case: Case) -> Tensor:
    """Which slots the batch's own tokens take, `[num_blocks, block_size]`."""
    slots = torch.zeros(NUM_BLOCKS, case.block_size, dtype=torch.bool)
    batch, states = case.batch()
    for chunk in batch.chunks:
        (table,) = states[chunk.request_id].blocks
        for position in range(chunk.start, chunk.end):
            slots[table[position // case.block_size], position % case.block_size] = True
    return slots


def nothing_else_was_written(case: Case, outcome: Outcome) -> bool:
    """Every slot but those of the batch's own tokens is as it was, bit by bit, the other layer's too."""
    for layer, before in zip(outcome.layers, case.memory(), strict=True):
        others = ~written(case) if layer is outcome.kv else torch.ones(NUM_BLOCKS, case.block_size, dtype=torch.bool)
        for now, then in ((layer.keys, before.keys), (layer.values, before.values)):
            if not torch.equal(now.transpose(1, 2)[others], then.transpose(1, 2)[others]):
                return False
    return True
