"""The host triangle rasterizer against closed forms and a brute-force ray caster."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sa0_kernels.camera import Camera

from sa0_jax import mesh_render

pytest.importorskip('numba')


def _camera(width: int = 48, height: int = 40, focal: float = 50.0) -> Camera:
  intrinsics = np.array([focal, focal * 1.1, width / 2 + 0.3, height / 2 - 0.2])
  return Camera.from_matrices(np.eye(4), intrinsics, width=width, height=height)


def _triangles(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
  rng = np.random.default_rng(seed)
  center = np.column_stack([rng.uniform(-0.4, 0.4, (count, 2)), rng.uniform(0.1, 2.0, count)])
  vertices = (center[:, None] + rng.normal(0, 0.25, (count, 3, 3))).reshape(-1, 3)
  return vertices, np.arange(3 * count).reshape(count, 3)


def _ray_cast(
  vertices: np.ndarray, faces: np.ndarray, camera: Camera, near: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Intersects every pixel's ray with every triangle by solving for its weights."""
  fx, fy, cx, cy = np.asarray(camera.intrinsics, np.float64)
  x, y = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
  rays = np.stack([(x - cx) / fx, (y - cy) / fy, np.ones_like(x)], axis=-1)
  depth = np.full(x.shape, np.inf)
  face = np.full(x.shape, -1)
  barycentric = np.zeros((*x.shape, 3))
  for number, triangle in enumerate(vertices[faces]):
    # p = Σ w_i v_i = t · ray with Σ w_i = 1.
    weights = rays @ np.linalg.inv(triangle)
    total = weights.sum(-1)
    weights = weights / total[..., None]
    t = 1 / total
    better = (weights >= 0).all(-1) & (t >= near) & (t < depth)
    depth[better], face[better], barycentric[better] = t[better], number, weights[better]
  return face, barycentric, depth


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_matches_ray_casting_with_triangles_through_the_near_plane(seed: int) -> None:
  vertices, faces = _triangles(seed, 40)
  assert (vertices[:, 2] < 0.01).any()  # some corners are behind the camera
  camera = _camera()
  buffers = mesh_render.rasterize_mesh(vertices, faces, camera)
  face, barycentric, depth = _ray_cast(vertices, faces, camera, mesh_render.NEAR)
  same = buffers.face == face
  assert same.mean() > 0.998  # rounding may decide a pixel exactly on an edge the other way
  hit = same & (face >= 0)
  assert hit.sum() > 200
  np.testing.assert_allclose(buffers.depth[hit], depth[hit], rtol=1e-5)
  np.testing.assert_allclose(buffers.barycentric[hit], barycentric[hit], atol=1e-4)
  assert np.isinf(buffers.depth[buffers.face < 0]).all()
  assert (buffers.barycentric[buffers.face < 0] == 0).all()


def test_interpolated_positions_lie_on_their_pixel_rays() -> None:
  vertices, faces = _triangles(3, 30)
  camera = _camera()
  buffers = mesh_render.rasterize_mesh(vertices, faces, camera)
  points = mesh_render.interpolate(buffers, faces, vertices)
  row, column = np.nonzero(buffers.face >= 0)
  fx, fy, cx, cy = np.asarray(camera.intrinsics)
  p = points[row, column]
  np.testing.assert_allclose(fx * p[:, 0] / p[:, 2] + cx, column + 0.5, atol=2e-2)
  np.testing.assert_allclose(fy * p[:, 1] / p[:, 2] + cy, row + 0.5, atol=2e-2)
  np.testing.assert_allclose(p[:, 2], buffers.depth[row, column], rtol=1e-4)


def test_pictures_can_be_drawn_in_several_threads() -> None:
  scenes = [_triangles(seed, 200) for seed in range(8)]
  alone = [mesh_render.rasterize_mesh(*scene, _camera()) for scene in scenes]
  with ThreadPoolExecutor(4) as pool:
    together = list(pool.map(lambda scene: mesh_render.rasterize_mesh(*scene, _camera()), scenes))
  for one, other in zip(alone, together, strict=True):
    np.testing.assert_array_equal(one.face, other.face)
    np.testing.assert_array_equal(one.barycentric, other.barycentric)


def test_culling_drops_clockwise_triangles() -> None:
  vertices = np.array([[-1.0, -1, 2], [1, -1, 2], [0, 1, 2]])  # y down: clockwise from outside
  camera = _camera()
  for faces, drawn in (([[0, 1, 2]], False), ([[0, 2, 1]], True)):
    buffers = mesh_render.rasterize_mesh(vertices, faces, camera, cull_backfaces=True)
    assert bool((buffers.face >= 0).any()) == drawn
    assert (mesh_render.rasterize_mesh(vertices, faces, camera).face >= 0).any()


@pytest.mark.parametrize(
  ('vertices', 'faces', 'message'),
  [
    (np.zeros((3, 2)), np.zeros((1, 3), int), 'need vertices'),
    (np.zeros((3, 3)), np.array([[0, 1, 3]]), 'name vertices'),
    (np.zeros((3, 3)), np.array([[0, 1, -1]]), 'name vertices'),
  ],
)
def test_wrong_meshes_are_refused(vertices: np.ndarray, faces: np.ndarray, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    mesh_render.rasterize_mesh(vertices, faces, _camera())


def _sphere(radius: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
  polar, turn = np.meshgrid(
    np.linspace(0.01, np.pi - 0.01, 33),
    np.linspace(0, 2 * np.pi, 48, endpoint=False),
    indexing='ij',
  )
  vertices = radius * np.stack(
    [np.sin(polar) * np.cos(turn), np.cos(polar), -np.sin(polar) * np.sin(turn)], axis=-1
  ).reshape(-1, 3)
  ids = np.arange(33 * 48).reshape(33, 48)
  a, b = ids[:-1], ids[1:]
  quads = [
    np.stack([a, b, np.roll(b, -1, 1)], -1),
    np.stack([a, np.roll(b, -1, 1), np.roll(a, -1, 1)], -1),
  ]
  return vertices, np.concatenate(quads).reshape(-1, 3)


def test_normals_of_a_sphere_point_outwards() -> None:
  vertices, faces = _sphere()
  normals = mesh_render.vertex_normals(vertices, faces)
  inner = np.abs(vertices[:, 1]) < 0.095
  assert ((normals * vertices).sum(1)[inner] / 0.1).min() > 0.995


def test_visibility_of_a_sphere_is_its_lit_hemisphere_and_a_plate_shades_it() -> None:
  vertices, faces = _sphere()
  up = np.array([[0.0, 1.0, 0.0]])
  seen = mesh_render.vertex_visibility(vertices, faces, up)[:, 0]
  height = vertices[:, 1] / 0.1
  assert seen[height > 0.2].min() > 0.99
  assert seen[(height < -0.2) & (height > -0.99)].max() < 0.01  # the poles are small holes
  plate = np.array([[-1.0, 0.3, -1], [-1, 0.3, 1], [1, 0.3, 1], [1, 0.3, -1]])
  shaded = mesh_render.vertex_visibility(
    np.concatenate([vertices, plate]),
    np.concatenate([faces, np.array([[0, 1, 2], [0, 2, 3]]) + len(vertices)]),
    up,
  )
  assert shaded[: len(vertices)].max() < 0.01


def test_supersampling_shrinks_back_to_the_camera() -> None:
  camera = _camera()
  large = mesh_render.supersampled(camera, 3)
  image = np.random.default_rng(0).random((large.height, large.width, 2))
  small = mesh_render.box_filter(image, 3)
  assert small.shape == (camera.height, camera.width, 2)
  np.testing.assert_allclose(small[4, 5], image[12:15, 15:18].mean((0, 1)))
  with pytest.raises(ValueError, match='multiple'):
    mesh_render.box_filter(image, 7)


def test_look_at_camera_centres_its_target_upright() -> None:
  target = np.array([0.1, -0.2, 0.3])
  camera = mesh_render.look_at_camera(
    target, distance=0.8, yaw=0.4, pitch=0.2, focal=2.0, size=(60, 80)
  )
  transform = np.asarray(camera.world_to_camera, np.float64)
  np.testing.assert_allclose(transform[:3, :3] @ target + transform[:3, 3], [0, 0, 0.8], atol=1e-6)
  assert transform[1, 1] < -0.9  # world up is image up
  position = np.asarray(camera.position)
  assert position[0] > target[0]  # positive yaw stands on the subject's left
  assert position[1] > target[1]  # positive pitch looks down


def test_shading_keeps_the_background_and_lights_the_subject() -> None:
  vertices, faces = _sphere()
  camera = mesh_render.look_at_camera(
    np.zeros(3), distance=0.5, yaw=0.0, pitch=0.0, focal=1.5, size=(40, 40)
  )
  lights = mesh_render.studio_lights(16)
  normals = mesh_render.vertex_normals(vertices, faces)
  light = mesh_render.irradiance(normals, np.ones((len(vertices), 16)), lights)
  buffers = mesh_render.rasterize_mesh(vertices, faces, camera)
  fields = mesh_render.interpolate(buffers, faces, np.concatenate([normals, light], axis=1))
  albedo = np.full((40, 40, 3), 0.6)
  gloss = np.full((40, 40, 1), 0.2)
  picture = mesh_render.shade(buffers, albedo, fields[..., :3], fields[..., 3:], gloss, camera)
  assert picture.min() >= 0
  assert picture.max() <= 1
  np.testing.assert_allclose(picture[0, 0], [0.90, 0.91, 0.92])
  # The key light stands at the upper left of the picture.
  assert picture[12, 12].sum() > picture[28, 28].sum() + 0.2
