"""A run to look at: sources, target, render, error and UV maps of some people, a row each."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from sa0_jax.avatar.activations import activate_color, activate_opacity
from sa0_jax.capture.image_files import resize
from sa0_jax.head.uv_layout import UVLayout
from sa0_jax.metrics.error_map import ERROR_GAIN, error_map
from sa0_jax.train.objective import Batch, Prediction

# Mid-grey is 0, black and white are these and beyond. Fixed, so that pictures of two steps compare.
POSITION_RANGE = 2.0  # triangle units
LOG_SCALE_RANGE = 2.0  # e² = 7.4 times larger or smaller than the texel
RESIDUAL_RANGE = 1.0  # triangle units, log-scale and colour logits alike; white
_ABSENT = 40  # grey of sources that are padding
_OUTSIDE = 0.1  # grey of texels without a Gaussian
_GAP = 2  # px
_HEADER = 14  # px
_LABEL_SCALE = 0.34


class Pictures(NamedTuple):
  """Pictures of b people as bytes, RGB, on the device.

  UV maps have the top of the texture in row 0; texels without a Gaussian are dark grey.

  Attributes:
    sources: [b, k, s, s, 3]; dark grey where there is none.
    target: [b, h, w, 3].
    render: [b, h, w, 3].
    color: [b, r, r, 3] the Gaussians' colours.
    position: [b, r, r, 3] offsets from the mesh: red is the triangle's x, green y, blue z; mid-grey
      is none, black and white ± `POSITION_RANGE`.
    log_scale: [b, r, r, 3] of the three axes, against the texel's size: mid-grey is the same,
      black and white ± `LOG_SCALE_RANGE`.
    opacity: [b, r, r, 3] black is transparent.
    residual: [b, r, r, 3] length of what depends on the target frame's codes: red that of
      positions, green of log-scales, blue of colours; full at `RESIDUAL_RANGE`.
  """

  sources: UInt8[Array, 'b k s s 3']
  target: UInt8[Array, 'b h w 3']
  render: UInt8[Array, 'b h w 3']
  color: UInt8[Array, 'b r r 3']
  position: UInt8[Array, 'b r r 3']
  log_scale: UInt8[Array, 'b r r 3']
  opacity: UInt8[Array, 'b r r 3']
  residual: UInt8[Array, 'b r r 3']


def to_images(batch: Batch, prediction: Prediction, layout: UVLayout) -> Pictures:
  """What a batch and its prediction look like; for compiled code.

  All results are a person's own, so this may run inside `parallel.over_batch`, where the rasterizer
  must be. A batch of a few people is enough: `jax.tree.map(lambda leaf: leaf[:4], batch)`.

  Args:
    batch: sources and targets.
    prediction: from `objective.predict`.
    layout: `rig.uv.layout`.
  """

  def uv(values: Float[Array, 'b n c']) -> UInt8[Array, 'b r r 3']:
    image = layout.to_image(values.astype(jnp.float32), _OUTSIDE)
    return _bytes(jnp.broadcast_to(image, (*image.shape[:-1], 3)))

  def length(values: Float[Array, 'b n c']) -> Float[Array, 'b n']:
    return jnp.sqrt(jnp.sum(values * values, axis=-1)) / RESIDUAL_RANGE

  decoded, residual = prediction.decoded, prediction.decoded.residual
  there = batch.sources.mask[:, :, None, None, None]
  return Pictures(
    sources=jnp.where(there, _bytes(batch.sources.image), jnp.uint8(_ABSENT)),
    target=_bytes(batch.targets.image),
    render=_bytes(prediction.output.features[..., :3]),
    color=uv(activate_color(decoded.gaussians.color_logit)),
    position=uv(0.5 + 0.5 * decoded.maps.position / POSITION_RANGE),
    log_scale=uv(0.5 + 0.5 * decoded.maps.log_scale / LOG_SCALE_RANGE),
    opacity=uv(activate_opacity(decoded.gaussians.opacity_logit)[..., None]),
    residual=uv(
      jnp.stack(
        [length(residual.position), length(residual.log_scale), length(residual.color_logit)],
        axis=-1,
      )
    ),
  )


def _bytes(image: Float[Array, '*shape']) -> UInt8[Array, '*shape']:
  """[0, 1] to bytes; what is not finite becomes black."""
  clipped = jnp.clip(jnp.nan_to_num(image, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)
  return jnp.round(255.0 * clipped).astype(jnp.uint8)


def compose(
  pictures: Pictures, side: int = 128, people: int = 4, labels: bool = True
) -> UInt8[np.ndarray, 'height width 3']:
  """One picture of it all: a row a person, a column for each kind.

  Args:
    pictures: from `to_images`; fetched from the device here.
    side: of a tile, px.
    people: at most so many rows.
    labels: write above the columns what they are.

  Raises:
    ValueError: no side or no people.
  """
  if side < 1 or people < 1:
    raise ValueError(f'compose: side and people must be positive, got {side} and {people}')
  host = jax.tree.map(np.asarray, pictures)
  columns = _columns(host)
  rows = [
    _join([_tile(column[person], side) for column in columns.values()], axis=1)
    for person in range(min(people, len(host.target)))
  ]
  if labels:
    rows.insert(0, _header(list(columns), side, rows[0].shape[1]))
  return _join(rows, axis=0)


def _columns(host: Any) -> dict[str, np.ndarray]:
  """Stacks of a `Pictures` on the host by label, from left to right."""
  sources = {f'source {i + 1}': host.sources[:, i] for i in range(host.sources.shape[1])}
  return sources | {
    'target': host.target,
    'render': host.render,
    f'error x{ERROR_GAIN:.0f}': error_map(host.render, host.target),
    'colour': host.color,
    f'offset +-{POSITION_RANGE:.0f}': host.position,
    f'ln scale +-{LOG_SCALE_RANGE:.0f}': host.log_scale,
    'opacity': host.opacity,
    f'residual <{RESIDUAL_RANGE:.0f}': host.residual,
  }


def _tile(pixels: np.ndarray, side: int) -> np.ndarray:
  """A picture in a square: its longer side fits, the rest is black."""
  height, width = pixels.shape[:2]
  scale = side / max(height, width)
  size = max(round(width * scale), 1), max(round(height * scale), 1)
  tile = np.zeros((side, side, 3), np.uint8)
  tile[: size[1], : size[0]] = pixels if size == (width, height) else resize(pixels, size)
  return tile


def _join(parts: Sequence[np.ndarray], axis: int) -> np.ndarray:
  """Side by side with thin black gaps."""
  shape = list(parts[0].shape)
  shape[axis] = _GAP
  gap = np.zeros(shape, np.uint8)
  spaced = [piece for part in parts for piece in (part, gap)]
  return np.concatenate(spaced[:-1], axis)


def _header(labels: Sequence[str], side: int, width: int) -> np.ndarray:
  """The columns' names."""
  import cv2

  header = np.zeros((_HEADER, width, 3), np.uint8)
  for place, label in enumerate(labels):
    left = place * (side + _GAP)
    tile = header[:, left : left + side].copy()  # longer words are cut off at their tile
    cv2.putText(
      tile, label, (2, _HEADER - 4), cv2.FONT_HERSHEY_SIMPLEX, _LABEL_SCALE, (220, 220, 220), 1,
      cv2.LINE_AA,
    )  # fmt: skip
    header[:, left : left + side] = tile
  return header
