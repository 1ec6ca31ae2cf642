"""Random people from the procedural head, and the average one, against adult measurements."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial import cKDTree

from sa0_jax.head.model import HeadModel
from sa0_jax.head.procedural import load_procedural_head, load_procedural_semantics
from sa0_jax.head.procedural.anatomy import to_millimetres
from sa0_jax.head.procedural.identity import sample_identity
from sa0_jax.head.procedural.measure import anthropometry, self_intersections


@pytest.fixture(scope='module')
def head() -> HeadModel:
  return load_procedural_head()


def _shaped(head: HeadModel, shape: np.ndarray) -> np.ndarray:
  directions = head.shapedirs.reshape(-1, head.num_shape)
  moved = head.v_template + (directions @ shape).reshape(-1, 3)
  return to_millimetres(moved.astype(np.float64))


def test_the_average_head_has_average_measurements(head: HeadModel) -> None:
  rows = anthropometry(
    load_procedural_semantics().template.astype(np.float64), load_procedural_semantics()
  )
  assert len(rows) == 15
  for row in rows:
    assert abs(row.value - row.mean) < 1.2 * row.deviation, row


def test_people_vary_like_adults(head: HeadModel) -> None:
  labels = load_procedural_semantics()
  people = [sample_identity(head, seed) for seed in range(40)]
  measured = [anthropometry(_shaped(head, person.shape), labels) for person in people]
  values = np.array([[row.value for row in rows] for rows in measured])
  skull = ('head breadth', 'head length', 'menton to vertex')  # these include the hair
  for column, row in enumerate(measured[0]):
    mean, deviation = values[:, column].mean(), values[:, column].std()
    allowed = 2.0 if row.name in skull else 1.2
    assert abs(mean - row.mean) < allowed * row.deviation, row.name
    assert 0.3 * row.deviation < deviation < 2.0 * row.deviation, row.name
    assert np.ptp(values[:, column]) < 9 * row.deviation, row.name


def test_a_seed_is_a_person(head: HeadModel) -> None:
  one, same, other = (sample_identity(head, seed) for seed in (7, 7, 8))
  assert np.array_equal(one.shape, same.shape)
  assert one.look == same.look
  assert np.abs(one.shape - other.shape).max() > 0.5
  assert one.shape.dtype == np.float32
  assert one.shape.shape == (head.num_shape,)


def test_men_and_women_differ_in_jaw_and_neck(head: HeadModel) -> None:
  people = [sample_identity(head, seed) for seed in range(48)]
  labels = load_procedural_semantics()
  rows = [
    {row.name: row.value for row in anthropometry(_shaped(head, person.shape), labels)}
    for person in people
  ]
  male = np.array([person.masculinity > 0 for person in people])
  for name in ('bigonial breadth', 'neck breadth', 'sellion to menton'):
    values = np.array([row[name] for row in rows])
    assert values[male].mean() > values[~male].mean() + 2.0, name


@pytest.mark.parametrize('seed', range(4))
def test_people_hardly_cut_themselves(head: HeadModel, seed: int) -> None:
  positions = _shaped(head, sample_identity(head, seed).shape)
  assert len(self_intersections(positions, head.faces)) < 90


def _deepest_in_the_eye(positions: np.ndarray, faces: np.ndarray, eye: int) -> float:
  """How far the lids' triangles reach under the surface of an eyeball, mm."""
  labels = load_procedural_semantics()
  ball = positions[labels.component == 1 + eye]
  design = np.concatenate([2 * ball, np.ones((len(ball), 1))], axis=1)
  center = np.linalg.lstsq(design, (ball**2).sum(1), rcond=None)[0][:3]  # of the best sphere
  radius = np.linalg.norm(ball - center, axis=1)
  is_lid = np.zeros(len(positions), bool)
  is_lid[labels.lid_loops[eye].ravel()] = True
  weights = np.array([[i, j, 6 - i - j] for i in range(7) for j in range(7 - i)]) / 6
  points = np.einsum('gk,fkd->fgd', weights, positions[faces[is_lid[faces].all(1)]]).reshape(-1, 3)
  distance = np.linalg.norm(points - center, axis=1)
  apart, near = cKDTree((ball - center) / radius[:, None]).query(
    (points - center) / distance[:, None], k=3
  )
  share = 1 / (apart + 1e-6)
  surface = (radius[near] * share).sum(1) / share.sum(1)
  return float((surface - distance)[apart[:, 0] < 0.2].max())


@pytest.mark.parametrize('seed', [None, 0, 2, 3])
def test_lids_stay_out_of_the_eyes_on_their_whole_way(head: HeadModel, seed: int | None) -> None:
  """Not at its ends alone: a blink is a straight line for every vertex, and eyes are round."""
  neutral = np.zeros(head.num_shape, np.float32)
  shape = neutral if seed is None else sample_identity(head, seed).shape
  rest = _shaped(head, shape)
  blink = [head.expression_names.index(f'eyeBlink{side}') for side in ('Left', 'Right')]
  move = 1000 * head.exprdirs[..., blink].sum(-1).astype(np.float64)
  for amount in (0.25, 0.5, 0.75, 1.0):
    for eye in (0, 1):
      depth = _deepest_in_the_eye(rest + amount * move, head.faces, eye)
      assert depth < (0.05 if seed is None else 0.3), (amount, eye)


def test_another_head_is_refused(head: HeadModel) -> None:
  stranger = dataclasses.replace(head, name='flame2020', shape_names=())
  with pytest.raises(ValueError, match='male_female'):
    sample_identity(stranger, 0)
