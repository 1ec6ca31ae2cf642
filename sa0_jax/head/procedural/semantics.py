"""What the procedural head's vertices are, beyond `HeadModel`: for painting, building and tests."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclasses.dataclass(frozen=True, eq=False)
class ProceduralSemantics:
  """Labels of the procedural head's vertices. Per-vertex rings hold −1 elsewhere.

  Attributes:
    template: [v, 3] float32 authored coordinates in millimetres: x = the subject's left, y up,
      z forward, origin between the pupils in the plane of the ear canals.
    component: [v] index into `HeadModel.component_names`.
    pair: [v] the vertex on the other side of the head (itself on the midline).
    collar: [v] whether a vertex lies on the open border of the neck.
    lid_ring: [v] lid ring from under the lids (0) over the edges (2 wet, 3 lashes) to the orbit.
    lid_angle: [v] radians around the eye: 0 outer corner, π/2 upper lid, π inner corner.
    mouth_ring: [v] mouth ring from the throat (0) over the seam (7) and the border of the red (11)
      to the skin (15).
    lip_side: [v] +1 on the upper half of the mouth rings, 0 at the corners, −1 below.
    lip_fraction: [v] 0 at the midline of a mouth ring, 1 at the corner.
    nostril_ring: [v] from the pit (0) to the skin around it (4).
    ear_ring: [v] from the attachment (0) over back and rim (4) to the concha (12).
    eye_ring: [v] eyeball ring from the pole (0): up to 2 pupil, up to 7 iris, then sclera.
    enamel: [v] 1 on teeth, 0 on gums and elsewhere.
    hairline: [v] signed distance to the hairline in mm: positive on the scalp.
    lid_loops: [2, rings, 32] vertices of each lid ring, left eye first, outer corner first.
    mouth_loops: [rings, 64] vertices around the mouth: upper midline, left corner, lower midline,
      right corner.
    nostril_loops: [2, rings, 14] vertices around each nostril, left first.
    ear_loops: [2, rings, 30] vertices around each ear, left first.
  """

  template: Float[np.ndarray, 'v 3']
  component: Int[np.ndarray, ' v']
  pair: Int[np.ndarray, ' v']
  collar: Bool[np.ndarray, ' v']
  lid_ring: Int[np.ndarray, ' v']
  lid_angle: Float[np.ndarray, ' v']
  mouth_ring: Int[np.ndarray, ' v']
  lip_side: Int[np.ndarray, ' v']
  lip_fraction: Float[np.ndarray, ' v']
  nostril_ring: Int[np.ndarray, ' v']
  ear_ring: Int[np.ndarray, ' v']
  eye_ring: Int[np.ndarray, ' v']
  enamel: Float[np.ndarray, ' v']
  hairline: Float[np.ndarray, ' v']
  lid_loops: Int[np.ndarray, '2 lid_rings lid_points']
  mouth_loops: Int[np.ndarray, 'mouth_rings mouth_points']
  nostril_loops: Int[np.ndarray, '2 nostril_rings nostril_points']
  ear_loops: Int[np.ndarray, '2 ear_rings ear_points']

  @property
  def skin(self) -> Bool[np.ndarray, ' v']:
    """Which vertices belong to the skin (mouth cavity included)."""
    return self.component == 0
