"""A decoder's operators, the work of each in an iteration, and the least time for it.

    floor of an operator = max(bytes / bandwidth, operations / rate)

Bytes are those that no cache can be counted on to hold: weights, keys and values. Activations are left out, because the
operator before has just written them. So a floor is a bound from below, also where everything fits in a cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from orcinus.core.batch import Chunk, pairs
from orcinus.memory.footprint import kv_token_bytes
from orcinus.runtime.attention import Heads
from orcinus.runtime.device_memory import best_seconds
from orcinus.runtime.linear_weight import Split
from orcinus.runtime.models import Decoder, PlainWeight
from orcinus.runtime.models.layer import Layer
from orcinus.runtime.models.linear import Linear
from orcinus.runtime.models.mixture import Mixture
from orcinus.runtime.models.mlp import MLP
from orcinus.runtime.quantized_weights import QUANTIZED_WEIGHTS

LEAST, MOST = 2**21, 2**29  # bytes read to measure bandwidth: worth a call; several times a large processor's cache
INNER = 1024  # inputs of a product that measures a bandwidth, and sides of one that measures a rate


class OperatorKind(StrEnum):
    """The parts of an iteration, in the order in which they run."""

    PLANNING = "planning"
    PACKING = "packing"
    EMBEDDING = "embedding"
    NORMS = "norms"
    QKV = "qkv"
    HEADS = "heads"  # norms of heads, rotation, and the write of keys and values
    ATTENTION = "attention"
    OUTPUT = "output"
    ROUTER = "router"  # of experts: their scores, the choice, and sums of their outputs
    UP = "gate, up"
    ACTIVATION = "activation"
    DOWN = "down"
    HEAD = "head"
    CHOOSING = "choosing"
    APPLYING = "applying"
    BETWEEN = "between"  # all that no other part accounts for


@dataclass(frozen=True, slots=True)
class OperatorWork:
    """Calls of an operator in one iteration, and the least that they do."""

    calls: int
    num_bytes: int = 0  # of weights, keys and values
    operations: int = 0  # of floating point, two for each multiplication with an addition; 0: not counted

    def __add__(self, other: OperatorWork) -> OperatorWork:
        return OperatorWork(self.calls + other.calls, self.num_bytes + other.num_bytes, self.operations + other.operations)


@dataclass(frozen=True, slots=True)
class MachineRates:
    """A machine's memory bandwidth and arithmetic rate, as measured."""

    bytes_per_s: float
    operations_per_s: float

    def floor(self, work: OperatorWork) -> float:
        """Seconds that the work takes at least."""
        return max(work.num_bytes / self.bytes_per_s, work.operations / self.operations_per_s)


@torch.inference_mode()
def measure_rates(dtype: torch.dtype, num_bytes: int, *, quantization: str | None = None) -> MachineRates:
    """The rates of this machine's CPU with all of torch's threads; takes half a second.

    Bandwidth is the best of a sum and of products with one row, over `num_bytes` bytes (2 to 512 MiB), because a small model
    stays in a cache. The rate is that of a square product. Products are tried in each layout of weights, and
    with quantised weights.
    """
    rows = min(max(num_bytes, LEAST), MOST) // (INNER * dtype.itemsize)
    matrix, row = torch.ones(rows, INNER, dtype=dtype), torch.ones(1, INNER, dtype=dtype)
    words = matrix.view(torch.float32)
    square = torch.ones(INNER, INNER, dtype=dtype)
    reads: list[Callable[[], Tensor]] = [words.sum, lambda: F.linear(row, matrix)[0, 0]]
    products: list[Callable[[], Tensor]] = [lambda: F.linear(square, square)[0, 0]]
    packed, packed_square = (PlainWeight(each, Split.columns(len(each))).process_after_loading() for each in (matrix, square))
    reads.append(lambda: packed.multiply(row, None)[0, 0])
    products.append(lambda: packed_square.multiply(square, None)[0, 0])
    if quantization is not None:
        integers = QUANTIZED_WEIGHTS[quantization].ones(INNER, INNER)
        products.append(lambda: integers.multiply(square, None)[0, 0])
    return MachineRates(matrix.nbytes / min(map(best_seconds, reads)), 2 * INNER**3 / min(map(best_seconds, products)))


def operator_work(model: Decoder, chunks: Sequence[Chunk], kv_cache_dtype: str = "auto") -> dict[OperatorKind, OperatorWork]:
    """What each operator of a model on one device does for a batch of these chunks.

    Planning, packing, choosing and so on are left out: their work depends on no weight.
    """
    tokens, samples = sum(len(chunk.tokens) for chunk in chunks), sum(chunk.samples for chunk in chunks)
    tables = [table for table in (model.embed, model.positions) if table is not None]
    row_bytes = sum(table.weight.shape[1] * table.weight.itemsize for table in tables)
    found = {OperatorKind.EMBEDDING: OperatorWork(len(tables), tokens * row_bytes)}
    for kind, work in _layers(model, chunks, _asked_of(chunks), kv_cache_dtype):
        found[kind] = found.get(kind, OperatorWork(0)) + work
    assert model.norm is not None, "a model on one device has norm and head"
    assert model.head is not None
    if samples:
        found[OperatorKind.NORMS] += _norm(model.norm)
        found[OperatorKind.HEAD] = _product(model.head, samples)
    return found


def total(works: Iterable[OperatorWork]) -> OperatorWork:
    """The sum of several."""
    return sum(works, OperatorWork(0))


def _asked_of(chunks: Sequence[Chunk]) -> list[Chunk]:
    """The tokens of which the last layer computes more than keys and values, as decodes: those that sample, or some other."""
    sampled = [chunk for chunk in chunks if chunk.samples]
    ends = [(chunk.request_id, chunk.end - drafts) for chunk in sampled for drafts in range((chunk.drafts or 0) + 1)]
    return [Chunk(name, (0,), end - 1) for name, end in ends] or [chunks[0]._replace(tokens=(0,))]


def _layers(
    model: Decoder, chunks: Sequence[Chunk], asked: Sequence[Chunk], kv_cache_dtype: str
) -> Iterable[tuple[OperatorKind, OperatorWork]]:
    tokens = sum(len(chunk.tokens) for chunk in chunks)
    for number, layer in enumerate(model.layers.values(), 1):
        assert isinstance(layer, Layer)
        queries = asked if number == len(model.layers) else chunks
        rows = sum(len(chunk.tokens) for chunk in queries)
        yield OperatorKind.NORMS, total(map(_norm, layer.norms()))
        yield OperatorKind.QKV, _product(layer.attention.qkv, tokens)
        heads = layer.attention.heads
        token_bytes = kv_token_bytes(1, heads.num_kv_heads, heads.head_dim, model.dtype.itemsize, kv_cache_dtype)
        yield OperatorKind.HEADS, _heads(heads, tokens, token_bytes)
        yield OperatorKind.ATTENTION, _attention(heads, chunks, queries, token_bytes)
        yield OperatorKind.OUTPUT, _product(layer.attention.out, rows)
        yield from _mlp(layer.mlp, rows) if isinstance(layer.mlp, MLP) else _mixture(layer.mlp, rows)


def _mlp(mlp: MLP, tokens: int) -> Iterable[tuple[OperatorKind, OperatorWork]]:
    yield OperatorKind.UP, _product(mlp.up, tokens)
    yield OperatorKind.ACTIVATION, OperatorWork(1)
    yield OperatorKind.DOWN, _product(mlp.down, tokens)


def _mixture(mixture: Mixture, tokens: int) -> Iterable[tuple[OperatorKind, OperatorWork]]:
    """The experts are those that had tokens in the mixture's last iteration: a router's choice is not known before."""
    scores = [_product(linear, tokens) for linear in (mixture.router, mixture.shared_gate) if linear is not None]
    yield OperatorKind.ROUTER, replace(total(scores), calls=1)
    if mixture.shared is not None:
        yield from _mlp(mixture.shared, tokens)
    expert = next(iter(mixture.experts.values()))
    assert isinstance(expert, MLP)
    passed = mixture.spec.per_token * tokens
    for kind, linear in ((OperatorKind.UP, expert.up), (OperatorKind.DOWN, expert.down)):
        whole = _product(linear, passed)
        yield kind, OperatorWork(1, mixture.num_active * whole.num_bytes, whole.operations)
    yield OperatorKind.ACTIVATION, OperatorWork(1)


def _norm(norm: nn.Module) -> OperatorWork:
    return OperatorWork(1, sum(parameter.nbytes for parameter in norm.parameters()))


def _product(linear: Linear, rows: int) -> OperatorWork:
    outputs, inputs = linear.weight.shape
    return OperatorWork(1, linear.num_bytes, 2 * rows * outputs * inputs)


def _heads(heads: Heads, tokens: int, token_bytes: int) -> OperatorWork:
    norms = sum(weight.nbytes for weight in heads.norms[:2]) if heads.norms is not None else 0
    return OperatorWork(1, norms + tokens * token_bytes)


def _attention(heads: Heads, chunks: Sequence[Chunk], queries: Sequence[Chunk], token_bytes: int) -> OperatorWork:
    """Reads the keys and values before each chunk; its own have just been written. `queries` are the tokens that attend."""
    read = sum(_before(chunk.start, heads.window) for chunk in chunks)
    seen = sum(_pairs(chunk.start, len(chunk.tokens), heads.window) for chunk in queries)
    return OperatorWork(1, read * token_bytes, 4 * seen * heads.num_heads * heads.head_dim)


def _before(start: int, window: int | None) -> int:
    """Tokens before a position that its token sees."""
    return start if window is None else min(start, window - 1)


def _pairs(start: int, tokens: int, window: int | None) -> int:
    """Query-key pairs of `tokens` tokens from `start`, within a window."""
    if window is None:
        return pairs(start, tokens)
    whole = max(0, min(tokens, window - start))  # tokens that see all before them
    return pairs(start, whole) + (tokens - whole) * window
