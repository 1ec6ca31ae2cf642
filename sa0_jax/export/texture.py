"""A texture image of an avatar: its Gaussians' colours on the UV unwrap."""

import numpy as np
from jaxtyping import Bool, Float

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.avatar.gaussians import local_attributes

# Gaussians fainter than this are not seen, and their colour is whatever it was left at.
_FAINTEST = 0.05


def bake_texture(avatar: Avatar) -> Float[np.ndarray, 'r r 3']:
  """Colours on the avatar's UV layout, RGB in [0, 1]; row 0 is the top, v = 1.

  A texel's colour is the mean of the Gaussians of the 3 × 3 texels around it, weighted by their
  opacity and the binomial filter: a Gaussian reaches about a texel. Texels of Gaussians that are
  not seen, and those outside the unwrap, are filled from their neighbours by dilation. The light of
  the capture is in the colours.
  """
  local = local_attributes(avatar.gaussians)
  opacity = np.asarray(local.opacities, np.float64)
  opacity = np.where(opacity < _FAINTEST, 0.0, opacity)
  colors = np.asarray(local.colors, np.float64)[:, :3]
  size, texel = avatar.layout.resolution, np.asarray(avatar.layout.texel)
  sums = np.zeros((size, size, 4))
  sums[texel[:, 0], texel[:, 1]] = np.concatenate([colors, np.ones((len(colors), 1))], axis=1)
  sums[texel[:, 0], texel[:, 1]] *= opacity[:, None]
  blurred = _binomial(_binomial(sums).swapaxes(0, 1)).swapaxes(0, 1)
  # A neighbour colours a texel only where the texel has a Gaussian of its own: charts stay apart.
  known = sums[..., 3] > 0
  image = blurred[..., :3] / np.maximum(blurred[..., 3:], 1e-12)
  return dilated(np.where(known[..., None], image, 0.0), known)


def dilated(
  image: Float[np.ndarray, 'h w c'], known: Bool[np.ndarray, 'h w']
) -> Float[np.ndarray, 'h w c']:
  """Fills unknown pixels with the mean of known neighbours, ring by ring.

  Args:
    image: any image.
    known: which of its pixels count; the others are replaced. Where none is known, all stay.
  """
  image, known = image.copy(), known.copy()
  while known.any() and not known.all():
    padded = np.pad(
      np.concatenate([image * known[..., None], known[..., None]], 2), [(1, 1)] * 2 + [(0, 0)]
    )
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    total = windows.sum(axis=(-2, -1))
    ring = ~known & (total[..., -1] > 0)
    image[ring] = total[ring][:, :-1] / total[ring][:, -1:]
    known |= ring
  return image


def _binomial(image: np.ndarray) -> np.ndarray:
  """(1 2 1) / 4 along the first axis."""
  padded = np.pad(image, [(1, 1), (0, 0), (0, 0)])
  return 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
