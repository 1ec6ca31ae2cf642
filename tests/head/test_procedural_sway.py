"""Directions that let hair hang: they move what carries hair, and no face."""

import numpy as np

from sa0_jax.capture.track.landmark_fit import expression_is_named
from sa0_jax.head.procedural import load_procedural_head, load_procedural_semantics
from sa0_jax.head.procedural.sway import SWAY_NAMES


def _sway() -> np.ndarray:
  head = load_procedural_head()
  return head.exprdirs[:, :, -len(SWAY_NAMES) :]


def test_they_are_the_last_expressions_and_centred():
  head = load_procedural_head()
  assert head.num_expression == 100
  assert head.expression_names[-len(SWAY_NAMES) :] == SWAY_NAMES
  assert not expression_is_named(head)[-len(SWAY_NAMES) :].any()


def test_every_one_moves_hair_by_centimetres_and_no_feature_of_the_face():
  head, sway = load_procedural_head(), _sway()
  reach = np.linalg.norm(sway, axis=1)
  assert (reach.max(axis=0) > 0.008).all()
  assert (reach.max(axis=0) < 0.1).all()
  inner = head.landmarks68.index >= 17  # the contour's ends lie beside the ears
  landmarks = np.unique(head.faces[head.landmarks68.face[inner]])
  assert reach[landmarks].max() < 1e-4
  parts = load_procedural_semantics().component
  assert not reach[parts > 0].any()


def test_left_and_right_mirror_each_other():
  sway, pair = _sway(), load_procedural_semantics().pair
  mirror = np.array([-1.0, 1.0, 1.0])[:, None]
  for index, name in enumerate(SWAY_NAMES):
    if name.startswith('sway_left'):
      other = SWAY_NAMES.index(name.replace('left', 'right'))
      np.testing.assert_allclose(sway[pair][:, :, [index]] * mirror, sway[:, :, [other]], atol=1e-4)
