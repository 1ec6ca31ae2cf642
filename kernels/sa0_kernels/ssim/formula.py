"""The index of one pixel and its derivatives, from blurred moments."""

from typing import Any, NamedTuple


class Moments(NamedTuple):
  """Blurred a, b, a², b² and ab, arrays of one shape."""

  a: Any
  b: Any
  aa: Any
  bb: Any
  ab: Any


class Similarity(NamedTuple):
  """The index per pixel.

  Attributes:
    ratio: the index.
    by_mean, by_aa, by_ab: its derivatives by the blurred a, a² and ab.
  """

  ratio: Any
  by_mean: Any
  by_aa: Any
  by_ab: Any


def products(a: Any, b: Any) -> Moments:
  """What is to be blurred."""
  return Moments(a, b, a * a, b * b, a * b)


def similarity(blurred: Moments, stabilizers: tuple[float, float]) -> Similarity:
  """Equation 13 of Wang et al. 2004, as a function of the blurred moments."""
  c1, c2 = stabilizers
  mean_a, mean_b = blurred.a, blurred.b
  a1 = 2.0 * mean_a * mean_b + c1
  a2 = 2.0 * (blurred.ab - mean_a * mean_b) + c2
  b1 = mean_a * mean_a + mean_b * mean_b + c1
  b2 = blurred.aa - mean_a * mean_a + blurred.bb - mean_b * mean_b + c2
  inverse = 1.0 / (b1 * b2)
  ratio = a1 * a2 * inverse
  by_mean = 2.0 * mean_b * (a2 - a1) * inverse - 2.0 * mean_a * ratio * (b2 - b1) * inverse
  return Similarity(ratio, by_mean, -ratio * b1 * inverse, 2.0 * a1 * inverse)


def gradient(image: Any, target: Any, blurred: tuple[Any, Any, Any]) -> Any:
  """By the image, from the blurred derivatives: a symmetric blur is its own adjoint."""
  by_mean, by_aa, by_ab = blurred
  return by_mean + 2.0 * image * by_aa + target * by_ab
