"""Colours of the procedural head and its contact sheets."""

import pathlib

import numpy as np
import pytest

from sa0_jax.head.model import HeadModel
from sa0_jax.head.procedural import (
  ProceduralSemantics,
  load_procedural_head,
  load_procedural_semantics,
)
from sa0_jax.head.procedural.paint import (
  HAIR_COLORS,
  Look,
  PaintFields,
  default_colors,
  paint,
  texel_colors,
)


@pytest.fixture(scope='module')
def head() -> HeadModel:
  return load_procedural_head()


@pytest.fixture(scope='module')
def labels() -> ProceduralSemantics:
  return load_procedural_semantics()


def test_fields_are_shares_and_survive_stacking(labels: ProceduralSemantics) -> None:
  fields = PaintFields.of_vertices(labels)
  columns = fields.stacked()
  assert columns[:, 3:].min() >= 0
  assert columns[:, 3:].max() <= 1
  again = PaintFields.from_stacked(columns)
  assert np.array_equal(again.stacked(), columns)


def test_every_part_has_its_colour(labels: ProceduralSemantics) -> None:
  color = default_colors(labels)
  assert color.shape == (len(labels.template), 3)
  assert color.min() >= 0
  assert color.max() <= 1
  brightness = color.mean(1)
  eye = labels.component == 1
  pupil, sclera = eye & (labels.eye_ring == 0), eye & (labels.eye_ring == 10)
  iris = eye & (labels.eye_ring == 5)
  assert brightness[pupil].max() < 0.1 < brightness[iris].mean() < brightness[sclera].mean() - 0.2
  teeth = (labels.component == 3) | (labels.component == 4)
  enamel, gum = teeth & (labels.enamel > 0.9), teeth & (labels.enamel < 0.1)
  assert brightness[enamel].mean() > brightness[gum].mean() + 0.2
  red = color[:, 0] - color[:, 1]
  lips = labels.mouth_ring == 9
  cheek = np.linalg.norm(labels.template - np.float32([45, -10, 60]), axis=1) < 14
  assert red[lips].mean() > red[cheek].mean() + 0.08
  assert red[labels.component == 5].mean() > 0.2
  scalp = (labels.hairline > 25) & (labels.component == 0) & (labels.ear_ring < 0)
  hair = np.array(HAIR_COLORS['dark brown']).mean()
  assert abs(brightness[scalp].mean() - hair) < 0.12


def test_looks_change_what_they_name(labels: ProceduralSemantics) -> None:
  fields = PaintFields.of_vertices(labels)
  scalp = (labels.hairline > 25) & labels.skin & (labels.ear_ring < 0)
  haired, _ = paint(fields, Look())
  bald, _ = paint(fields, Look(scalp=0.0))
  assert bald[scalp].mean() > haired[scalp].mean() + 0.3
  chin = np.linalg.norm(labels.template - np.float32([12, -100, 92]), axis=1) < 12
  bearded, _ = paint(fields, Look(stubble=0.8))
  assert bearded[chin].mean() < haired[chin].mean() - 0.1
  _, gloss = paint(fields, Look())
  assert gloss[labels.component == 1].min() > gloss[labels.skin].mean() + 0.5


def test_texels_at_vertices_have_the_vertices_colours(
  head: HeadModel, labels: ProceduralSemantics
) -> None:
  corners = head.faces[::37]
  barycentric = np.tile(np.float32([0, 1, 0]), (len(corners), 1))
  colors = texel_colors(labels, corners, barycentric)
  np.testing.assert_allclose(colors, default_colors(labels)[corners[:, 1]], atol=1e-5)


def test_a_sheet_shows_a_person(head: HeadModel, tmp_path: pathlib.Path) -> None:
  pytest.importorskip('numba')
  import cv2

  from sa0_jax.head.procedural.sheet import Photographer, Pose, View, posed, write_png

  photographer = Photographer(head)
  vertices = posed(head, Pose({'mouthSmile': 0.5}, jaw=0.1))
  lit = photographer.lit(vertices)
  painted = photographer.picture(vertices, lit, Look(), View())
  clay = photographer.picture(vertices, lit, None, View())
  assert painted.shape == clay.shape == (152, 124, 3)
  subject = np.abs(clay - clay[0, 0]).sum(-1) > 0.05
  assert 0.25 < subject.mean() < 0.8
  assert np.abs(painted - clay)[subject].mean() > 0.03
  write_png(tmp_path / 'sheet' / 'person.png', painted)
  read = cv2.imread(str(tmp_path / 'sheet' / 'person.png'))[..., ::-1] / 255
  np.testing.assert_allclose(read, painted, atol=0.003)
  assert [p.name for p in (tmp_path / 'sheet').iterdir()] == ['person.png']
  with pytest.raises(ValueError, match='wink'):
    posed(head, Pose({'wink': 1.0}))
