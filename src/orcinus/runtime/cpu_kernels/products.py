"""A product with a weight in any of the forms that kernels know, chosen when a kernel is compiled."""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from numba.extending import overload

from orcinus.runtime.compiled import external
from orcinus.runtime.cpu_kernels.grouped_products import multiply_groups
from orcinus.runtime.cpu_kernels.packed_rows_product import multiply_rows

KERNELS = {
    2: external(multiply_rows),
    7: external(multiply_groups),
}  # by the number of arrays and numbers that make up a weight and its bias


def multiply(x, weight, out):
    """`out` = x · weightᵀ + bias, for kernels; weight and bias are a tuple of what a kernel of `KERNELS` takes."""
    raise NotImplementedError("it is compiled")


@overload(multiply)
def _multiply(x, weight, out):
    kernel = KERNELS[len(weight)]
    return lambda x, weight, out: kernel(x, *weight, out)
