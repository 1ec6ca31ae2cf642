"""Compilers' time: heard, not counted twice, and nothing where nothing compiles."""

import time

import jax
import jax.numpy as jnp
import pytest

from sa0_jax.refine.compile_clock import CompileClock


def test_hears_jax_once_and_nothing_from_a_second_call():
  function = jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x).T)
  x = jnp.ones((7, 5))
  begin = time.perf_counter()
  with CompileClock() as clock:
    function(x)
  assert 0 < clock.seconds <= time.perf_counter() - begin
  with CompileClock() as again:
    function(x)
  assert again.seconds == 0


def test_hears_numba_and_stops_listening():
  numba = pytest.importorskip('numba')
  begin = time.perf_counter()
  with CompileClock() as clock:
    numba.njit(lambda x: x + 1)(3)
  heard = clock.seconds
  assert 0 < heard <= time.perf_counter() - begin
  numba.njit(lambda x: x + 2)(3)
  jax.jit(lambda x: x + 2)(jnp.ones(3))
  assert clock.seconds == heard


def test_overlapping_intervals_count_once():
  clock = CompileClock()
  clock._intervals += [(0.0, 2.0), (1.0, 3.0), (1.5, 1.6), (5.0, 6.0)]
  assert clock.seconds == pytest.approx(4.0)
