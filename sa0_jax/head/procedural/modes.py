"""Smooth directions that fill a basis up, as coefficients over a few Gaussian bells.

The file stores bells and coefficients; the directions themselves are made when the head is loaded
(`smooth_directions`), which keeps it small.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from sa0_jax.head.procedural.anatomy import EYE_CENTER, MIRROR, smoothstep
from sa0_jax.head.procedural.semantics import ProceduralSemantics

MOUTH_MIDDLE = np.array([0.0, -67.0, 85.0])


@dataclasses.dataclass(frozen=True, eq=False)
class SmoothModes:
  """Smooth displacement fields u(p) = Σ_b exp(−|p − c_b|² / 2 w_b²) · k_b.

  Attributes:
    centers: [b, 3] float32 authored mm.
    widths: [b] float32 mm.
    coefficients: [b, 3, m] int16, to be multiplied by `steps`.
    steps: [m] float32 mm.
  """

  centers: Float[np.ndarray, 'b 3']
  widths: Float[np.ndarray, ' b']
  coefficients: Int[np.ndarray, 'b 3 m']
  steps: Float[np.ndarray, ' m']


def carry_ear(out: Float[np.ndarray, 'v c'], loops: Int[np.ndarray, 'rings n']) -> None:
  """Lets the free ear follow the nearest part of its attachment, in place.

  Args:
    out: values of a field at all vertices; those of the ear's rings are replaced.
    loops: rings of one ear, the attachment first.
  """
  for number, loop in enumerate(loops):
    share = smoothstep(np.full(1, number, out.dtype), 0, 2.5)
    out[loop] += share * (out[loops[0]] - out[loop])


def bells(
  centers: Float[np.ndarray, 'b 3'], widths: Float[np.ndarray, ' b'], p: Float[np.ndarray, 'n 3']
) -> Float[np.ndarray, 'n b']:
  """Value of each bell at each point, float32."""
  squared = (p * p).sum(1)[:, None] + (centers * centers).sum(1) - 2 * p @ centers.T
  return np.exp(-np.maximum(squared, 0) / (2 * widths**2), dtype=np.float32)


def identity_rows(
  labels: ProceduralSemantics, centers: np.ndarray, widths: np.ndarray
) -> Float[np.ndarray, 'v b']:
  """Bells at all vertices with eyeballs, lids, ears and teeth carried rigidly."""
  p = labels.template
  rows = bells(centers, widths, p)
  for side, component in ((1, 1), (-1, 2)):
    mirror = np.array([side, 1, 1], np.float32)
    distance = np.linalg.norm((p - EYE_CENTER * mirror) / [1.15, 1.0, 1.1], axis=1)
    share = (1 - smoothstep(distance, 15.0, 25.0)).astype(np.float32)
    share[labels.component == component] = 1.0
    near = np.flatnonzero(share)
    at_eye = bells(centers, widths, (EYE_CENTER * mirror)[None].astype(np.float32))
    rows[near] += share[near, None] * (at_eye - rows[near])
    carry_ear(rows, labels.ear_loops[component - 1])
  rows[labels.component >= 3] = bells(centers, widths, MOUTH_MIDDLE[None].astype(np.float32))
  return rows


def expression_rows(
  labels: ProceduralSemantics, centers: np.ndarray, widths: np.ndarray
) -> Float[np.ndarray, 'v b']:
  """Bells on the movable skin of the face: 0 on eyeballs, lids, teeth, ears, skull and neck."""
  p = labels.template
  face = smoothstep(p[:, 2] - 0.35 * np.abs(p[:, 0]), 5, 45)
  face = face * smoothstep(p[:, 1], -132, -105) * (1 - smoothstep(p[:, 1], 45, 70))
  for side in (1, -1):
    distance = np.linalg.norm((p - EYE_CENTER * [side, 1, 1]) / [1.25, 1.0, 1.1], axis=1)
    face = face * smoothstep(distance, 15.0, 24.0)
  deep = labels.mouth_ring >= 0
  face = face * np.where(deep, smoothstep(labels.mouth_ring.astype(np.float32), 1, 5), 1.0)
  face = (face * labels.skin).astype(np.float32)
  return face[:, None] * bells(centers, widths, p)


def smooth_directions(
  modes: SmoothModes, rows: Float[np.ndarray, 'v b']
) -> Float[np.ndarray, 'v 3 m']:
  """The directions in mm, float32."""
  count = modes.coefficients.shape[0]
  flat = modes.coefficients.reshape(count, -1).astype(np.float32)
  out = (rows @ flat).reshape(len(rows), 3, -1)
  out *= modes.steps
  return out


def mirrored_centers(centers: Float[np.ndarray, 'b 3']) -> Float[np.ndarray, 'c 3']:
  """Centres and the mirror images of those off the midline."""
  off = np.abs(centers[:, 0]) > 1e-6
  return np.concatenate([centers, centers[off] * MIRROR])
