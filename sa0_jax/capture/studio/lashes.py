"""Eyelashes: a toothed band on each lid's edge, built anew in every frame from the posed lids."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from sa0_jax.head.procedural import ProceduralSemantics

# The lid ring the lashes grow from and one farther up the lid.
_EDGE, _SKIN = 3, 6
# Steps of a lid ring that carry lashes: upper lid, then lower.
_ARCS = ((0.6, 15.2), (18.5, 31.2))
_TEETH = (30, 22)
# Millimetres in the middle of the lid: of the teeth, and of the solid band under them.
_LENGTHS, _BASES = (7.0, 1.5), (0.8, 0.05)


@dataclasses.dataclass(frozen=True, eq=False)
class Lashes:
  """Where lashes grow, as weights on the vertices of the lid rings.

  Attributes:
    rows: [l, 2] vertices of the edge ring on both sides of each lash.
    skin_rows: [l, 2] the same on the ring behind it.
    blend: [l] float32 weight of the second.
    eye: [l] 0 left, 1 right.
    lengths: [l, 2] float32 metres of the band and of the teeth.
    faces: [f, 3] int32 triangles over vertices (root, band, tip) of each lash.
  """

  rows: Int[np.ndarray, 'l 2']
  skin_rows: Int[np.ndarray, 'l 2']
  blend: Float[np.ndarray, ' l']
  eye: Int[np.ndarray, ' l']
  lengths: Float[np.ndarray, 'l 2']
  faces: Int[np.ndarray, 'f 3']


def make_lashes(labels: ProceduralSemantics, density: float) -> Lashes:
  """Places the lashes.

  Args:
    labels: semantics of the procedural head.
    density: length relative to the average.
  """
  rows, skin_rows, blend, eyes, lengths, faces = [], [], [], [], [], []
  start = 0
  for eye in (0, 1):
    for (first, last), teeth, length, base in zip(_ARCS, _TEETH, _LENGTHS, _BASES, strict=True):
      at = np.linspace(first, last, teeth)
      low = np.floor(at).astype(np.int64)
      both = np.stack([low, low + 1], axis=1) % labels.lid_loops.shape[2]
      rows.append(labels.lid_loops[eye, _EDGE][both])
      skin_rows.append(labels.lid_loops[eye, _SKIN][both])
      blend.append(at - low)
      eyes.append(np.full(teeth, eye))
      middle = np.sin(np.pi * np.arange(1, teeth + 1) / (teeth + 1)) ** 0.6
      ragged = 0.86 + 0.14 * np.cos(2.4 * np.arange(teeth))
      teeth_length = density * length * middle * ragged
      lengths.append(
        1e-3 * np.stack([np.minimum(base * middle, teeth_length), teeth_length], axis=1)
      )
      here = start + 3 * np.arange(teeth - 1)
      after = here + 3
      faces += [
        np.stack([here, after, after + 1], axis=1),
        np.stack([here, after + 1, here + 1], axis=1),
        # A tooth leans on the first half of its stretch of the band.
        np.stack([here + 1, after + 1, here + 2], axis=1),
      ]
      start += 3 * teeth
  return Lashes(
    np.concatenate(rows),
    np.concatenate(skin_rows),
    np.concatenate(blend).astype(np.float32),
    np.concatenate(eyes),
    np.concatenate(lengths).astype(np.float32),
    np.concatenate(faces).astype(np.int32),
  )


def pose_lashes(
  lashes: Lashes, vertices: Float[np.ndarray, 'v 3'], centers: Float[np.ndarray, '2 3']
) -> Float[np.ndarray, 'n 3']:
  """Vertices of the lashes, three each: root, end of the band, tip.

  Args:
    lashes: from `make_lashes`.
    vertices: [v, 3] the posed head.
    centers: [2, 3] posed centres of the left and right eyeball.
  """
  blend = lashes.blend[:, None]
  root = vertices[lashes.rows[:, 0]] * (1 - blend) + vertices[lashes.rows[:, 1]] * blend
  skin = vertices[lashes.skin_rows[:, 0]] * (1 - blend) + vertices[lashes.skin_rows[:, 1]] * blend
  outward = root - centers[lashes.eye]
  outward /= np.linalg.norm(outward, axis=1, keepdims=True)
  # The lid's surface runs on into the lash, which then curls away from the eye and back up.
  along = root - skin
  along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
  early = 0.85 * outward + 0.35 * along
  late = 0.95 * outward - 0.30 * along
  band = root + early * lashes.lengths[:, :1]
  tip = root + late * lashes.lengths[:, 1:]
  return np.stack([root, band, tip], axis=1).reshape(-1, 3)
