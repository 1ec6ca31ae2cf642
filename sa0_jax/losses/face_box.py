"""L1 inside the face box (SpatialAvatar-0, Stage 1)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

# The tracker crops with the same factor, and the paper names it for this loss.
DILATION = 1.65


def dilate_box(
  box: Float[Array, '*batch 4'],
  factor: float = DILATION,
  size: tuple[int, int] | None = None,
) -> Float[Array, '*batch 4']:
  """Grows boxes about their centres.

  Args:
    box: [*batch, 4] left, top, right, bottom, px; the image's corner is (0, 0).
    factor: on width and height.
    size: (width, height) of the image, to cut the result off at its border; None leaves it.
  """
  if not factor > 0:
    raise ValueError(f'dilate_box: factor must be positive, got {factor}')
  low, high = box[..., :2], box[..., 2:]
  centre, half = 0.5 * (low + high), 0.5 * factor * (high - low)
  grown = jnp.concatenate([centre - half, centre + half], -1)
  if size is None:
    return grown
  return jnp.clip(grown, 0.0, jnp.asarray([*size, *size], grown.dtype))


def face_box_l1(
  image: Float[Array, '*batch h w c'],
  target: Float[Array, '*batch h w c'],
  box: Float[Array, '*batch 4'],
) -> Float[Array, '']:
  """Absolute error summed inside each image's box over the box's area, averaged over the batch.

  The area is the number of pixels whose centres (at +0.5) lie inside, and channels are averaged, so
  that a box over the whole image gives the mean absolute error. What lies outside has no influence,
  not even as NaN. A box with no pixel inside, one turned inside out included, contributes 0.

  Args:
    image, target: [*batch, h, w, c].
    box: [*batch, 4] left, top, right, bottom, px; already dilated. A constant to differentiation.
  """
  height, width = image.shape[-3:-1]
  x, y = (jnp.arange(n, dtype=box.dtype) + 0.5 for n in (width, height))
  left, top, right, bottom = (box[..., k, None] for k in range(4))
  columns, rows = (left <= x) & (x < right), (top <= y) & (y < bottom)
  inside = rows[..., :, None] & columns[..., None, :]
  area = jnp.sum(inside, axis=(-2, -1)).astype(image.dtype)
  # Chosen before the difference: a NaN outside would come back through its gradient.
  image, target = (jnp.where(inside[..., None], value, 0.0) for value in (image, target))
  error = jnp.sum(jnp.mean(jnp.abs(image - target), axis=-1), axis=(-2, -1))
  return jnp.mean(error / jnp.maximum(area, 1.0))
