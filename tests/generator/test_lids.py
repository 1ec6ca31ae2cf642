"""Lids of open eyes take the colour of the skin around; closed ones show their own."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sa0_kernels import Camera

from sa0_jax.generator.generator import Rig, Sources, encode
from sa0_jax.generator.lids import Lids, folded_away
from sa0_jax.head.lbs import pose_head
from sa0_jax.head.model import HeadCodes
from sa0_jax.head.registry import load_head
from sa0_jax.head.uv_layout import UVLayout
from tests.generator.tiny import TINY, generator

UV, SIZE = 96, TINY.image_size
CLOSES = ('eyeBlinkLeft', 'eyeBlinkRight')


def vertices(left=0.0, right=0.0) -> np.ndarray:
  """The template with eyes closed by so much."""
  head, values = load_head(), np.zeros(load_head().num_expression, np.float32)
  for name, value in zip(CLOSES, (left, right), strict=True):
    values[head.expression_names.index(name)] = value
  codes = dataclasses.replace(HeadCodes.neutral(head), expression=jnp.asarray(values))
  return np.asarray(pose_head(head, codes))


@functools.cache
def lids() -> Lids:
  return Lids.from_head(load_head(), UVLayout.from_head(load_head(), UV))


def places() -> np.ndarray:
  """Where the texels lie on the template, metres."""
  layout = UVLayout.from_head(load_head(), UV)
  corners = vertices()[load_head().faces[np.asarray(layout.face)]]
  return np.sum(corners * np.asarray(layout.barycentric)[..., None], axis=1)


def test_lids_are_above_their_eyes():
  eye, at = np.asarray(lids().eye), places()
  for side, sign in ((0, 1.0), (1, -1.0)):  # the subject's left is +x
    margin = vertices()[lids().upper[side]]
    assert np.sign(margin[0]) == sign
    mine = at[eye == side]
    assert len(mine) > 10
    assert np.linalg.norm(mine - margin, axis=1).max() < 0.03
    assert vertices()[lids().lower[side]][1] < margin[1]
  assert 0.005 < lids().opening.min() < 0.02
  assert (eye == 2).mean() > 0.9


@pytest.mark.parametrize(
  ('left', 'right', 'folded'), [(0, 0, {0, 1}), (1, 0, {1}), (0, 0.8, {0}), (1, 1, set())]
)
def test_open_eyes_fold_their_lids_away(left, right, folded):
  hidden = np.asarray(folded_away(lids(), jnp.asarray(vertices(left, right))))
  assert set(np.asarray(lids().eye)[hidden].tolist()) == folded


def test_heads_that_cannot_close_their_eyes_have_no_lids():
  nameless = dataclasses.replace(load_head(), expression_names=())
  assert Lids.from_head(nameless, UVLayout.from_head(load_head(), UV)) is None


def portrait(mesh: np.ndarray) -> Sources:
  """Skin, but for black where eyes and lids are, four times over."""
  view = np.diag([1.0, -1.0, -1.0, 1.0]).astype(np.float32)
  view[2, 3] = 0.8
  lens = np.float32([2.2 * SIZE, 2.2 * SIZE, SIZE / 2, SIZE / 2])
  image = np.full((SIZE, SIZE, 3), [0.8, 0.6, 0.5], np.float32)
  rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
  for x, y, z in vertices()[np.asarray(lids().lower)]:
    depth = 0.8 - z
    column, row = lens[0] * x / depth + SIZE / 2, SIZE / 2 - lens[1] * (y + 0.006) / depth
    image[np.hypot(rows - row, columns - column) < 0.015 * lens[0] / depth] = 0.0
  four = lambda a: jnp.broadcast_to(jnp.asarray(a), (1, 4, *np.shape(a)))  # noqa: E731
  return Sources(
    image=four(image),
    vertices=four(mesh),
    camera=Camera(four(view), four(lens), SIZE, SIZE),
    mask=jnp.asarray([[True, False, False, False]]),
    matte=four(np.full((SIZE, SIZE), 255, np.uint8)),
  )


def test_what_covers_a_lid_of_an_open_eye_is_not_its_colour():
  unet = dataclasses.replace(TINY.unet, in_channels=TINY.unet.in_channels + 1)
  made = generator(visibility=True, unet=unet)
  rig = Rig.from_head(load_head(), made.config, UV).arrays
  lid = np.asarray(rig.lids.eye) < 2

  def brightness(mesh, lids):
    arrays = rig._replace(lids=lids)
    return np.asarray(encode(made, portrait(mesh), arrays).rgb)[0, :, 0]

  now, before = brightness(vertices(), rig.lids), brightness(vertices(), None)
  assert before[lid].mean() < 0.25
  assert now[lid].mean() > before[lid].mean() + 0.25  # skin near the eye is black, too
  far = np.linalg.norm(places()[:, None] - places()[lid], axis=-1).min(axis=1) > 0.03
  np.testing.assert_allclose(now[far], before[far], atol=0.02)  # hidden ones take means
  closed = jax.device_get(vertices(1.0, 1.0))
  assert brightness(closed, rig.lids)[lid].mean() < 0.25  # seen, and black
