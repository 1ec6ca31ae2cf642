"""Scalar helpers shared by the numba kernels.

`FAST` lets LLVM reorder and contract arithmetic, which vectorises the pixel loops, but keeps NaN
and infinity meaningful: the kernels test for them. Reordering is fixed at compile time, so results
do not change between runs or thread counts.

Compiled functions carry `@no_type_check`: numba infers their types, and run-time annotation
checkers (jaxtyping's import hook) must hand it the bare function.
"""

from typing import no_type_check

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

FAST = {'contract', 'reassoc', 'nsz', 'arcp', 'afn'}
F = np.float32


@intrinsic
@no_type_check
def _as_float(typing_context, bits):
  """Reinterprets the bits of an int32 as a float32."""

  def generate(context, builder, signature, arguments):
    return builder.bitcast(arguments[0], ir.FloatType())

  return types.float32(types.int32), generate


@numba.njit(fastmath=FAST, inline='always')
@no_type_check
def exp_negative(x):
  """exp(−x) for 0 ≤ x ≤ 80, relative error under 1e-6; branch-free, so pixel loops vectorise.

  2^t = 2^n · 2^r with n an integer and |r| ≤ ½; 2^r by its Taylor polynomial, 2^n through the
  exponent bits.
  """
  t = x * F(-1.4426950408889634)
  n = np.floor(t + F(0.5))
  r = t - n
  p = F(1.5403530e-4)
  p = p * r + F(1.3333558e-3)
  p = p * r + F(9.6181291e-3)
  p = p * r + F(5.5504109e-2)
  p = p * r + F(2.4022651e-1)
  p = p * r + F(6.9314718e-1)
  p = p * r + F(1.0)
  return p * _as_float((numba.int32(n) + numba.int32(127)) << numba.int32(23))
