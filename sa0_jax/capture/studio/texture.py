"""A subject's surface as a texture in the head's UV atlas."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float

from sa0_jax.capture.studio.atlas import Atlas
from sa0_jax.capture.studio.relief import relief_slope
from sa0_jax.capture.studio.skin_paint import paint
from sa0_jax.capture.studio.subject import Look
from sa0_jax.head.model import HeadModel
from sa0_jax.head.procedural import ProceduralSemantics
from sa0_jax.head.procedural.paint import PaintFields
from sa0_jax.mesh_render import box_filter


@dataclasses.dataclass(frozen=True)
class TextureSize:
  """How finely a subject is painted.

  Attributes:
    painted: texels along each side at which the noise of skin and hair is evaluated.
    reduction: factor by which the painting is then averaged down, so that texels are about as
      large as the samples of the pictures and nothing flickers.
  """

  painted: int = 1024
  reduction: int = 1

  @classmethod
  def for_images(cls, resolution: int) -> 'TextureSize':
    """What images of a side of `resolution` px need."""
    if resolution <= 128:
      return cls(512, 2)
    return cls(1024, 2) if resolution <= 320 else cls(1024, 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Texture:
  """A subject's surface in the UV atlas, row 0 at v = 1.

  Attributes:
    texels: [r, r, 7] float32: linear RGB reflectance, gloss (0 dull, 1 wet), slope of the fine
      relief in template axes (mm per mm).
  """

  texels: Float[np.ndarray, 'r r 7']


def bake_texture(
  head: HeadModel, labels: ProceduralSemantics, look: Look, size: TextureSize
) -> Texture:
  """Paints a subject.

  Args:
    head: the procedural head.
    labels: its semantics.
    look: what to paint.
    size: how finely.
  """
  atlas, fields = _canvas(head, labels, size.painted)
  slope = relief_slope(fields, look.skin.lines, look.seed)
  texels = atlas.image(np.concatenate([paint(fields, look), slope], axis=1))
  return Texture(np.ascontiguousarray(box_filter(texels, size.reduction), np.float32))


@functools.lru_cache(maxsize=1)
def _canvas(
  head: HeadModel, labels: ProceduralSemantics, painted: int
) -> tuple[Atlas, PaintFields]:
  """What the texels are, which is the same for everybody; 60 MB for 1024 texels a side."""
  atlas = Atlas.from_head(head, painted)
  columns = PaintFields.of_vertices(labels).stacked()
  fields = PaintFields.from_stacked(atlas.interpolate(head.faces, columns))
  parts = dataclasses.fields(fields)
  return atlas, PaintFields(
    **{part.name: np.ascontiguousarray(getattr(fields, part.name)) for part in parts}
  )
