"""What foreign files are written from: a posed head, filmed; and where its landmarks are.

Nothing here uses the importers. Rotations are Rodrigues' formula written out once more.
"""

import dataclasses
import functools

import numpy as np
from sa0_kernels import Camera

from sa0_jax.head.lbs import LandmarkArrays, pose_head, pose_landmarks
from sa0_jax.head.model import HeadCodes, HeadModel
from sa0_jax.head.registry import load_head
from sa0_jax.mesh_render import interpolate, rasterize_mesh, vertex_normals


@functools.cache
def head(name: str) -> HeadModel:
  """The procedural head under the name of another, which no test has."""
  return dataclasses.replace(load_head(), name=name)


@functools.cache
def _landmark_arrays() -> LandmarkArrays:
  return LandmarkArrays.from_head(load_head(), load_head().landmarks68)


def posed_landmarks(codes: HeadCodes) -> np.ndarray:
  """[t, 68, 3], a frame at a time: one program for any number of frames."""
  points = []
  for position in range(len(codes.expression)):
    moving = {
      field.name: np.asarray(getattr(codes, field.name))[position]
      for field in dataclasses.fields(HeadCodes)
      if field.name != 'shape'
    }
    one = HeadCodes(shape=np.asarray(codes.shape), **moving)
    points.append(np.asarray(pose_landmarks(_landmark_arrays(), one), np.float64))
  return np.stack(points)


def turn(vector) -> np.ndarray:
  """The rotation matrix of an axis-angle vector."""
  vector = np.asarray(vector, np.float64)
  angle = np.linalg.norm(vector)
  if angle < 1e-12:
    return np.eye(3)
  x, y, z = vector / angle
  cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
  return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
  """A few frames of one head.

  Attributes:
    codes: arrays by the names of `HeadCodes`, float64.
    rotation: [t, 3, 3] and
    translation: [t, 3]: OpenCV's R and t, metres.
    lens: [4] fx, fy, cx, cy.
    size: width, height.
  """

  codes: dict[str, np.ndarray]
  rotation: np.ndarray
  translation: np.ndarray
  lens: np.ndarray
  size: tuple[int, int]

  def __len__(self) -> int:
    return len(self.rotation)

  def head_codes(self, **changed) -> HeadCodes:
    arrays = {k: np.asarray(v, np.float32) for k, v in {**self.codes, **changed}.items()}
    return HeadCodes(**arrays)

  @functools.cached_property
  def points(self) -> np.ndarray:
    """[t, 68, 3] landmarks in the world."""
    return posed_landmarks(self.head_codes())

  @functools.cached_property
  def vertices(self) -> np.ndarray:
    """[t, v, 3] in the world."""
    return np.asarray(pose_head(load_head(), self.head_codes()), np.float64)

  @property
  def pixels(self) -> np.ndarray:
    """[t, 68, 2] where the landmarks are in the pictures."""
    return project(self.points, self.rotation, self.translation, self.lens)

  @functools.cached_property
  def pictures(self) -> list[tuple[np.ndarray, np.ndarray]]:
    """Colour and matte of each frame: normals as colours."""
    return [self._picture(i) for i in range(len(self))]

  def on(self, position: int, level: int) -> np.ndarray:
    """A picture composited over a grey level."""
    image, matte = self.pictures[position]
    return np.where(matte[..., None] > 127, image, np.uint8(level))

  def _picture(self, position: int) -> tuple[np.ndarray, np.ndarray]:
    view = np.eye(4)
    view[:3, :3], view[:3, 3] = self.rotation[position], self.translation[position]
    camera = Camera(view, self.lens, *self.size)
    faces, vertices = load_head().faces, self.vertices[position]
    buffers = rasterize_mesh(vertices, faces, camera)
    normals = interpolate(buffers, faces, vertex_normals(vertices, faces))
    hit = buffers.face >= 0
    backdrop = np.random.default_rng(position).integers(0, 256, (*self.size[::-1], 3))
    color = np.where(hit[..., None], 120 + 70 * normals, backdrop)
    return color.astype(np.uint8), np.where(hit, 255, 0).astype(np.uint8)


def project(points, rotation, translation, lens) -> np.ndarray:
  """OpenCV's pinhole: [t, m, 3] → [t, m, 2]; lens is [4] or [t, 1, 4]."""
  seen = np.einsum('tij,tmj->tmi', rotation, points) + translation[:, None]
  return lens[..., :2] * seen[..., :2] / seen[..., 2:] + lens[..., 2:]


def make_scene(
  frames: int = 4,
  *,
  pose: str = 'camera',
  size: tuple[int, int] = (128, 128),
  focal: float = 3.0,
  distance: float = 0.9,
  counts: tuple[int, int] = (300, 100),
  seed: int = 0,
) -> Scene:
  """A head that turns and speaks.

  Args:
    frames: how many.
    pose: 'camera': the pose of the head is in the camera, as trackers without a neck have it;
      'codes': one still camera, the head turns, nods and moves.
    size: width and height.
    focal: focal length in image heights.
    distance: metres from the head.
    counts: number of shape and expression codes that are not zero.
    seed: of everything.
  """
  rng = np.random.default_rng(seed)
  shape, expression = np.zeros(300), np.zeros((frames, 100))
  shape[: min(10, counts[0])] = rng.normal(size=min(10, counts[0]))
  expression[:, :20] = 0.4 * rng.normal(size=(frames, 20))
  expression[:, counts[1] - 1] = 0.3
  zero = np.zeros((frames, 3))
  codes = {'shape': shape, 'expression': expression, 'rotation': zero, 'neck': zero}
  codes['jaw'] = np.stack(
    [0.05 + 0.15 * rng.random(frames), *0.02 * rng.normal(size=(2, frames))], 1
  )
  codes['eyes'] = 0.15 * rng.normal(size=(frames, 6))
  codes['translation'] = zero
  swing = np.stack([0.25 * rng.normal(size=frames), np.linspace(-0.5, 0.6, frames), zero[:, 0]], 1)
  upright = np.diag([1.0, -1.0, -1.0])
  if pose == 'codes':
    codes['rotation'], codes['neck'] = 0.6 * swing, 0.3 * swing[:, [1, 0, 2]]
    codes['translation'] = 0.02 * rng.normal(size=(frames, 3)) + np.array([0.1, 1.5, -0.3])
    rotation = np.stack([turn([0.1, 0.3, 0.05]) @ upright] * frames)
    center = np.stack([np.array([0.1, 1.5, -0.3])] * frames)
  else:
    rotation = np.stack([upright @ turn(vector) for vector in swing])
    center = 0.01 * rng.normal(size=(frames, 3))
  translation = np.array([0.0, 0.0, distance]) - np.einsum('tij,tj->ti', rotation, center)
  lens = np.array([focal * size[1], 1.01 * focal * size[1], 0.48 * size[0], 0.53 * size[1]])
  return Scene(codes, rotation, translation, lens, size)


def landmarks_of(capture, model: HeadModel) -> np.ndarray:
  """[t, 68, 2] where an imported capture says that the landmarks are."""
  capture.check_head(model)
  codes = capture.frame_codes(np.arange(len(capture)))
  points = posed_landmarks(codes)
  views = np.asarray(capture.camera.world_to_camera, np.float64)
  lens = np.asarray(capture.camera.intrinsics, np.float64)
  return project(points, views[:, :3, :3], views[:, :3, 3], lens[:, None])


def assert_same_places(capture, model: HeadModel, pixels: np.ndarray, tolerance=0.02) -> None:
  """Landmarks of the capture are where they should be; the head is in the picture at all."""
  assert (pixels > 0).all()
  assert (pixels < (capture.width, capture.height)).all()
  assert np.ptp(pixels[0], axis=0).min() > 0.12 * min(capture.width, capture.height)
  np.testing.assert_allclose(landmarks_of(capture, model), pixels, atol=tolerance)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
  """Intersection over union of two mattes."""
  a, b = a > 127, b > 127
  return (a & b).sum() / (a | b).sum()
