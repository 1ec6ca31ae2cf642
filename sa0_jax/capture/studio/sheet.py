"""Contact sheets of the studio: many people in a few moments, or one person's performance.

  python -m sa0_jax.capture.studio.sheet --out docs/images/studio.png
  python -m sa0_jax.capture.studio.sheet --varied --rows 3 --out docs/images/studio_varied.jpg
  python -m sa0_jax.capture.studio.sheet --strip --seed 3 --out docs/images/studio_strip.png

Needs numba (extra `sa0-jax[cpu]`).
"""

import argparse
import os
import sys
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from sa0_jax.capture import image_files
from sa0_jax.capture.studio.cameras import make_cameras
from sa0_jax.capture.studio.config import StudioConfig
from sa0_jax.capture.studio.figure import build_figure
from sa0_jax.capture.studio.filming import (
  develop,
  exposure_for,
  film,
  paint_backdrops,
  sample_session,
)
from sa0_jax.capture.studio.posing import pose_figures
from sa0_jax.capture.studio.sets import varied
from sa0_jax.capture.studio.shading import light_figure, render
from sa0_jax.capture.studio.texture import TextureSize
from sa0_jax.head.model import HeadCodes, HeadModel
from sa0_jax.head.procedural import load_procedural_head, load_procedural_semantics

Image = UInt8[np.ndarray, 'h w 3']

# Neutral, speaking, turned with a smile, blinking: expression by name (both sides where the name
# has sides), jaw in radians, yaw of the neck in radians.
MOMENTS: tuple[tuple[dict[str, float], float, float], ...] = (
  ({'eyeBlink': 0.10}, 0.0, 0.0),
  ({'eyeBlink': 0.10, 'mouthLowerDown': 0.25, 'mouthUpperUp': 0.22, 'browInnerUp': 0.3}, 0.17, 0.2),
  ({'eyeBlink': 0.10, 'mouthSmile': 0.65, 'cheekSquint': 0.5, 'mouthUpperUp': 0.2}, 0.04, -0.55),
  ({'eyeBlink': 1.0}, 0.01, -0.1),
)


def people_sheet(configs: Sequence[StudioConfig], moments: Sequence[int] = range(4)) -> Image:
  """One column a person, one row a moment.

  Args:
    configs: sessions whose subject, light, background and camera are shown, all of one resolution.
    moments: rows of `MOMENTS`.
  """
  head = load_procedural_head()
  return np.concatenate([_person(head, config, moments) for config in configs], axis=1)


def _person(head: HeadModel, config: StudioConfig, moments: Sequence[int]) -> Image:
  session, tile = sample_session(config), config.resolution
  figure = build_figure(
    session.subject, head, load_procedural_semantics(), TextureSize.for_images(tile)
  )
  camera = make_cameras(session.cameras, tile)
  [backdrop] = paint_backdrops(session, camera)
  exposure = exposure_for(session.subject.look)
  pictures = []
  side = 1.0 if config.seed % 2 else -1.0
  codes = _moments(head, session.subject.shape, side)
  for row, pose in enumerate(pose_figures(head, codes)):
    if row not in moments:
      continue
    lit = light_figure(figure, pose, session.light, exposure)
    single = type(camera)(
      np.asarray(camera.world_to_camera)[0], np.asarray(camera.intrinsics)[0], tile, tile
    )
    linear, matte = render(figure, lit, single, backdrop, 3)
    pictures.append(develop(session.sensor, linear, matte, row)[0])
  return np.concatenate(pictures, axis=0)


def _moments(head: HeadModel, shape: np.ndarray, side: float) -> HeadCodes:
  count = len(MOMENTS)
  expression = np.zeros((count, head.num_expression), np.float32)
  neck, jaw = np.zeros((count, 3), np.float32), np.zeros((count, 3), np.float32)
  for row, (named, opening, yaw) in enumerate(MOMENTS):
    for name, value in named.items():
      sides = [name] if name in head.expression_names else [name + 'Left', name + 'Right']
      for direction in sides:
        expression[row, head.expression_names.index(direction)] = value
    jaw[row, 0], neck[row, 1] = opening, side * yaw
  zero = np.zeros((count, 3), np.float32)
  return HeadCodes(shape, expression, zero, neck, jaw, np.zeros((count, 6), np.float32), zero)


def performance_strip(seed: int, tile: int, columns: int, rows: int) -> Image:
  """Consecutive moments of one performance, ten a second, in reading order.

  Args:
    seed: which session.
    tile: side of a picture, px.
    columns: pictures in a row.
    rows: rows of pictures.
  """
  config = StudioConfig(seed=seed, frames=columns * rows, resolution=tile, fps=10.0)
  capture = film(config)
  pictures = [frame.pixels.image for frame in capture.frames]
  lines = [np.concatenate(pictures[i * columns : (i + 1) * columns], axis=1) for i in range(rows)]
  return np.concatenate(lines, axis=0)


def main(arguments: Sequence[str] | None = None) -> int:
  """Writes a sheet; see the module's own description."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--out', required=True, help='png to write')
  parser.add_argument('--strip', action='store_true', help='one performance instead of many people')
  parser.add_argument('--seed', type=int, default=0, help='first person, or the performer')
  parser.add_argument('--people', type=int, default=12)
  parser.add_argument(
    '--varied', action='store_true', help='as in data sets: beards, glasses, backgrounds, noise'
  )
  parser.add_argument('--rows', type=int, default=1, help='rows of varied people, one moment each')
  parser.add_argument('--tile', type=int, default=168, help='side of a picture, px')
  options = parser.parse_args(arguments)
  os.makedirs(os.path.dirname(os.path.abspath(options.out)), exist_ok=True)
  if options.strip:
    sheet = performance_strip(options.seed, options.tile, 8, 4)
  elif options.varied:
    seeds = np.arange(options.rows * options.people).reshape(options.rows, -1) + options.seed
    rows = [
      people_sheet([varied(seed=int(seed), resolution=options.tile) for seed in line], [row % 3])
      for row, line in enumerate(seeds)
    ]
    sheet = np.concatenate(rows, axis=0)
  else:
    seeds = np.arange(options.people) + options.seed
    sheet = people_sheet([StudioConfig(seed=int(seed), resolution=options.tile) for seed in seeds])
  image_files.write(options.out, sheet)
  print(options.out)
  return 0


if __name__ == '__main__':
  sys.exit(main())
