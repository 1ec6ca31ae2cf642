"""Sums over runs of rows, in a fixed order on every device."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def sum_sorted_segments(
  rows: Float[Array, 'm d'], segment: Int[Array, ' m'], num_segments: int
) -> Float[Array, 'n d']:
  """Adds the rows of each segment; the same bits every run.

  Args:
    rows: [m, d] values.
    segment: [m] segment of each row, ascending.
    num_segments: number of segments.

  Returns:
    [num_segments, d] sums; zero for a segment without rows.
  """

  # XLA's scatter-add runs in order on a CPU and on a TPU. On a GPU it uses atomics, whose order
  # changes from run to run, so there a segmented prefix sum (a fixed tree) does it.
  def scatter(rows: Array, segment: Array) -> Array:
    return jax.ops.segment_sum(rows, segment, num_segments, indices_are_sorted=True)

  return jax.lax.platform_dependent(
    rows,
    segment,
    cpu=scatter,
    tpu=scatter,
    default=lambda r, s: _sum_by_scan(r, s, num_segments),
  )


def _sum_by_scan(rows: Array, segment: Array, num_segments: int) -> Array:
  def combine(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
    left_segment, left_sum = left
    right_segment, right_sum = right
    same = (left_segment == right_segment)[..., None]
    return right_segment, right_sum + jnp.where(same, left_sum, 0.0)

  _, running = jax.lax.associative_scan(combine, (segment, rows))
  places = jnp.arange(num_segments)
  last = jnp.searchsorted(segment, places, side='right', method='scan_unrolled') - 1
  present = (last >= 0) & (segment[jnp.maximum(last, 0)] == places)
  return jnp.where(present[:, None], running[jnp.maximum(last, 0)], 0.0)
