"""What the paper reports (arXiv 2606.15659), as data: every table of results stands beside it.

A row is comparable with a run of ours only where clips, source frames, resolution, background and
networks are the same; the paper does not print all of them.
"""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class PublishedTable:
  """One of the paper's tables, or half of one.

  Attributes:
    title: what was measured.
    protocol: of `sa0_jax.evaluate.run.PROTOCOLS`, by which we measure the same.
    clips: how many there are; None where the paper does not say.
    columns: its columns, in its order, as (its heading, our metric, factor from ours to its unit).
    rows: numbers by method, in that order; the last is the paper's own.
  """

  title: str
  protocol: str
  clips: int | None
  columns: tuple[tuple[str, str, float], ...]
  rows: Mapping[str, tuple[float, ...]]


_IMAGE = (('PSNR', 'psnr', 1.0), ('SSIM', 'ssim_rgb', 1.0), ('LPIPS', 'lpips_alex', 1.0))
_FACE = (('CSIM', 'csim', 1.0), ('AED', 'aed', 1.0), ('APD', 'apd', 1.0))
_SELF = (*_IMAGE, *_FACE, ('AKD', 'akd', 1.0))

PUBLISHED: dict[str, PublishedTable] = {
  'vfhq-self': PublishedTable(
    'VFHQ, zero-shot, self-reenactment',
    'self',
    50,
    _SELF,
    {
      'GAGAvatar': (21.83, 0.818, 0.122, 0.816, 0.111, 0.135, 3.349),
      'Portrait4D-v2': (21.34, 0.791, 0.144, 0.803, 0.117, 0.187, 3.749),
      'GPAvatar': (21.04, 0.807, 0.150, 0.772, 0.132, 0.189, 4.226),
      'SpatialAvatar-0': (23.34, 0.875, 0.077, 0.916, 0.091, 0.061, 2.181),
    },
  ),
  'vfhq-cross': PublishedTable(
    'VFHQ, zero-shot, cross-reenactment',
    'cross',
    50,
    _FACE,
    {
      'GAGAvatar': (0.633, 0.253, 0.247),
      'Portrait4D-v2': (0.656, 0.268, 0.273),
      'GPAvatar': (0.564, 0.255, 0.328),
      'SpatialAvatar-0': (0.675, 0.245, 0.210),
    },
  ),
  'hdtf-self': PublishedTable(
    'HDTF, zero-shot, self-reenactment',
    'self',
    19,
    _SELF,
    {
      'GAGAvatar': (23.13, 0.863, 0.103, 0.862, 0.110, 0.111, 2.985),
      'SpatialAvatar-0': (24.67, 0.916, 0.076, 0.871, 0.103, 0.078, 2.326),
    },
  ),
  'hdtf-cross': PublishedTable(
    'HDTF, zero-shot, cross-reenactment',
    'cross',
    19,
    _FACE,
    {'GAGAvatar': (0.851, 0.231, 0.181), 'SpatialAvatar-0': (0.905, 0.224, 0.147)},
  ),
  'splattingavatar': PublishedTable(
    'SplattingAvatar set, per subject, the last 350 frames',
    'per-subject',
    None,
    (
      ('MSE ×1e-3', 'mse', 1e3),
      ('PSNR', 'psnr', 1.0),
      ('SSIM', 'ssim_rgb', 1.0),
      ('LPIPS ×1e-1', 'lpips_alex', 10.0),
    ),
    {
      'GAGAvatar one-shot': (4.425, 23.541, 0.875, 1.121),
      'INSTA': (1.555, 28.083, 0.938, 0.678),
      '3DGS': (1.761, 27.543, 0.923, 1.019),
      'SplattingAvatar': (2.929, 25.333, 0.933, 0.588),
      'MonoGaussianAvatar': (1.314, 28.813, 0.937, 0.733),
      'FlashAvatar': (1.173, 29.306, 0.943, 0.444),
      'GaussianAvatars': (1.223, 29.124, 0.938, 0.494),
      'GeoAvatar': (0.545, 32.635, 0.965, 0.367),
      'SpatialAvatar-0': (0.402, 33.960, 0.971, 0.355),
    },
  ),
}

# The paper's ablations on a held-out slice of CelebV-HQ, PSNR in dB, by our names of the rows.
# Those of `REFINED` are measured after refinement.
ABLATIONS: dict[str, float] = {
  'A': 24.84,
  'B': 22.73,
  'C': 24.94,
  'D': 29.95,
  'E': 28.36,
  'F': 28.72,
  'G': 29.46,
  'no_freeze': 27.88,
  'no_clamp': 28.39,
  'no_penalty': 28.92,
  'backbone_s': 24.48,
  'backbone_b': 24.94,
  'backbone_l': 25.02,
  'linear': 24.94,
  'cosine': 24.81,
  'constant': 24.51,
  'rate_1e-4': 24.71,
  'rate_2.5e-4': 24.92,
  'rate_5e-4': 24.42,
  'layer_decay_0.5': 24.84,
  'layer_decay_0.65': 24.96,
  'layer_decay_0.8': 24.80,
  'jacobian_0': 24.30,
  'jacobian_0.1': 24.93,
  'jacobian_1': 24.46,
  'anchor_0_0': 22.73,
  'anchor_1e-3_0': 24.11,
  'anchor_0_25': 23.81,
  'anchor_1e-3_25': 24.94,
  'anchor_1e-2_25': 24.37,
  'anchor_1e-4_25': 24.52,
}
REFINED = frozenset({'D', 'E', 'F', 'G', 'no_freeze', 'no_clamp', 'no_penalty'})
# One training, evaluated with 1, 2, 3 and 4 sources.
NUM_SOURCES: dict[int, float] = {1: 23.01, 2: 24.21, 3: 24.75, 4: 24.94}
