"""Every kernel on the device beside float64, for every dtype."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle

import numpy as np
import torch
from torch import Tensor

from on_gpu import truth
from on_gpu.bench import Bench, first_line
from on_gpu.paged import BLOCK, pool, ragged
from orcinus.runtime.kernels.argmax import argmax
from orcinus.runtime.kernels.attention import paged_attention
from orcinus.runtime.kernels.norm import add_rms_norm, rms_norm
from orcinus.runtime.kernels.penalties import add_biases, penalise
from orcinus.runtime.kernels.philox import uniform
from orcinus.runtime.kernels.rope_kv import rope_and_write
from orcinus.runtime.kernels.sample import Wishes, sample
from orcinus.runtime.kernels.silu_mul import act_mul
from orcinus.runtime.kernels.token_bitmask import apply_token_bitmask
from orcinus.runtime.random import uniform as uniform_on_the_host

LIMITS = {"bfloat16": 1e-2, "float16": 2e-3, "float32": 1e-3}  # relative errors
EXACT = 0.0
SAMPLE_LIMIT = 1e-4  # of probability: what float32 weights may move a border by
SIZES = (1, 100, 1024, 4096)  # rows of norms and gates
EPS = 1e-6
Case = tuple[str, Callable[[], float], float]  # what is special about it, its error, and what it may be


def run(bench: Bench) -> None:
    torch.manual_seed(0)
    report(bench, "philox", "int64", [("seeds of 64 bits", partial(_philox, bench), EXACT)])
    for dtype in bench.sizes.kernel_dtypes:
        for kernel, cases in KERNELS.items():
            report(bench, kernel, dtype, cases(bench, dtype))
    bench.fact("all within their limits", all(row["within"] for row in bench.results.rows("kernels", "errors")))


def report(bench: Bench, kernel: str, dtype: str, cases: Iterator[Case] | list[Case]) -> None:
    """A row: the worst case, relative to its limit; an exception is the worst."""
    worst, done = ("", 0.0, 0.0), 0
    try:
        for special, measure, limit in cases:
            found = _measured(bench, measure, f"{kernel}, {dtype}, {special}")
            done += 1
            if done == 1 or found - limit > worst[1] - worst[2]:
                worst = (special, found, limit)
    finally:  # those that were checked before the section was cut
        special, found, limit = worst
        cells = {"kernel": kernel, "dtype": dtype, "cases": done, "error": found, "limit": limit}
        bench.row("errors", **cells, within=done > 0 and found <= limit, worst=special)


def _measured(bench: Bench, measure: Callable[[], float], name: str) -> float:
    try:
        return measure()
    except Exception as error:
        bench.fact(name, first_line(error))
        return float("inf")


def _attention(bench: Bench, dtype: str) -> Iterator[Case]:
    """Attention cases: head sizes, groups, chunks, decodes, windows."""
    groups = cycle(bench.sizes.groups)
    for number, dim in enumerate(bench.sizes.head_dims):
        for chunks in (bench.sizes.chunks, bench.sizes.decodes):
            window, group = (None, bench.sizes.window)[number % 2], next(groups)
            kind = "decodes" if chunks is bench.sizes.decodes else "mixed"
            special = f"{kind}, dim {dim}, group {group}" + (f", window {window}" if window else "")
            yield special, partial(_attend, bench, dtype, chunks, group, dim, window), LIMITS[dtype]


def _attend(bench: Bench, dtype: str, chunks: tuple[tuple[int, int], ...], group: int, dim: int, window: int | None) -> float:
    it = ragged(chunks, 2, group, dim, getattr(torch, dtype), bench.device)
    found = paged_attention(it.q, it.keys, it.values, it.batch, it.scale, window)
    return truth.error(found, truth.attention(it, window))


def _norms(bench: Bench, dtype: str) -> Iterator[Case]:
    for size in SIZES:
        yield f"rms_norm, {size}", partial(_norm, bench, dtype, size, False), LIMITS[dtype]
        yield f"add_rms_norm, {size}", partial(_norm, bench, dtype, size, True), LIMITS[dtype]


def _norm(bench: Bench, dtype: str, size: int, added: bool) -> float:
    x, delta, weight = (_random(bench, dtype, *shape) for shape in ((bench.sizes.rows, size),) * 2 + ((size,),))
    if not added:
        return truth.error(rms_norm(x, weight, EPS), truth.rms_norm(x, weight, EPS))
    wanted = x.float() + delta.float()
    found = add_rms_norm(x, delta, weight, EPS)
    return max(truth.error(x, wanted.double()), truth.error(found, truth.rms_norm(x, weight, EPS)))


def _ropes(bench: Bench, dtype: str) -> Iterator[Case]:
    for dim, rotary, normed in ((128, 128, True), (128, 128, False), (96, 32, True), (80, 80, False), (64, 0, True)):
        special = f"dim {dim}, {rotary} rotated" + (", norms" if normed else "")
        yield special, partial(_rope, bench, dtype, dim, rotary, normed), LIMITS[dtype]


def _rope(bench: Bench, dtype: str, dim: int, rotary: int, normed: bool) -> float:
    """The largest error of queries, keys and values; padding must stay unwritten."""
    rows, kv_heads, heads = bench.sizes.rows, 2, 6
    qkv = _random(bench, dtype, rows, (heads + 2 * kv_heads) * dim)
    angle = torch.rand(rows, rotary // 2, device=bench.device) * 6
    angles = (angle.cos(), angle.sin()) if rotary else None
    keys, values = pool(rows // BLOCK + 2, kv_heads, dim, qkv.dtype, bench.device)
    slots = torch.randperm(len(keys) * BLOCK, device=bench.device)[:rows]
    blocks, offsets = slots // BLOCK, slots % BLOCK
    norms = (_random(bench, dtype, dim), _random(bench, dtype, dim), EPS) if normed else None
    q, k, v = torch.split(qkv.view(rows, -1, dim), [heads, kv_heads, kv_heads], dim=1)
    if norms:
        q, k = truth.rms_norm(q, norms[0], EPS), truth.rms_norm(k, norms[1], EPS)
    if angles:
        q, k = (truth.rotated(each.double(), *(part.double() for part in angles)) for each in (q, k))
    wanted_keys, wanted_values = keys.double(), values.double()
    wanted_keys[blocks[1:], :, offsets[1:]], wanted_values[blocks[1:], :, offsets[1:]] = k[1:].double(), v[1:].double()
    blocks[0] = -1
    found = rope_and_write(qkv, angles, (blocks, offsets), keys, values, norms)
    pairs = ((found, q.double()), (keys, wanted_keys), (values, wanted_values))
    return max(truth.error(*pair) for pair in pairs)


def _gates(bench: Bench, dtype: str) -> Iterator[Case]:
    for act in ("silu", "gelu_new"):
        for size in SIZES:
            yield f"{act}, {size}", partial(_gate, bench, dtype, act, size), LIMITS[dtype]


def _gate(bench: Bench, dtype: str, act: str, size: int) -> float:
    x = _random(bench, dtype, bench.sizes.rows, 2 * size)
    return truth.error(act_mul(x, act), truth.gated(x, act))


def _argmaxes(bench: Bench, dtype: str) -> Iterator[Case]:
    """The share of rows with another token or peak; in narrow dtypes many logits are equal, and the first one counts."""
    logits = _random(bench, dtype, bench.sizes.rows, bench.sizes.vocab)
    peaks = logits.float().amax(-1)
    first = (logits.float() == peaks[:, None]).int().argmax(-1)

    def measure() -> float:
        tokens, found = argmax(logits)
        return float(((tokens != first) | (found != peaks)).float().mean())

    yield "rows that differ", measure, EXACT


def _penalties(bench: Bench, dtype: str) -> Iterator[Case]:
    rows, most = bench.sizes.rows, 300
    logits = _random(bench, dtype, rows, bench.sizes.vocab) * 4
    ids = torch.rand(rows, bench.sizes.vocab, device=bench.device).topk(most).indices.int()
    counts = torch.randint(0, 4, (rows, most), device=bench.device, dtype=torch.int32)
    ids[:, most - 7 :] = -1
    three = [torch.rand(rows, device=bench.device) + shift for shift in (0.7, 0.0, -0.5)]

    def penalties() -> float:
        found = logits.clone()
        penalise(found, ids, counts, *three)
        return truth.error(found, truth.penalised(logits, ids, counts, *three))

    def biases() -> float:
        found, bias = logits.clone(), torch.randn(rows, most, device=bench.device)
        add_biases(found, ids, bias)
        seen = ids >= 0
        wanted = logits.double().scatter_add(1, ids.clamp(min=0).long(), torch.where(seen, bias, 0.0).double())
        return truth.error(found, wanted)

    yield "penalties", penalties, LIMITS[dtype]
    yield "biases", biases, LIMITS[dtype]


def _bitmasks(bench: Bench, dtype: str) -> Iterator[Case]:
    logits = _random(bench, dtype, bench.sizes.rows, bench.sizes.vocab)

    def masked() -> float:
        some = torch.randperm(len(logits))[: max(1, len(logits) // 2)]
        allowed = torch.rand(len(some), -(-logits.shape[1] // 32) * 32) < 0.5
        words = torch.from_numpy(np.packbits(allowed.numpy(), axis=1, bitorder="little").view(np.int32))
        found, wanted = logits.clone(), logits.clone()
        apply_token_bitmask(found, some.int().to(bench.device), words.to(bench.device))
        wanted[some] = wanted[some].masked_fill(~allowed[:, : logits.shape[1]].to(bench.device), -torch.inf)
        return float(not torch.equal(found, wanted))

    yield "half of the rows, half of the tokens", masked, EXACT


WISHES = (  # temperature, top_k, top_p, min_p
    (0.0, 0, 1.0, 0.0), (1.0, 0, 1.0, 0.0), (0.6, 0, 1.0, 0.0), (0.8, 0, 0.9, 0.0), (1.0, 50, 1.0, 0.0),
    (1.0, 0, 1.0, 0.05), (0.7, 20, 0.8, 0.01), (1.3, 0, 0.99, 0.0), (1.0, 5000, 0.95, 0.0),
)  # fmt: skip


def _samples(bench: Bench, dtype: str) -> Iterator[Case]:
    logits = _random(bench, dtype, bench.sizes.rows, bench.sizes.vocab) * 3
    for wish in WISHES:
        special = "temperature {}, top_k {}, top_p {}, min_p {}".format(*wish)
        yield special, partial(_sample, bench, logits, wish), SAMPLE_LIMIT


def _sample(bench: Bench, logits: Tensor, wish: tuple[float, int, float, float]) -> float:
    """The largest distance of a row's uniform number from its token's share."""
    rows, device = len(logits), bench.device
    temperature, top_k, top_p, min_p = wish
    seeds = torch.randint(-(2**62), 2**62, (rows,))
    positions = torch.arange(rows) * 17 + 1
    floats = [torch.full((rows,), value, device=device) for value in (temperature, top_p, min_p)]
    wishes = Wishes(
        floats[0], torch.full((rows,), top_k, dtype=torch.int32, device=device), floats[1], floats[2], seeds.to(device),
        positions.to(device),
    )  # fmt: skip
    tokens, _ = sample(logits, wishes, top_k > 0 or top_p < 1 or min_p > 0)
    numbers = uniform_on_the_host(seeds.tolist(), positions.tolist()).tolist()
    pairs = zip(logits, tokens.tolist(), numbers, strict=True)
    single = [float(torch.tensor(value)) for value in (temperature, top_p, min_p)]  # as float32 has them
    return max(truth.distance(row, token, u, single[0], top_k, *single[1:]) for row, token, u in pairs)


def _philox(bench: Bench) -> float:
    """The share of numbers that are not bit for bit those of the host."""
    seeds, positions = (torch.randint(-(2**63), 2**63 - 1, (10_000,)) for _ in range(2))
    positions &= 2**63 - 1
    found = uniform(seeds.to(bench.device), positions.to(bench.device)).cpu().numpy()
    return float(np.mean(found != uniform_on_the_host(seeds.tolist(), positions.tolist())))


def _random(bench: Bench, dtype: str, *shape: int) -> Tensor:
    return torch.randn(shape, device=bench.device).to(getattr(torch, dtype))


KERNELS: dict[str, Callable[[Bench, str], Iterator[Case]]] = {
    "rms_norm": _norms,
    "rope_kv": _ropes,
    "act_mul": _gates,
    "argmax": _argmaxes,
    "token_bitmask": _bitmasks,
    "penalties": _penalties,
    "sample": _samples,
    "attention": _attention,
}
