"""The arguments of a kernel for many layers: those of one layer, and a table of what differs in the others.

To pass an array from Python costs a kernel some tenths of a microsecond, and a layer has thirty. So a call passes the arrays
of one layer, and for all layers the addresses of theirs, which have the same shapes.
"""

# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic

from orcinus.runtime.cpu_kernels.vectors import INDEX


def form(argument: Any) -> Any:
    """What layers must share to stand in one table: all but the addresses of arrays, and integers."""
    if isinstance(argument, tuple):
        return tuple(map(form, argument))
    if isinstance(argument, np.ndarray):
        return argument.shape, argument.dtype.str
    return int if isinstance(argument, int) else argument


def table_row(arguments: tuple[Any, ...]) -> list[int]:
    """A layer's addresses and integers, in the order of its arguments."""
    found = []
    for argument in arguments:
        if isinstance(argument, tuple):
            found += table_row(argument)
        elif isinstance(argument, np.ndarray):
            found.append(argument.ctypes.data)
        elif isinstance(argument, int):
            found.append(argument)
    return found


@intrinsic
def of_layer(_, like, table, layer, first):
    """The arguments of a layer: `like`, another one's, with the numbers of row `layer` of the table, from `first` on."""

    def generate(context, builder, signature, arguments):
        table = context.make_array(signature.args[1])(context, builder, arguments[1])
        begin = builder.add(builder.mul(arguments[2], builder.extract_value(table.shape, 1)), arguments[3])
        places = count()

        def number():
            return builder.load(builder.gep(table.data, [builder.add(begin, INDEX(next(places)))]))

        def replaced(kind, value):
            if isinstance(kind, types.BaseTuple):
                members = zip(kind.types, cgutils.unpack_tuple(builder, value), strict=True)
                return context.make_tuple(builder, kind, [replaced(*member) for member in members])
            if isinstance(kind, types.Array):
                array = context.make_array(kind)(context, builder, value)
                array.data = builder.inttoptr(number(), array.data.type)
                return array._getvalue()
            return number() if isinstance(kind, types.Integer) else value

        return impl_ret_borrowed(context, builder, signature.return_type, replaced(signature.args[0], arguments[0]))

    return like(like, table, types.int64, types.int64), generate
