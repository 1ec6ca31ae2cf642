"""Random people from the procedural head, and the average one, against adult measurements."""

import dataclasses

import numpy as np
import pytest

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


def test_another_head_is_refused(head: HeadModel) -> None:
  stranger = dataclasses.replace(head, name='flame2020', shape_names=())
  with pytest.raises(ValueError, match='male_female'):
    sample_identity(stranger, 0)
