"""Hair is measured from outlines, and Gaussians start on it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sa0_kernels import Camera

from sa0_jax import mesh_render
from sa0_jax.avatar.binding import triangle_frames
from sa0_jax.capture.initialize import shell_gaussians
from sa0_jax.generator.hair_shell import HairShell, directions, measure, raised, rest_on_shell
from sa0_jax.head.registry import load_head
from sa0_jax.head.uv_layout import UVLayout

SIZE = 128
YAWS = (0.0, 0.7, -0.7, 1.4)
LAYOUT_SIZE = 32
measure_hair = jax.jit(measure)


@functools.cache
def shell() -> HairShell:
  return HairShell.from_head(load_head(), UVLayout.from_head(load_head(), LAYOUT_SIZE))


@functools.cache
def true_thickness() -> np.ndarray:
  """A cap of hair, 25 mm at its thickest, that ends at the face."""
  lowest = np.abs(np.asarray(shell().harmonics[:, 0]))
  return (0.025 * np.minimum(1.0, 2.0 * lowest / lowest.max())).astype(np.float32)


@functools.cache
def filmed(hair: bool) -> tuple[Camera, np.ndarray]:
  """Cameras around the head, and its mattes with or without hair."""
  return seen_from(YAWS, true_thickness() if hair else np.zeros_like(true_thickness()))


def seen_from(yaws: tuple[float, ...], thickness: np.ndarray) -> tuple[Camera, np.ndarray]:
  """Cameras at these angles from the front of a head with some hair, and the mattes they see."""
  head = load_head()
  mesh = np.asarray(raised(shell(), jnp.asarray(head.v_template), jnp.asarray(thickness)))
  views = [
    mesh_render.portrait_camera(head.v_template, yaw=yaw, pitch=0.0, size=SIZE) for yaw in yaws
  ]
  mattes = [mesh_render.rasterize_mesh(mesh, head.faces, view).face >= 0 for view in views]
  stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *views)
  return stacked, np.stack(mattes).astype(np.float32)


def measured(hair: bool, mask=(True, True, True, True)) -> np.ndarray:
  return measured_in(*filmed(hair), mask)


def measured_in(camera: Camera, mattes: np.ndarray, mask: tuple[bool, ...]) -> np.ndarray:
  vertices = jnp.broadcast_to(load_head().v_template, (len(mask), *load_head().v_template.shape))
  return np.asarray(measure_hair(shell(), vertices, camera, mattes, jnp.asarray(mask)))


def test_a_cap_of_hair_is_measured():
  found, true = measured(True), true_thickness()
  scalp = true > 0.5 * true.max()
  assert np.abs(found - true)[scalp].mean() < 0.0035
  # Where a neck runs out into shoulders a matte says little.
  neck = np.asarray(load_head().v_template)[:, 1] > -0.11
  assert np.abs(found - true)[scalp & neck].max() < 0.015


def test_a_bald_head_has_none():
  found = measured(False)
  assert found.mean() < 0.001
  assert np.quantile(found, 0.98) < 0.006  # behind the ears, which stand off the scalp themselves


def test_one_view_still_covers_the_head():
  """The back is nowhere seen: it goes on as the sides do, and the face stays bare."""
  found, true = measured(True, (True, False, False, False)), true_thickness()
  assert np.abs(found - true)[true > 0.5 * true.max()].mean() < 0.008
  assert found[np.asarray(shell().harmonics[:, 0]) == 0.0].max() == 0.0


def test_it_does_not_depend_on_order_padding_or_where_the_world_begins():
  camera, mattes = filmed(True)
  vertices = np.broadcast_to(load_head().v_template, (len(YAWS), *load_head().v_template.shape))
  mask = np.array([True, True, False, True])
  plain = measure_hair(shell(), jnp.asarray(vertices), camera, mattes, jnp.asarray(mask))
  order = np.array([3, 2, 0, 1])
  spoiled = mattes.copy()
  spoiled[2] = 0.3
  turned = jax.tree.map(lambda leaf: np.asarray(leaf)[order], camera)
  again = measure_hair(shell(), jnp.asarray(vertices), turned, spoiled[order], mask[order])
  np.testing.assert_allclose(plain, again, atol=1e-5)
  angle = 0.8
  move = np.eye(4)
  move[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
  move[:3, 3] = [0.3, -0.2, 0.1]
  elsewhere = vertices @ move[:3, :3].T + move[:3, 3]
  views = np.asarray(camera.world_to_camera, np.float64) @ np.linalg.inv(move)
  moved = dataclasses.replace(camera, world_to_camera=views.astype(np.float32))
  there = measure_hair(shell(), jnp.asarray(elsewhere, jnp.float32), moved, mattes, mask)
  # A sample of the matte may fall on the other side of a pixel's border.
  np.testing.assert_allclose(plain, there, atol=1e-3)


def test_gaussians_on_hair_are_those_that_refinement_starts_with():
  head, layout = load_head(), UVLayout.from_head(load_head(), LAYOUT_SIZE)
  thickness, mesh = jnp.asarray(true_thickness()), jnp.asarray(head.v_template)
  rest = rest_on_shell(shell(), thickness, mesh)
  outer = np.asarray(raised(shell(), mesh, thickness))
  expected = shell_gaussians(head, layout, np.asarray(mesh), outer, np.full((layout.n, 3), 0.5))
  np.testing.assert_allclose(rest.position, expected.position, atol=2e-4)
  np.testing.assert_allclose(rest.log_scale, expected.log_scale, atol=1e-3)
  np.testing.assert_allclose(rest.rotation, expected.rotation, atol=1e-4)


def test_a_larger_head_wears_the_same_hair_in_metres():
  mesh = jnp.asarray(load_head().v_template)
  thickness = jnp.asarray(true_thickness())
  small, large = (rest_on_shell(shell(), thickness, scale * mesh) for scale in (1.0, 2.0))
  bare = rest_on_shell(shell(), 0.0 * thickness, mesh)
  # In units of triangles twice as large hair is half as thick.
  offset = np.asarray(small.position - bare.position)
  np.testing.assert_allclose(large.position - bare.position, 0.5 * offset, atol=1e-4)
  assert np.abs(offset).max() > 1.0


def frontal(thickness: np.ndarray) -> tuple[Camera, np.ndarray]:
  """A camera in front of the head with some hair, and the matte it sees."""
  camera, (matte,) = seen_from((0.0,), thickness)
  return camera, matte


def measured_from_one(camera: Camera, matte: np.ndarray) -> np.ndarray:
  return measured_in(camera, matte[None], (True,))


def beside_the_neck() -> np.ndarray:
  """[v] how far vertices below the mouth lie to the side or behind, 0 to 1."""
  mesh, outward = np.asarray(load_head().v_template), np.asarray(directions_at_rest())
  below = np.clip((-0.05 - mesh[:, 1]) / 0.02, 0.0, 1.0)
  return below * np.clip(-2.0 * outward[:, 2] + 0.8, 0.0, 1.0) * (shell_region() > 0.0)


def shell_region() -> np.ndarray:
  """[v] more than 0 where hair may grow."""
  return np.abs(np.asarray(shell().harmonics)).max(axis=1)


def directions_at_rest() -> np.ndarray:
  head = load_head()
  frames = triangle_frames(jnp.asarray(head.v_template), jnp.asarray(head.faces))
  return np.asarray(directions(shell(), frames))


def test_hair_that_hangs_beside_the_neck_is_found_from_the_front():
  true = np.maximum(true_thickness(), 0.035 * beside_the_neck()).astype(np.float32)
  camera, matte = frontal(true)
  found = measured_from_one(camera, matte)
  _, worn = frontal(found)
  _, bare = frontal(np.zeros_like(true))
  missing = ((matte > 0) & (worn == 0)).sum() + ((matte == 0) & (worn > 0)).sum()
  assert missing < 0.25 * ((matte > 0) & (bare == 0)).sum()
  sides = beside_the_neck() > 0.99
  assert abs(np.median(found[sides]) - 0.035) < 0.01


def test_hair_beside_a_neck_is_thicker_behind_unless_a_view_shows_that():
  true = np.maximum(true_thickness(), 0.03 * beside_the_neck()).astype(np.float32)
  outward = directions_at_rest()
  sides = (beside_the_neck() > 0.99) & (np.abs(outward[:, 0]) > 0.9)
  # Its middle, which a profile shows.
  behind = (beside_the_neck() > 0.99) & (outward[:, 2] < -0.9)
  assert min(sides.sum(), behind.sum()) > 10
  assert np.ptp(true[sides | behind]) < 1e-4
  guessed = measured_from_one(*frontal(true))
  assert 1.0 < np.median(guessed[behind]) / np.median(guessed[sides]) < 1.5
  sideways = seen_from((0.0, np.pi / 2, -np.pi / 2), true)
  seen = measured_in(*sideways, (True, True, True))
  assert abs(np.median(seen[behind]) - 0.03) < abs(np.median(guessed[behind]) - 0.03)
  assert abs(np.median(seen[behind]) - 0.03) < 0.005


def curtain(thickness: float) -> np.ndarray:
  """The matte of a bald head seen from the front, and of hair down from its widest place."""
  _, matte = frontal(np.zeros_like(true_thickness()))
  widest = np.argmax(matte.sum(axis=1))
  columns = np.flatnonzero(matte[widest])
  head = load_head().v_template
  pixels = thickness * (columns[-1] - columns[0]) / np.ptp(np.asarray(head)[:, 0])
  # To the level of the chin, where this head's neck begins.
  rows = slice(int(widest), int(widest + 0.3 * SIZE))
  matte = matte.copy()
  matte[rows, int(columns[0] - pixels) : int(columns[-1] + pixels)] = 1.0
  return matte


def test_hair_that_falls_past_ears_and_jaw_leaves_no_hole_under_the_ears():
  matte = curtain(0.015)
  camera, bare = frontal(np.zeros_like(true_thickness()))
  _, worn = frontal(measured_from_one(camera, matte))
  hair = (matte > 0) & (bare == 0)
  assert hair.sum() > 200
  assert (hair & (worn == 0)).sum() < 0.1 * hair.sum()


def test_throat_and_face_stay_bare_under_long_hair():
  true = np.maximum(true_thickness(), 0.035 * beside_the_neck()).astype(np.float32)
  found = measured_from_one(*frontal(true))
  throat = (np.asarray(load_head().v_template)[:, 1] < -0.06) & (directions_at_rest()[:, 2] > 0.4)
  assert throat.sum() > 50
  assert found[throat].max() == 0.0


@pytest.mark.parametrize('slope', [0.0, 0.5, 1.0])
def test_shoulders_are_no_hair(slope):
  camera, matte = frontal(np.zeros_like(true_thickness()))
  rows = np.flatnonzero(matte.any(axis=1))
  begin = rows[0] + 0.85 * (rows[-1] - rows[0])
  row, column = np.mgrid[:SIZE, :SIZE]
  # From a quarter of the head's height to the side they have come down to where others begin.
  fallen = slope * (np.abs(column - SIZE / 2) - 0.25 * (rows[-1] - rows[0]))
  shoulders = np.maximum(matte, row > begin + fallen)
  found = measured_from_one(camera, shoulders)
  assert found.max() < 0.005
