"""Terms on predicted attributes, against loops and closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.losses.regularizers import (
  jacobian_penalty,
  neighbour_pairs,
  pair_total_variation,
  residual_l1,
  uv_total_variation,
)

RNG = np.random.default_rng
UV_GRADIENT = jax.jit(jax.value_and_grad(uv_total_variation))
VALID = RNG(0).random((6, 7)) < 0.7
SEAMS = np.flatnonzero(VALID)[[[0, -1], [3, -2]]].astype(np.int32)


def values(shape=(2, 6, 7, 3), seed=1):
  return jnp.asarray(RNG(seed).standard_normal(shape), jnp.float32)


def by_loop(grid, valid, seams=()):
  grid = np.asarray(grid, np.float64)
  total = 0.0
  for i, j in np.argwhere(valid):
    for k, m in ((i, j + 1), (i + 1, j)):
      if k < valid.shape[0] and m < valid.shape[1] and valid[k, m]:
        total += np.abs(grid[i, j] - grid[k, m]).sum()
  for first, second in seams:
    a, b = (np.unravel_index(p, valid.shape) for p in (first, second))
    total += np.abs(grid[a] - grid[b]).sum()
  return total / valid.sum()


@pytest.mark.parametrize('seams', [None, SEAMS])
def test_total_variation_of_the_grid_and_of_gaussians(seams):
  grid = values()
  expected = np.mean([by_loop(part, VALID, () if seams is None else seams) for part in grid])
  got = jax.jit(uv_total_variation)(grid, VALID, seams)
  assert float(got) == pytest.approx(expected, rel=1e-6)
  pairs = neighbour_pairs(VALID, seams)
  got = jax.jit(pair_total_variation)(grid[:, VALID], pairs)
  assert float(got) == pytest.approx(expected, rel=1e-6)


def test_neighbour_pairs_are_the_neighbours():
  valid = np.asarray([[True, True, False], [True, False, True]])
  assert neighbour_pairs(valid).tolist() == [[0, 1], [0, 2]]
  seams = np.asarray([[1, 5]], np.int32)
  pairs = neighbour_pairs(valid, seams)
  assert pairs.dtype == np.int32
  assert pairs.tolist() == [[0, 1], [0, 2], [1, 3]]


@pytest.mark.parametrize(('pair', 'reason'), [([0, 2], 'not valid'), ([0, 9], 'outside')])
def test_seams_outside_the_atlas_are_refused(pair, reason):
  valid = np.asarray([[True, True, False], [True, False, True]])
  with pytest.raises(ValueError, match=reason):
    neighbour_pairs(valid, np.asarray([pair], np.int32))


def test_total_variation_ignores_invalid_texels():
  grid = values((6, 7, 3))
  spoilt = jnp.where(jnp.asarray(VALID)[..., None], grid, jnp.nan)
  value, gradient = UV_GRADIENT(grid, VALID)
  again, gradient_again = UV_GRADIENT(spoilt, VALID)
  assert value == again
  np.testing.assert_array_equal(gradient, gradient_again)
  assert (np.asarray(gradient)[~VALID] == 0).all()


def test_total_variation_of_constants_and_of_nothing():
  assert float(uv_total_variation(jnp.full((6, 7, 3), 2.0), VALID)) == 0.0
  value, gradient = UV_GRADIENT(values((6, 7, 3)), VALID & False)
  assert float(value) == 0.0
  np.testing.assert_array_equal(gradient, np.zeros((6, 7, 3)))


def test_both_forms_have_one_gradient():
  grid = values((6, 7, 3))
  pairs = neighbour_pairs(VALID, SEAMS)
  _, one = UV_GRADIENT(grid, VALID, SEAMS)
  other = jax.jit(jax.grad(lambda x: pair_total_variation(x[VALID], pairs)))(grid)
  np.testing.assert_allclose(one, other, atol=1e-6)


def test_residuals_of_families_count_alike():
  corrections = {'position': values((2, 5, 3)), 'rotation': values((2, 5, 4)), 'colour': values()}
  expected = np.mean([np.abs(np.asarray(part)).mean() for part in corrections.values()])
  assert float(residual_l1(corrections)) == pytest.approx(expected, rel=1e-6)
  assert float(residual_l1({'scale': jnp.zeros((4, 3))})) == 0.0
  with pytest.raises(ValueError, match='no corrections'):
    residual_l1({})


# The Jacobian penalty.


def penalty_of(geometry, estimator):
  """Compiled, of (γ, key)."""
  return jax.jit(lambda gamma, key=None: jacobian_penalty(geometry, gamma, key, estimator))


COUNT, SIZE = 11, 27


def linear_maps(seed=2, scale=0.1):
  rng = RNG(seed)
  shape = (COUNT * 3, SIZE)
  return tuple(jnp.asarray(scale * rng.standard_normal(shape), jnp.float32) for _ in range(2))


def linear(maps, gamma):
  return tuple((m @ gamma).reshape(COUNT, 3) for m in maps)


def curved(maps, gamma):
  x, s = linear(maps, gamma)
  return jnp.tanh(x), x * jnp.sin(s)


GAMMA = jnp.asarray(RNG(3).standard_normal(SIZE), jnp.float32)


def test_exact_is_the_frobenius_norm_of_a_linear_map():
  maps = linear_maps()
  squares = sum(float(np.sum(np.asarray(m, np.float64) ** 2)) for m in maps)
  got = penalty_of(functools.partial(linear, maps), 'exact')(GAMMA)
  assert float(got) == pytest.approx(np.log(1 + squares), rel=1e-5)


def test_exact_is_that_of_the_whole_jacobian():
  geometry = functools.partial(curved, linear_maps())
  jacobian = jax.jit(jax.jacrev(geometry))(GAMMA)
  squares = sum(float(np.sum(np.asarray(part) ** 2)) for part in jacobian)
  got = penalty_of(geometry, 'exact')(GAMMA)
  assert float(got) == pytest.approx(np.log1p(squares), rel=1e-5)


def test_one_draw_is_its_formula():
  """One draw on a linear map: ‖Aᵀv‖² of each head with its own signs, in closed form."""
  maps, key = linear_maps(), jax.random.key(7)
  signs = [
    np.asarray(jax.random.rademacher(k, (COUNT, 3), jnp.float32)).reshape(-1)
    for k in jax.random.split(key)
  ]
  assert (signs[0] != signs[1]).any()
  squares = sum(
    np.sum((np.asarray(m, np.float64).T @ v) ** 2) for m, v in zip(maps, signs, strict=True)
  )
  got = penalty_of(functools.partial(linear, maps), 'hutchinson')(GAMMA, key)
  assert float(got) == pytest.approx(np.log1p(squares), rel=1e-5)


def test_hutchinson_averages_to_exact():
  geometry = functools.partial(curved, linear_maps())
  exact = np.expm1(float(penalty_of(geometry, 'exact')(GAMMA)))
  keys = jax.random.split(jax.random.key(0), 4000)
  draws = jax.jit(jax.vmap(lambda k: jacobian_penalty(geometry, GAMMA, k)))(keys)
  squares = np.expm1(np.asarray(draws, np.float64))
  assert squares.std() > 0.1 * exact  # single draws do differ
  assert squares.mean() == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize('estimator', ['exact', 'hutchinson'])
def test_gradient_by_parameters(estimator):
  def penalty(scale):
    maps = [scale * m for m in linear_maps()]
    geometry = functools.partial(curved, maps)
    return jacobian_penalty(geometry, GAMMA, jax.random.key(1), estimator)

  penalty = jax.jit(jax.value_and_grad(penalty))
  numeric = (penalty(0.7 + 1e-2)[0] - penalty(0.7 - 1e-2)[0]) / 2e-2
  assert float(penalty(0.7)[1]) == pytest.approx(float(numeric), rel=2e-3)
  assert abs(float(numeric)) > 0.1


@pytest.mark.parametrize('estimator', ['exact', 'hutchinson'])
def test_a_geometry_that_ignores_the_view_costs_nothing(estimator):
  fixed = values((COUNT, 3))

  def geometry(gamma):
    del gamma
    return fixed, 2 * fixed

  assert float(jacobian_penalty(geometry, GAMMA, jax.random.key(0), estimator)) == 0.0


def test_a_batch_is_the_mean_of_its_elements():
  geometry = functools.partial(curved, linear_maps())
  gammas = jnp.stack([GAMMA, 0.2 * GAMMA, -GAMMA])
  one = penalty_of(geometry, 'exact')
  singles = [float(one(gamma)) for gamma in gammas]
  assert max(singles) - min(singles) > 1e-2
  got = penalty_of(jax.vmap(geometry), 'exact')(gammas)
  assert float(got) == pytest.approx(np.mean(singles), rel=1e-5)


def test_each_element_of_a_batch_has_its_own_signs():
  """‖Aᵀv‖² of a linear map is the same for all γ: what differs is v."""
  maps, keys = linear_maps(), jax.random.split(jax.random.key(3))
  signs = [
    np.stack([np.asarray(jax.random.rademacher(k, (COUNT, 3), jnp.float32)).ravel() for k in pair])
    for pair in zip(*(jax.random.split(key) for key in keys), strict=True)
  ]
  assert (signs[0][0] != signs[0][1]).any()
  parts = [np.sum((v @ np.asarray(m)) ** 2, -1) for m, v in zip(maps, signs, strict=True)]
  geometry = jax.vmap(functools.partial(linear, maps))
  got = penalty_of(geometry, 'hutchinson')(jnp.stack([GAMMA, 2 * GAMMA]), keys)
  assert float(got) == pytest.approx(np.mean(np.log1p(parts[0] + parts[1])), rel=1e-5)


def test_estimators_are_named(unchecked_shapes):
  geometry = functools.partial(linear, linear_maps())
  with pytest.raises(ValueError, match='needs a key'):
    jacobian_penalty(geometry, GAMMA)
  with pytest.raises(ValueError, match="got 'both'"):
    jacobian_penalty(geometry, GAMMA, jax.random.key(0), 'both')
