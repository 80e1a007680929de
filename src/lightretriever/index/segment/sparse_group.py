"""The innermost step of a sparse search: 64 documents' bounds at once, in whatever vectors the processor has.

It is written as LLVM's own vectors, which every processor is given in pieces of the size that it has: a plain loop
would be widened to 64-bit lanes, by the rules of numba's integers, and be several times as slow.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

GROUP = 64
_SHORT, _INT, _LONG = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_BYTES = ir.VectorType(ir.IntType(8), GROUP)
_SHORTS = ir.VectorType(_SHORT, GROUP)
_INTS = ir.VectorType(_INT, GROUP)


@intrinsic
def add_columns(typing_context, sums, at, cells, place, starts, multipliers, columns, least, out):  # type: ignore[no-untyped-def]
    """Add columns to ``sums[at : at + 64]``, give the totals to ``out`` and leave zeros; which of the 64 come up to
    ``least``, as the bits of a uint64.

    Column c adds ``cells[starts[c] + place + i] * multipliers[c] >> 8``. No index is checked.

    Args:
        sums: uint16, written.
        at, place: of the first document, in ``sums`` and in a column.
        cells: uint8, flat.
        starts, multipliers: int64 and uint16, of each column.
        columns: how many of them.
        least: uint16.
        out: uint16 [64], written.
    """
    shapes = (
        (sums, types.uint16),
        (cells, types.uint8),
        (starts, types.int64),
        (multipliers, types.uint16),
        (out, types.uint16),
    )
    if not all(_is_flat(array, dtype) for array, dtype in shapes):
        return None
    signature = types.uint64(sums, types.int64, cells, types.int64, starts, multipliers, types.int64, types.uint16, out)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = {i: context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (0, 2, 4, 5, 8)}
        _, at, _, place, _, _, columns, least, _ = arguments
        here = builder.bitcast(builder.gep(data[0], [at]), _SHORTS.as_pointer())
        total = cgutils.alloca_once(builder, _SHORTS)
        builder.store(builder.load(here, align=2), total)
        with cgutils.for_range(builder, columns) as loop:
            start = builder.add(builder.load(builder.gep(data[4], [loop.index])), place)
            row = builder.bitcast(builder.gep(data[2], [start]), _BYTES.as_pointer())
            shorts = builder.zext(builder.load(row, align=1), _SHORTS)
            high = builder.shl(shorts, _splat(builder, _SHORT(8), _SHORTS))
            factor = _splat(builder, builder.load(builder.gep(data[5], [loop.index])), _SHORTS)
            product = builder.mul(builder.zext(high, _INTS), builder.zext(factor, _INTS))
            product = builder.trunc(builder.lshr(product, _splat(builder, _INT(16), _INTS)), _SHORTS)
            builder.store(builder.add(builder.load(total), product), total)
        sums_now = builder.load(total)
        builder.store(_SHORTS(None), here, align=2)
        builder.store(sums_now, builder.bitcast(data[8], _SHORTS.as_pointer()), align=2)
        reaching = builder.icmp_unsigned(">=", sums_now, _splat(builder, least, _SHORTS))
        return builder.bitcast(reaching, _LONG)

    return signature, generate


@intrinsic
def set_bytes(typing_context, mask, at):  # type: ignore[no-untyped-def]
    """Which of ``mask[at : at + 64]``, uint8, are not 0, as the bits of a uint64. No index is checked."""
    if not _is_flat(mask, types.uint8):
        return None

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        here = builder.bitcast(builder.gep(data, [arguments[1]]), _BYTES.as_pointer())
        return builder.bitcast(builder.icmp_unsigned("!=", builder.load(here, align=1), _BYTES(None)), _LONG)

    return types.uint64(mask, types.int64), generate


@intrinsic
def lowest_bit(typing_context, bits):  # type: ignore[no-untyped-def]
    """The place of the lowest set bit of a uint64 that is not 0."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.int64(types.uint64), generate


def _is_flat(array: Any, dtype: Any) -> bool:
    return isinstance(array, types.Array) and array.dtype == dtype and array.ndim == 1 and array.layout == "C"


def _splat(builder: Any, value: Any, vector: ir.VectorType) -> Any:
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, _INT(0))
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(_INT, GROUP), None))
