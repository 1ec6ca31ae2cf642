"""Starting an avatar from a capture: shell, colours, types."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sa0_kernels import Camera

from sa0_jax import mesh_render
from sa0_jax.avatar.avatar import Avatar
from sa0_jax.capture import initialize
from sa0_jax.capture.capture import Capture, MemoryImages
from sa0_jax.capture.hair import outward, shell_thickness
from sa0_jax.capture.initialize import initialize_avatar, reference_frame
from sa0_jax.capture.visibility import openness
from sa0_jax.head.lbs import pose_frames
from sa0_jax.head.model import HeadCodes
from sa0_jax.head.procedural import load_procedural_head, load_procedural_semantics
from sa0_jax.metrics import image as image_metrics
from sa0_jax.refine.config import RefineConfig
from sa0_jax.refine.step import initial_state
from sa0_jax.render import render

pytest.importorskip('numba')

HAIR = 0.018  # metres of the known shell
SKIN, DARK = np.array([0.8, 0.55, 0.45]), np.array([0.15, 0.1, 0.08])


@functools.cache
def _hair() -> np.ndarray:
  """[v] thickness of a cap of hair that grows within 25 mm of the hairline."""
  labels = load_procedural_semantics()
  on_skin = labels.component == 0
  return on_skin * HAIR * np.clip(labels.hairline / 25.0, 0.0, 1.0)


@functools.cache
def _filmed(size: int = 128) -> Capture:
  """The head under that cap of hair, in two flat colours, seen from all sides."""
  head = load_procedural_head()
  mesh = np.asarray(head.v_template, np.float64)
  shell = mesh + _hair()[:, None] * outward(mesh, head.faces)
  color = np.where((_hair() > 0.2 * HAIR)[:, None], DARK, SKIN)
  yaws = np.linspace(-np.pi, np.pi, 12, endpoint=False)
  images, mattes, views, intrinsics = [], [], [], []
  for yaw in yaws:
    camera = mesh_render.look_at_camera(
      [0.0, 0.0, 0.0], distance=1.0, yaw=yaw, pitch=0.15, focal=2.2, size=(size, size)
    )
    seen = mesh_render.rasterize_mesh(shell, head.faces, camera)
    inside = seen.face >= 0
    corners = head.faces[np.maximum(seen.face, 0)]
    shade = np.einsum('hwk,hwkc->hwc', seen.barycentric, color[corners])
    images.append(np.where(inside[..., None], np.round(255 * shade), 90).astype(np.uint8))
    mattes.append(255 * inside.astype(np.uint8))
    views.append(camera.world_to_camera)
    intrinsics.append(camera.intrinsics)
  neutral = HeadCodes.neutral(head, (len(yaws),))
  codes = {f.name: np.array(getattr(neutral, f.name)) for f in dataclasses.fields(HeadCodes)}
  codes['shape'] = codes['shape'][0]
  return Capture(
    name='cap',
    head_name=head.name,
    head_fingerprint=head.fingerprint,
    codes=HeadCodes(**codes),
    camera=Camera(np.float32(views), np.float32(intrinsics), size, size),
    source=MemoryImages(np.stack(images), np.stack(mattes)),
    ids=np.arange(len(yaws)),
    times=np.arange(len(yaws)) / 25.0,
    view_ids=np.zeros(len(yaws), np.int64),
  )


@functools.cache
def _started(positions: tuple[int, ...]) -> Avatar:
  return initialize_avatar(_filmed(), load_procedural_head(), 128, np.array(positions))


def _psnr(avatar: Avatar, position: int) -> float:
  frame = _filmed().frames[position]
  matte = frame.matte[..., None]
  target = matte * frame.image + 1 - matte
  return float(image_metrics.psnr(jnp.asarray(render(avatar, frame).rgb), jnp.asarray(target)))


def test_thickness_of_a_known_shell_is_measured():
  head, capture = load_procedural_head(), _filmed()
  positions = np.arange(len(capture))
  vertices = pose_frames(head, capture.frame_codes(positions))
  thickness = shell_thickness(capture, head, positions, vertices)
  full = (_hair() == HAIR) & (load_procedural_semantics().ear_ring < 0)
  # A pixel is 3.6 mm here.
  assert abs(np.median(thickness[full]) - HAIR) < 0.003
  assert np.quantile(np.abs(thickness[full] - HAIR), 0.9) < 0.007
  bare = load_procedural_semantics().hairline < -30
  assert np.median(thickness[bare]) < 0.002
  assert thickness.min() >= 0


def test_a_bald_head_gets_no_shell():
  head, capture = load_procedural_head(), _filmed()
  camera = [capture.frame_camera(i) for i in range(len(capture))]
  mesh = np.asarray(head.v_template, np.float64)
  mattes = np.stack([mesh_render.rasterize_mesh(mesh, head.faces, c).face >= 0 for c in camera])
  source = MemoryImages(capture.source.images, 255 * mattes.astype(np.uint8))
  positions = np.arange(len(capture))
  vertices = pose_frames(head, capture.frame_codes(positions))
  thickness = shell_thickness(
    dataclasses.replace(capture, source=source), head, positions, vertices
  )
  assert thickness.mean() < 0.001
  assert np.quantile(thickness, 0.99) < 0.009


def test_the_start_already_looks_like_the_subject():
  positions = tuple(range(0, 12, 2))
  avatar = _started(positions)
  scores = [_psnr(avatar, position) for position in range(12)]
  assert min(scores[::2]) > 17
  assert min(scores[1::2]) > 17  # from between the cameras it was made from


def test_the_shell_is_what_makes_the_outline_right(monkeypatch):
  with_shell = _psnr(_started((0, 2, 4, 6, 8, 10)), 3)
  monkeypatch.setattr(
    initialize, 'shell_thickness', lambda *_: np.zeros(len(load_procedural_head().v_template))
  )
  bare = initialize_avatar(_filmed(), load_procedural_head(), 128, np.arange(0, 12, 2))
  assert with_shell > _psnr(bare, 3) + 1.0


def test_what_no_frame_shows_takes_the_colours_nearest_on_the_skin():
  # Front and the two views beside it: the back of the head is hair, the nape is skin.
  avatar = _started((5, 6, 7))
  labels, head = load_procedural_semantics(), load_procedural_head()
  color = jax.nn.sigmoid(np.asarray(avatar.gaussians.color_logit))
  corner = head.faces[np.asarray(avatar.layout.face)][:, 0]
  back = (labels.template[corner, 2] < -60) & (labels.hairline[corner] > 40)
  assert back.sum() > 50
  distance = {
    name: np.linalg.norm(np.asarray(color)[back] - tone, axis=1).mean()
    for name, tone in (('hair', DARK), ('skin', SKIN))
  }
  assert distance['hair'] < 0.25 * distance['skin']


def test_teeth_keep_the_models_own_hue_in_the_shade_of_the_mouth():
  avatar, head = _started((5, 6, 7)), load_procedural_head()
  corner = head.faces[np.asarray(avatar.layout.face)][:, 0]
  teeth = np.char.find(np.array(head.component_names), 'teeth') >= 0
  inside = teeth[np.asarray(head.components)[corner]]
  assert inside.any()
  color = np.asarray(jax.nn.sigmoid(avatar.gaussians.color_logit))[inside]
  own = np.asarray(head.default_colors)[corner[inside]]
  assert color.mean() < 0.7 * own.mean()
  assert color.mean() > 0.05
  hue, own_hue = (c / c.sum(axis=1, keepdims=True) for c in (color, own))
  assert np.median(np.abs(hue - own_hue)) < 0.05


def test_little_light_reaches_the_inside_of_the_mouth():
  head, labels = load_procedural_head(), load_procedural_semantics()
  light = openness(head, np.zeros(head.num_shape, np.float32))
  assert light.min() >= 0
  assert light.max() <= 1
  tongue = labels.component == head.component_names.index('tongue')
  assert np.median(light[tongue]) < 0.2
  assert np.median(light[labels.hairline > 20]) > 0.7


def test_reference_is_the_frame_with_the_least_jaw():
  jaw = np.zeros((12, 3), np.float32)
  jaw[:, 0] = [0.3, 0.2, 0.05, 0.2, 0.05, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]
  capture = _filmed()
  opened = dataclasses.replace(capture, codes=dataclasses.replace(capture.codes, jaw=jaw))
  assert reference_frame(opened, np.arange(12), 0) == 2  # the earlier of the two
  assert reference_frame(opened, np.arange(3, 12), 0) == 4
  # Where many are closed: any of the lowest tenth, by the seed.
  closed = [reference_frame(capture, np.arange(12), seed) for seed in range(8)]
  assert set(closed) == {0}
  many = capture.select(np.arange(40) % 12)
  assert len({reference_frame(many, np.arange(40), seed) for seed in range(8)}) > 1


def test_first_state_is_strongly_typed():
  # A weak type would become strong in the first step and have the second one compiled anew.
  gaussians = jax.tree.map(lambda leaf: leaf[None], _started((5, 6, 7)).gaussians)
  weak = dataclasses.replace(gaussians, opacity_logit=jnp.full(gaussians.opacity_logit.shape, 1.0))
  assert weak.opacity_logit.weak_type
  state = initial_state(RefineConfig(), weak)
  assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))
