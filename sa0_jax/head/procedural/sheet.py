"""Contact sheets of the procedural head: people and expressions, or its anatomy.

  python -m sa0_jax.head.procedural.sheet --out docs/images/procedural_head.png
  python -m sa0_jax.head.procedural.sheet --anatomy --out docs/images/procedural_head_anatomy.png

Needs numba (extra `sa0-jax[cpu]`).
"""

import argparse
import dataclasses
import os
import pathlib
import sys

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sa0_jax import mesh_render
from sa0_jax.head.lbs import pose_head
from sa0_jax.head.model import HeadCodes, HeadModel
from sa0_jax.head.procedural import load_procedural_head, load_procedural_semantics
from sa0_jax.head.procedural.anatomy import Number, Vector, to_metres
from sa0_jax.head.procedural.identity import sample_identity
from sa0_jax.head.procedural.paint import Look, PaintFields, paint

Image = Float[np.ndarray, 'h w 3']

CAMERA_DISTANCE = 1.1  # metres
CLAY = (0.78, 0.72, 0.68)
BOUNCE = 0.05
# The twelve people of the sheet.
SEEDS = (1, 0, 3, 13, 14, 16, 9, 2, 4, 24, 11, 7)


@dataclasses.dataclass(frozen=True)
class Pose:
  """One row of the sheet.

  Attributes:
    expression: coefficients by name; names without side move both sides.
    jaw: opening in radians.
    yaw: from where it is seen, degrees; positive shows the subject's left.
    eyes: rotation of both eyes about x and y, radians.
  """

  expression: dict[str, Number]
  jaw: Number = 0.0
  yaw: Number = 0.0
  eyes: tuple[Number, Number] = (0.0, 0.0)


POSES = (
  Pose({}),
  Pose(
    {'mouthSmile': 0.9, 'cheekSquint': 0.6, 'mouthUpperUp': 0.4, 'mouthLowerDown': 0.25},
    jaw=0.06,
    yaw=-28,
  ),
  Pose(
    {'browInnerUp': 0.9, 'browOuterUp': 0.8, 'eyeWide': 0.9, 'mouthFunnel': 0.15}, jaw=0.30, yaw=12
  ),
  Pose({'mouthPucker': 0.9, 'browInnerUp': 0.3, 'eyeSquint': 0.2}, yaw=38),
  Pose(
    {'browDown': 1.0, 'noseSneer': 0.5, 'mouthFrown': 0.7, 'mouthPress': 0.4, 'eyeSquint': 0.35},
    yaw=-8,
  ),
  Pose(
    {'eyeBlinkLeft': 1.0, 'mouthSmileLeft': 0.8, 'cheekSquintLeft': 0.8, 'jawLeft': 0.3}, yaw=-62
  ),
)


@dataclasses.dataclass(frozen=True)
class View:
  """How a head is looked at.

  Attributes:
    yaw: degrees; positive shows the subject's left.
    target: authored millimetres in the middle of the picture.
    span: height of the picture at the target, millimetres.
    size: width and height in pixels.
  """

  yaw: Number = 0.0
  target: Vector = (0, -24, 10)
  span: Number = 268.0
  size: tuple[int, int] = (124, 152)


def posed(head: HeadModel, pose: Pose, shape: Float[np.ndarray, ' s'] | None = None) -> np.ndarray:
  """Vertices [v, 3] in metres.

  Raises:
    ValueError: the head has no expression of a given name.
  """
  code = np.zeros(head.num_expression, np.float32)
  for name, value in pose.expression.items():
    sides = [name] if name in head.expression_names else [name + 'Left', name + 'Right']
    for side in sides:
      if side not in head.expression_names:
        raise ValueError(f'posed: head {head.name!r} has no expression {name!r}')
      code[head.expression_names.index(side)] = value
  codes = HeadCodes.neutral(head)
  if shape is not None:
    codes = dataclasses.replace(codes, shape=jnp.asarray(shape))
  codes = dataclasses.replace(
    codes,
    expression=jnp.asarray(code),
    jaw=jnp.asarray([pose.jaw, 0, 0], jnp.float32),
    eyes=jnp.asarray([*pose.eyes, 0.0, *pose.eyes, 0.0], jnp.float32),
  )
  return np.asarray(pose_head(head, codes))


class Photographer:
  """Renders the procedural head in soft studio light."""

  def __init__(self, head: HeadModel) -> None:
    self.head = head
    self.fields = PaintFields.of_vertices(load_procedural_semantics()).stacked()
    self.lights = mesh_render.studio_lights()

  def lit(self, vertices: Float[np.ndarray, 'v 3']) -> Float[np.ndarray, 'v 6']:
    """Normals and arriving light of the vertices: the slow part, shared by all views."""
    faces = self.head.faces
    visible = mesh_render.vertex_visibility(vertices, faces, self.lights.directions)
    normals = mesh_render.vertex_normals(vertices, faces)
    light = mesh_render.irradiance(normals, visible, self.lights)
    # Light that bounces between surfaces keeps the mouth from turning black.
    return np.concatenate([normals, light + BOUNCE], axis=1)

  def picture(
    self,
    vertices: Float[np.ndarray, 'v 3'],
    lit: Float[np.ndarray, 'v 6'],
    look: Look | None,
    view: View,
  ) -> Image:
    """One picture, sRGB in [0, 1]; unpainted clay without a look."""
    camera = mesh_render.look_at_camera(
      to_metres(np.array(view.target, np.float64)),
      distance=CAMERA_DISTANCE,
      yaw=float(np.radians(view.yaw)),
      pitch=0.0,
      focal=CAMERA_DISTANCE / (view.span * 1e-3),
      size=view.size,
    )
    large = mesh_render.supersampled(camera, 2)
    buffers = mesh_render.rasterize_mesh(vertices, self.head.faces, large)
    values = mesh_render.interpolate(
      buffers, self.head.faces, np.concatenate([lit, self.fields], axis=1)
    )
    hit = buffers.face >= 0
    albedo = np.zeros((*hit.shape, 3))
    gloss = np.zeros((*hit.shape, 1))
    if look is None:
      albedo[hit], gloss[hit] = CLAY, 0.2
    else:
      albedo[hit], gloss[hit, 0] = paint(PaintFields.from_stacked(values[hit][:, 6:]), look)
    shaded = mesh_render.shade(buffers, albedo, values[..., :3], values[..., 3:6], gloss, large)
    return mesh_render.box_filter(shaded, 2)


def people_sheet(head: HeadModel) -> Image:
  """Twelve identities in columns, six expressions in rows."""
  photographer = Photographer(head)
  columns = []
  for seed in SEEDS:
    person = sample_identity(head, seed)
    column = []
    for pose in POSES:
      vertices = posed(head, pose, person.shape)
      lit = photographer.lit(vertices)
      column.append(photographer.picture(vertices, lit, person.look, View(yaw=pose.yaw)))
    columns.append(np.concatenate(column, axis=0))
  return np.concatenate(columns, axis=1)


def anatomy_sheet(head: HeadModel) -> Image:
  """The average head from four sides, painted and in clay, and its mouth and eyes."""
  photographer = Photographer(head)
  rest = posed(head, Pose({}))
  lit = photographer.lit(rest)
  size = (300, 340)
  rows = [
    np.concatenate(
      [
        photographer.picture(rest, lit, look, View(yaw=yaw, size=size, span=300))
        for yaw in (0, 35, 90, 180)
      ],
      axis=1,
    )
    for look in (Look(), None)
  ]
  close = []
  for pose, target, span, yaw in (
    (Pose({}), (31, 3, 75), 62, 20),
    (Pose({'eyeBlink': 0.55}), (31, 3, 75), 62, 20),
    (Pose({}, jaw=0.34), (0, -78, 85), 110, 25),
    (Pose({}), (72, -20, -12), 92, 75),
  ):
    vertices = posed(head, pose)
    view = View(yaw=yaw, target=target, span=span, size=size)
    close.append(photographer.picture(vertices, photographer.lit(vertices), Look(), view))
  return np.concatenate([*rows, np.concatenate(close, axis=1)], axis=0)


def write_png(path: pathlib.Path, image: Image) -> None:
  """Writes an 8-bit PNG, whole or not at all."""
  import cv2

  pixels = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)[..., ::-1]
  encoded, data = cv2.imencode('.png', pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
  if not encoded:
    raise ValueError(f'{path}: the image of shape {image.shape} could not be encoded')
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(path.name + '.partial')
  partial.write_bytes(data.tobytes())
  os.replace(partial, path)


def main(arguments: list[str] | None = None) -> int:
  """Renders one sheet; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--anatomy', action='store_true', help='the average head instead of people')
  options = parser.parse_args(arguments)
  head = load_procedural_head()
  write_png(options.out, anatomy_sheet(head) if options.anatomy else people_sheet(head))
  print(f'{options.out}: {options.out.stat().st_size / 2**20:.2f} MiB')
  return 0


if __name__ == '__main__':
  sys.exit(main())
