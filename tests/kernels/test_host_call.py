"""Python functions as XLA calls: values, errors, batching, and the compilation cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sa0_kernels import host_call


def _scale(arguments, results):
  x, factor = arguments
  if np.isnan(x).any():
    raise ValueError('x holds NaN')
  results[0][...] = x * factor


host_call.register('test_scale', _scale)


def scale(x, factor):
  result = jax.ShapeDtypeStruct(x.shape, x.dtype)
  return host_call.call('test_scale', [result], x, factor)[0]


@pytest.mark.parametrize('dtype', [np.float32, np.int32])
def test_reads_and_writes_buffers(dtype):
  x = jnp.arange(12, dtype=dtype).reshape(3, 4)
  np.testing.assert_array_equal(jax.jit(scale)(x, jnp.asarray(3, dtype)), np.asarray(x) * 3)


def test_unmapped_arguments_get_an_axis_of_size_one():
  x = jnp.arange(6, dtype=np.float32).reshape(3, 2)
  mapped = jax.vmap(scale, in_axes=(0, None))(x, jnp.ones((2,), np.float32) * 2)
  np.testing.assert_array_equal(mapped, np.asarray(x) * 2)


def test_an_exception_reaches_the_caller():
  with pytest.raises(Exception, match='x holds NaN'):
    jax.block_until_ready(jax.jit(scale)(jnp.asarray([np.nan]), jnp.asarray([1.0])))
  # and the next call works
  assert float(scale(jnp.asarray([2.0]), jnp.asarray([4.0]))[0]) == 8.0


def test_slots_pairs_batched_and_shared_arrays():
  batched, shared, result = np.zeros((2, 3, 4)), np.ones((1, 1, 5)), np.zeros((2, 3))
  slots = host_call.slots([batched, shared, result], (1, 1, 0))
  assert len(slots) == 6
  for index, slot in enumerate(slots):
    slot[2][...] = index
  assert slots[4][1].shape == (5,)
  np.testing.assert_array_equal(result, np.arange(6).reshape(2, 3))
