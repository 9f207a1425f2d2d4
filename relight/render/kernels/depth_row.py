"""The z-test of eight neighbouring pixels against one face, as vector instructions.

LLVM's loop vectoriser does not take the loop that this is, and the loop is most of the time of rasterising.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

ROW = 8
"""Pixels tested at once: one AVX-512 register of float64, two of AVX2, four of NEON."""

_F64, _I32 = ir.DoubleType(), ir.IntType(32)
_DOUBLES, _INTEGERS = ir.VectorType(_F64, ROW), ir.VectorType(_I32, ROW)


def _splat(builder, scalar, vector):
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, _I32(0))
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), ir.Constant(_INTEGERS, [0] * ROW))


@intrinsic
def draw_row(typingctx, nearest, farthest, owner, index, face, x, edge0, edge1, edge2, scale):
    """Where face is inside all its edges, in front of nearest[index + k] and behind farthest[index + k], enter it.

    nearest, farthest: 1-D float64, 1 / depth.  owner: 1-D int32.  x: centre of the first pixel.
    edgeI: (a, row, least) float64: inside where a x + row >= least.  scale: 1 / depth is scale times the edges' sum.
    No contraction: an edge shared by two faces gives exactly opposite values.  Indices are not checked.
    """
    if not all(isinstance(a, types.Array) and a.ndim == 1 and a.layout == "C" for a in (nearest, farthest, owner)):
        return None

    def codegen(context, builder, signature, args):
        def address(i, vector):
            arrays = context.make_array(signature.args[i])(context, builder, args[i])
            return builder.bitcast(builder.gep(arrays.data, [at]), vector.as_pointer())

        def load(pointer, bytes_each):
            value = builder.load(pointer)
            value.align = bytes_each
            return value

        at = context.cast(builder, args[3], signature.args[3], types.intp)
        face_ = context.cast(builder, args[4], signature.args[4], types.int32)
        ramp = ir.Constant(_DOUBLES, [float(k) for k in range(ROW)])
        centers = builder.fadd(_splat(builder, args[5], _DOUBLES), ramp)
        inside, total = None, None
        for edge in args[6:9]:
            a, row, least = (_splat(builder, builder.extract_value(edge, k), _DOUBLES) for k in range(3))
            value = builder.fadd(builder.fmul(a, centers), row)
            test = builder.fcmp_ordered(">=", value, least)
            inside = test if inside is None else builder.and_(inside, test)
            total = value if total is None else builder.fadd(total, value)
        inverse_depth = builder.fmul(total, _splat(builder, args[9], _DOUBLES))
        near, owners = address(0, _DOUBLES), address(2, _INTEGERS)
        seen = load(near, 8)
        inside = builder.and_(inside, builder.fcmp_ordered(">", inverse_depth, seen))
        inside = builder.and_(inside, builder.fcmp_ordered("<", inverse_depth, load(address(1, _DOUBLES), 8)))
        builder.store(builder.select(inside, inverse_depth, seen), near).align = 8
        chosen = builder.select(inside, _splat(builder, face_, _INTEGERS), load(owners, 4))
        builder.store(chosen, owners).align = 4
        return context.get_dummy_value()

    triple = types.UniTuple(types.float64, 3)
    signature = types.void(nearest, farthest, owner, index, face, types.float64, triple, triple, triple, types.float64)
    return signature, codegen
