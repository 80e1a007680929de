"""Inner products of int8 rows inside compiled kernels, by the instructions that the processor has for them.

x86 processors with AVX-512 VNNI or AVX-VNNI, and ARM ones with dot products, multiply and add four pairs of bytes a
lane at once; elsewhere LLVM makes what it can of a plain loop. The integers are the same. Which one is compiled follows
from the features that numba compiles for, and by these (and the processor's name) numba tells apart what it keeps on
disk: code for one processor is never run on another that shares the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_BYTE, _INT, _LONG = ir.IntType(8), ir.IntType(32), ir.IntType(64)


@dataclass(frozen=True)
class _Instruction:
    """One that adds to each 32-bit lane the products of four pairs of bytes.

    Attributes:
        feature: of the processor, as LLVM names it.
        name: LLVM's intrinsic.
        size: bytes of a register.
        offset: whether the first factor counts as unsigned: documents' bytes are moved by 128, the sum is put right.
        wide: whether LLVM takes the bytes as 32-bit lanes.
    """

    feature: str
    name: str
    size: int
    offset: bool
    wide: bool


_INSTRUCTIONS = (  # the best first
    _Instruction("avx512vnni", "llvm.x86.avx512.vpdpbusd.512", 64, offset=True, wide=True),
    _Instruction("avxvnni", "llvm.x86.avx512.vpdpbusd.256", 32, offset=True, wide=True),
    _Instruction("dotprod", "llvm.aarch64.neon.sdot.v4i32.v16i8", 16, offset=False, wide=False),
)


def _chosen(context: Any) -> _Instruction | None:
    features = set(context.codegen().magic_tuple()[2].split(","))
    return next((one for one in _INSTRUCTIONS if f"+{one.feature}" in features), None)


@intrinsic
def dot_row(typing_context, rows, row, query):  # type: ignore[no-untyped-def]
    """Inner product of ``rows[row]`` and ``query``, both int8 and contiguous, as int32; the row is not checked."""
    if not all(_is_bytes(array, ndim) for array, ndim in ((rows, 2), (query, 1))):
        return None
    return types.int32(rows, types.int64, query), _dot


@intrinsic
def dot_part(typing_context, rows, row, query, begin, end):  # type: ignore[no-untyped-def]
    """As `dot_row`, of the components begin … end - 1 alone; these are not checked either."""
    if not all(_is_bytes(array, ndim) for array, ndim in ((rows, 2), (query, 1))):
        return None
    return types.int32(rows, types.int64, query, types.int64, types.int64), _dot


def _dot(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
    first = context.make_array(signature.args[0])(context, builder, arguments[0])
    second = context.make_array(signature.args[2])(context, builder, arguments[2])
    width = cgutils.unpack_tuple(builder, second.shape, 1)[0]
    begin, end = arguments[3:] or (width.type(0), width)
    start = builder.gep(first.data, [builder.add(builder.mul(arguments[1], width), begin)])
    other, size = builder.gep(second.data, [begin]), builder.sub(end, begin)
    chosen = _chosen(context)
    if chosen is None:
        return _plain_sum(builder, start, other, size, width.type(0), _INT(0))
    return _sum(builder, chosen, start, other, size)


def _is_bytes(array: Any, ndim: int) -> bool:
    return isinstance(array, types.Array) and array.dtype == types.int8 and array.ndim == ndim and array.layout == "C"


def _sum(builder: Any, chosen: _Instruction, first: Any, second: Any, width: Any) -> Any:
    """Whole registers by the instruction, then the rest plainly."""
    lanes, register = ir.VectorType(_INT, chosen.size // 4), ir.VectorType(_BYTE, chosen.size)
    taken = lanes if chosen.wide else register
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(lanes, [lanes, taken, taken]), chosen.name
    )
    flip = ir.Constant(register, [-128] * chosen.size)

    def load(start: Any, at: Any) -> Any:
        return builder.load(builder.bitcast(builder.gep(start, [at]), register.as_pointer()), align=1)

    ones = ir.Constant(register, [1] * chosen.size)
    total = cgutils.alloca_once_value(builder, ir.Constant(lanes, None))
    added = cgutils.alloca_once_value(builder, ir.Constant(lanes, None))  # sum of the query's bytes
    whole = builder.and_(width, width.type(-chosen.size))
    with cgutils.for_range_slice(builder, width.type(0), whole, width.type(chosen.size)) as (at, _):
        left, right = load(first, at), load(second, at)
        if chosen.offset:  # (a + 128)·b = a·b + 128·b, and 1·b is at hand by the same instruction
            left = builder.xor(left, flip)
            count = builder.call(function, [builder.load(added), *_as(builder, taken, ones, right)])
            builder.store(count, added)
        builder.store(builder.call(function, [builder.load(total), *_as(builder, taken, left, right)]), total)
    sums = builder.load(total)
    if chosen.offset:
        sums = builder.sub(sums, builder.shl(builder.load(added), ir.Constant(lanes, [7] * (chosen.size // 4))))
    reduce = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_INT, [lanes]), f"llvm.vector.reduce.add.v{chosen.size // 4}i32"
    )
    return _plain_sum(builder, first, second, width, whole, builder.call(reduce, [sums]))


def _as(builder: Any, taken: Any, *values: Any) -> list[Any]:
    return [builder.bitcast(value, taken) for value in values]


def _plain_sum(builder: Any, first: Any, second: Any, width: Any, begin: Any, total: Any) -> Any:
    """The sum over bytes from ``begin`` on, beside ``total``."""
    whole = cgutils.alloca_once_value(builder, total)
    with cgutils.for_range_slice(builder, begin, width, width.type(1)) as (at, _):
        left, right = (builder.sext(builder.load(builder.gep(data, [at])), _INT) for data in (first, second))
        builder.store(builder.add(builder.load(whole), builder.mul(left, right)), whole)
    return builder.load(whole)


@intrinsic
def prefetch_row(typing_context, rows, row):  # type: ignore[no-untyped-def]
    """Ask for ``rows[row]`` of a contiguous array [n, d] of any type, so that it is near when it is read."""
    if not (isinstance(rows, types.Array) and rows.layout == "C" and rows.ndim == 2):
        return None
    return types.void(rows, types.int64), _prefetch


@intrinsic
def prefetch_part(typing_context, rows, row, begin, end):  # type: ignore[no-untyped-def]
    """As `prefetch_row`, of the components begin … end - 1 alone."""
    if not (isinstance(rows, types.Array) and rows.layout == "C" and rows.ndim == 2):
        return None
    return types.void(rows, types.int64, types.int64, types.int64), _prefetch


def _prefetch(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
    kind = signature.args[0]
    array = context.make_array(kind)(context, builder, arguments[0])
    width = cgutils.unpack_tuple(builder, array.shape, 2)[1]
    begin, end = arguments[2:] or (width.type(0), width)
    item = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    first = builder.gep(array.data, [builder.add(builder.mul(arguments[1], width), begin)])
    start, size = builder.bitcast(first, _BYTE.as_pointer()), builder.mul(builder.sub(end, begin), width.type(item))
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), _INT, _INT, _INT]), "llvm.prefetch.p0"
    )
    with cgutils.for_range_slice(builder, width.type(0), size, width.type(64)) as (at, _):
        builder.call(function, [builder.gep(start, [at]), _INT(0), _INT(3), _INT(1)])
    return context.get_dummy_value()


@intrinsic
def as_int(typing_context, value):  # type: ignore[no-untyped-def]
    """The bits of a float32 as an int32."""
    if value != types.float32:
        return None
    return types.int32(value), lambda context, builder, signature, arguments: builder.bitcast(arguments[0], _INT)


@intrinsic
def as_float(typing_context, bits):  # type: ignore[no-untyped-def]
    """The float32 of an int32's bits."""
    if bits != types.int32:
        return None
    return types.float32(bits), lambda context, builder, signature, arguments: builder.bitcast(
        arguments[0], ir.FloatType()
    )
