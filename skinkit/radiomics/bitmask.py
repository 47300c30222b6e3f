"""Sixty-four pixels at a time: three processor instructions without a Python equivalent, as portable LLVM.

Bit b of a word is pixel b of a chunk of 64. LLVM lowers each operation to the processor's own instructions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

_WORD, _PIXELS = ir.IntType(64), ir.VectorType(ir.IntType(8), 64)
_Typed = tuple[Any, Callable[..., ir.Value]]
_instruction = cast("Callable[..., Any]", intrinsic)


@_instruction
def differing(typing_context: Any, plane: Any, i: Any, j: Any) -> _Typed:
    """``differing(plane, i, j)``: bit b says whether plane[i + b] and plane[j + b] differ, for b = 0 ... 63.

    The plane is a contiguous array of uint8; nothing checks its bounds.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        pixels = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        places = [builder.bitcast(builder.gep(pixels, [index]), _PIXELS.as_pointer()) for index in arguments[1:]]
        first, second = (builder.load(place, align=1) for place in places)
        return builder.bitcast(builder.icmp_unsigned("!=", first, second), _WORD)

    return types.uint64(plane, types.intp, types.intp), generate


@_instruction
def lowest_bit(typing_context: Any, word: Any) -> _Typed:
    """``lowest_bit(word)``: number of the lowest bit that is set; the word must not be 0."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), True))

    return types.int64(types.uint64), generate


@_instruction
def count_bits(typing_context: Any, word: Any) -> _Typed:
    """``count_bits(word)``: how many bits are set."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate
