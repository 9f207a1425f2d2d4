"""A vector of 16 floats for Numba kernels.

LLVM's loop vectoriser keeps row accumulators in memory; this type keeps them in registers.  LLVM lowers it to one
AVX-512 register, two AVX2 or four NEON ones, so kernels are written once.

Inside `@njit` code: `load(array, i)`, `store(array, i, v)`, `splat(x)`, `+ - * /` between vectors or with a float32,
`fma(a, b, c)` = a * b + c, `minimum`, `maximum`, `where_less(a, b, x, y)` = x if a < b else y per lane, `absolute`,
`square_root`, `floor`,
`exp_negative(x)` = exp(-x) for x >= 0, `total(v)`, `largest(v)`, `lanes()` = 0, 1, ... 15.  Arrays are 1-D contiguous
float32; indices are not checked.
"""

from __future__ import annotations

import operator

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model

LANES = 16

_F32 = ir.FloatType()
_I32 = ir.IntType(32)
_VEC = ir.VectorType(_F32, LANES)
_IVEC = ir.VectorType(_I32, LANES)
# Reassociation and contraction, but not "no NaNs": hostile input must not become undefined behaviour.
_FLAGS = ("reassoc", "contract", "nsz", "arcp")


class Float32x16(types.Type):
    """Numba's name for the vector; only lives inside compiled code."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


float32x16 = Float32x16()


@register_model(Float32x16)
class _Model(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _VEC)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_VEC, [float(np.float32(value))] * LANES)


def _integer(value: int) -> ir.Constant:
    return ir.Constant(_IVEC, [value] * LANES)


def _call(builder, name: str, result, *args):
    """Call an LLVM intrinsic by its full name."""
    function_type = ir.FunctionType(result, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), args)


def _address(context, builder, signature, array, index):
    arrays = context.make_array(signature.args[0])(context, builder, array)
    pointer = builder.gep(arrays.data, [index])
    return builder.bitcast(pointer, _VEC.as_pointer())


def _is_row(array) -> bool:
    return isinstance(array, types.Array) and array.dtype == types.float32 and array.ndim == 1 and array.layout == "C"


@intrinsic
def load(typingctx, array, index):
    """16 consecutive floats starting at array[index]."""
    if not (_is_row(array) and isinstance(index, types.Integer)):
        return None

    def codegen(context, builder, signature, args):
        index = context.cast(builder, args[1], signature.args[1], types.intp)
        value = builder.load(_address(context, builder, signature, args[0], index))
        value.align = 4
        return value

    return float32x16(array, index), codegen


@intrinsic
def store(typingctx, array, index, value):
    """Write 16 consecutive floats starting at array[index]."""
    if not (_is_row(array) and isinstance(index, types.Integer) and value == float32x16):
        return None

    def codegen(context, builder, signature, args):
        index = context.cast(builder, args[1], signature.args[1], types.intp)
        builder.store(args[2], _address(context, builder, signature, args[0], index)).align = 4
        return context.get_dummy_value()

    return types.void(array, index, value), codegen


@intrinsic
def splat(typingctx, x):
    """The same float32 in every lane."""
    if not isinstance(x, types.Float):
        return None

    def codegen(context, builder, signature, args):
        scalar = context.cast(builder, args[0], signature.args[0], types.float32)
        first = builder.insert_element(ir.Constant(_VEC, ir.Undefined), scalar, _I32(0))
        return builder.shuffle_vector(first, ir.Constant(_VEC, ir.Undefined), ir.Constant(_IVEC, [0] * LANES))

    return float32x16(x), codegen


@intrinsic
def lanes(typingctx):
    """0, 1, ... 15."""

    def codegen(context, builder, signature, args):
        return ir.Constant(_VEC, [float(i) for i in range(LANES)])

    return float32x16(), codegen


def _binary(emit):
    """An intrinsic of two vectors from `emit(builder, a, b)`."""

    @intrinsic
    def operation(typingctx, a, b):
        if a != float32x16 or b != float32x16:
            return None

        def codegen(context, builder, signature, args):
            return emit(builder, *args)

        return float32x16(a, b), codegen

    return operation


_add = _binary(lambda builder, a, b: builder.fadd(a, b, flags=_FLAGS))
_sub = _binary(lambda builder, a, b: builder.fsub(a, b, flags=_FLAGS))
_mul = _binary(lambda builder, a, b: builder.fmul(a, b, flags=_FLAGS))
_div = _binary(lambda builder, a, b: builder.fdiv(a, b, flags=_FLAGS))
minimum = _binary(lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b))
maximum = _binary(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))


def _overload_operator(symbol, vector_operation) -> None:
    @overload(symbol, inline="always")
    def both(a, b):
        if a == float32x16 and b == float32x16:
            return lambda a, b: vector_operation(a, b)
        if a == float32x16 and isinstance(b, types.Float):
            return lambda a, b: vector_operation(a, splat(b))
        if isinstance(a, types.Float) and b == float32x16:
            return lambda a, b: vector_operation(splat(a), b)
        return None


for _symbol, _operation in ((operator.add, _add), (operator.sub, _sub), (operator.mul, _mul), (operator.truediv, _div)):
    _overload_operator(_symbol, _operation)


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c with one rounding."""
    if (a, b, c) != (float32x16,) * 3:
        return None

    def codegen(context, builder, signature, args):
        return _call(builder, f"llvm.fma.v{LANES}f32", _VEC, *args)

    return float32x16(a, b, c), codegen


@intrinsic
def where_less(typingctx, a, b, x, y):
    """Per lane: x if a < b else y.  NaN compares false."""
    if (a, b, x, y) != (float32x16,) * 4:
        return None

    def codegen(context, builder, signature, args):
        a, b, x, y = args
        return builder.select(builder.fcmp_ordered("<", a, b), x, y)

    return float32x16(a, b, x, y), codegen


def _unary(name: str):
    """An intrinsic of a vector from LLVM's, by the name that precedes the type."""

    @intrinsic
    def operation(typingctx, a):
        if a != float32x16:
            return None

        def codegen(context, builder, signature, args):
            return _call(builder, f"llvm.{name}.v{LANES}f32", _VEC, *args)

        return float32x16(a), codegen

    return operation


absolute = _unary("fabs")
square_root = _unary("sqrt")
floor = _unary("floor")


@intrinsic
def total(typingctx, a):
    """Sum of the lanes, in any order."""
    if a != float32x16:
        return None

    def codegen(context, builder, signature, args):
        function_type = ir.FunctionType(_F32, [_F32, _VEC])
        function = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.vector.reduce.fadd.v{LANES}f32")
        return builder.call(function, [_F32(0.0), args[0]], fastmath=_FLAGS)

    return types.float32(a), codegen


@intrinsic
def largest(typingctx, a):
    """Largest lane."""
    if a != float32x16:
        return None

    def codegen(context, builder, signature, args):
        return _call(builder, f"llvm.vector.reduce.fmax.v{LANES}f32", _F32, *args)

    return types.float32(a), codegen


def _fit_exp2() -> list[float]:
    """Polynomial coefficients, highest first, of 2^f on [-1/2, 1/2]; relative error below 3e-7."""
    f = 0.5 * np.cos(np.pi * (np.arange(200) + 0.5) / 200)
    fitted = np.polynomial.Polynomial.fit(f, np.exp2(f), 5, w=np.exp2(-f), domain=[-0.5, 0.5], window=[-0.5, 0.5])
    return [float(c) for c in fitted.coef[::-1]]


_EXP2 = _fit_exp2()


@intrinsic
def exp_negative(typingctx, x):
    """exp(-x) for x >= 0, relative error below 1e-6 where x < 8 and 5e-6 where x < 86; under 1e-37 further out."""
    if x != float32x16:
        return None

    def codegen(context, builder, signature, args):
        # exp(-x) = 2^n 2^f with n integer and |f| <= 1/2; 2^n is added to the exponent bits of 2^f.
        t = builder.fmul(args[0], _constant(-1.4426950408889634))
        t = builder.select(builder.fcmp_ordered(">", t, _constant(-125.0)), t, _constant(-125.0))
        n = _call(builder, f"llvm.rint.v{LANES}f32", _VEC, t)
        f = builder.fsub(t, n)
        p = _constant(_EXP2[0])
        for coefficient in _EXP2[1:]:
            p = _call(builder, f"llvm.fma.v{LANES}f32", _VEC, p, f, _constant(coefficient))
        exponent = builder.shl(builder.fptosi(n, _IVEC), _integer(23))
        return builder.bitcast(builder.add(builder.bitcast(p, _IVEC), exponent), _VEC)

    return float32x16(x), codegen
