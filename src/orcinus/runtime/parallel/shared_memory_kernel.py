"""Exchange through memory that ranks share, compiled by Numba.

    slots[2, tp, bytes]   what each rank gives, in two buffers that take turns
    flags[tp]             the number of the exchange that each rank has given its part of, a cache line each

A rank writes its part, then its flag (release); it reads the others' flags (acquire), then their parts. These are atomic
operations of LLVM: plain stores and loads on x86, whose hardware keeps their order, and `stlr` and `ldar` on ARM.

Two buffers are enough. A rank writes exchange n + 2 into the buffer of exchange n only after it has seen all flags at n + 1,
and each rank sets that one after it has read all parts of exchange n.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from orcinus.runtime.compiled import exact, keep_compiled

LINE = 128  # bytes from flag to flag: ARM has cache lines of 128 bytes, and x86 fetches pairs of 64
DONE = -1
YIELDS = 2000  # times that a waiting rank lets others run, before it sleeps: about a millisecond
NAPS, NAP_US = 100, 50  # then it sleeps, and returns to Python at last, which looks at the clock
BLOCK = 1024  # elements that are summed at once, so that sums stay in the nearest cache

_sched_yield: Any = types.ExternalFunction("sched_yield", types.int32())
_usleep: Any = types.ExternalFunction("usleep", types.int32(types.uint32))


@intrinsic
def _load_acquire(typing_context, address):
    """The flag at this address."""

    def generate(context, builder, signature, arguments):
        return builder.load_atomic(builder.inttoptr(arguments[0], cgutils.intp_t.as_pointer()), "acquire", 8)

    return types.intp(types.intp), generate


@intrinsic
def _store_release(typing_context, address, value):
    """Set the flag at this address."""

    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], cgutils.intp_t.as_pointer())
        builder.store_atomic(arguments[1], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


def _widen(x):
    """An element as float32; bfloat16 comes as its 16 bits."""


@overload(_widen, inline="always")
def _widen_of(x):
    if x == types.uint16:
        return lambda x: np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)
    return lambda x: x


def _narrow(like, x):
    """A float32 as an element like that one; bfloat16 is rounded to nearest, ties to even."""


@overload(_narrow, inline="always")
def _narrow_to(like, x):
    if like != types.uint16:
        return lambda like, x: x

    def rounded(like, x):
        # The lower bits of a NaN here are zero, as those of the elements it comes from: it stays one.
        bits = np.float32(x).view(np.uint32)
        return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))

    return rounded


@exact
def _publish(flags, rank, exchange):
    _store_release(flags + rank * LINE, exchange)


@exact
def _wait(flags, tp, exchange, yields):
    """DONE when all ranks have given their part; otherwise a rank that has not, after some milliseconds."""
    for rank in range(tp):
        waits = 0
        while _load_acquire(flags + rank * LINE) < exchange:
            if waits >= yields + NAPS:
                return rank
            if waits < yields:
                _sched_yield()
            else:
                _usleep(np.uint32(NAP_US))
            waits += 1
    return DONE


@keep_compiled
@exact(nogil=True)
def all_reduce(x, slots, flags, rank, exchange, fresh):
    """Sum `x` over the ranks in their order, in place. Returns DONE, or a rank to wait for: call again, not `fresh`."""
    tp = slots.shape[1]
    parts = slots[exchange & 1]
    if fresh:
        mine = parts[rank]
        for i in range(x.size):
            mine[i] = x[i]
        _publish(flags, rank, exchange)
    missing = _wait(flags, tp, exchange, YIELDS if fresh else 0)
    if missing != DONE:
        return missing
    total = np.empty(BLOCK, np.float32)
    for start in range(0, x.size, BLOCK):
        sums = x[start : start + BLOCK]
        n = sums.size
        part = parts[0, start : start + n]
        for i in range(n):
            total[i] = _widen(part[i])
        for other in range(1, tp):
            part = parts[other, start : start + n]
            for i in range(n):
                total[i] += _widen(part[i])
        for i in range(n):
            sums[i] = _narrow(sums[i], total[i])
    return DONE


@keep_compiled
@exact(nogil=True)
def all_gather(x, out, widths, start, slots, flags, rank, exchange, fresh):
    """Bytes of each rank's rows into the rows of `out`, side by side.

    `x` is this rank's rows, flat; `widths` are bytes of a row of each rank. This exchange brings bytes [start, start + the
    size of a slot) of each. Returns as `all_reduce` does.
    """
    tp, capacity = slots.shape[1], slots.shape[2]
    parts = slots[exchange & 1]
    if fresh:
        given = x[start : start + capacity]
        mine = parts[rank]
        for i in range(given.size):
            mine[i] = given[i]
        _publish(flags, rank, exchange)
    missing = _wait(flags, tp, exchange, YIELDS if fresh else 0)
    if missing != DONE:
        return missing
    column = 0
    for other in range(tp):
        width = widths[other]
        at, end = start, min(start + capacity, width * out.shape[0])
        while at < end:
            row, offset = at // width, at % width
            n = min(width - offset, end - at)
            to = out[row, column + offset : column + offset + n]
            part = parts[other, at - start : at - start + n]
            for i in range(n):
                to[i] = part[i]
            at += n
        column += width
    return DONE
