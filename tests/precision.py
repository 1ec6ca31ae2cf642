"""Finds products that a GPU or TPU would round."""

from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def rounded_products(jaxpr: Any) -> list[str]:
  """Matrix products of float32 that leave their precision to the device, in a traced program.

  A GPU multiplies such matrices in TF32 and a TPU in bfloat16: three digits.
  """
  found = []
  for equation in jaxpr.eqns:
    if equation.primitive.name in ('dot_general', 'conv_general_dilated'):
      float32 = all(v.aval.dtype == 'float32' for v in equation.invars)
      precision = equation.params['precision']
      pair = precision if isinstance(precision, tuple) else (precision, precision)
      if float32 and any(p != jax.lax.Precision.HIGHEST for p in pair):
        found.append(str(equation.source_info.traceback or equation))
    for inner in jax.tree.leaves(
      list(equation.params.values()), is_leaf=lambda x: isinstance(x, ClosedJaxpr | Jaxpr)
    ):
      if isinstance(inner, ClosedJaxpr):
        found += rounded_products(inner.jaxpr)
      elif isinstance(inner, Jaxpr):
        found += rounded_products(inner)
  return found
