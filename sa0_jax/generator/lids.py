"""Upper lids: skin that open eyes fold away, and that a portrait therefore does not show.

What little shows of them is lashes and the shadow of the fold. Stretched over a lid when it closes
it made black pits of the eyes of real people, who have more of both than synthetic ones. While an
eye is open its lid counts as unseen, and takes the colours of the skin around it.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from sa0_kernels import pytree

from sa0_jax.head.model import HeadModel
from sa0_jax.head.uv_layout import UVLayout

_CLOSES = ('eyeBlinkLeft', 'eyeBlinkRight')  # ARKit's names
_MOVES = 0.002  # metres that a closing eye moves its lid by; brow and cheek move less
_OPEN = 0.5  # share of the template's opening from which on a lid is folded away


@pytree.register
@dataclasses.dataclass(frozen=True)
class Lids:
  """Where the upper lids are.

  Attributes:
    eye: [n] whose lid a texel is: 0 and 1 for the subject's left and right eye, 2 for none.
    upper, lower: [2] vertices in the middle of each eye's margins, which meet when it closes.
    opening: [2] metres between them in the template.
  """

  eye: Int[Array, ' n']
  upper: Int[Array, ' 2']
  lower: Int[Array, ' 2']
  opening: Float[Array, ' 2']

  @classmethod
  def from_head(cls, head: HeadModel, layout: UVLayout) -> 'Lids | None':
    """Finds the lids; None where the head has no directions that close its eyes, such as FLAME."""
    names = list(head.expression_names)
    if not set(_CLOSES) <= set(names):
      return None
    template = np.asarray(head.v_template, np.float64)
    rows = np.asarray(head.arrays.motion_basis)[[names.index(name) for name in _CLOSES]]
    moved = rows.reshape(2, 3, -1).swapaxes(1, 2)
    distance = np.linalg.norm(moved, axis=-1)
    upper = distance.argmax(axis=1)
    lower = []
    for side, margin in enumerate(upper):
      away = np.linalg.norm(template - (template[margin] + moved[side, margin]), axis=-1)
      lower.append(int(np.where(distance[side] < _MOVES, away, np.inf).argmin()))
    corners = np.asarray(head.faces)[np.asarray(layout.face)]
    at_texels = np.sum(distance[:, corners] * np.asarray(layout.barycentric), axis=-1)
    eye = np.where(at_texels.max(axis=0) > _MOVES, at_texels.argmax(axis=0), 2)
    with jax.ensure_compile_time_eval():
      return cls(
        jnp.asarray(eye, jnp.int32),
        jnp.asarray(upper, jnp.int32),
        jnp.asarray(lower, jnp.int32),
        jnp.asarray(np.linalg.norm(template[upper] - template[lower], axis=-1), jnp.float32),
      )


def folded_away(lids: Lids, vertices: Float[Array, '*batch v 3']) -> Bool[Array, '*batch n']:
  """Which texels are of the lid of an open eye; no gradients.

  Args:
    lids: of the texels.
    vertices: posed meshes, metres.
  """
  margins = vertices[..., lids.upper, :] - vertices[..., lids.lower, :]
  margins = jax.lax.stop_gradient(margins)
  is_open = jnp.sum(margins**2, axis=-1) > (_OPEN * lids.opening) ** 2
  return jnp.take(is_open, lids.eye, axis=-1, mode='fill', fill_value=False)
