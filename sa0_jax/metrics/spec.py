"""Which number a number is: nothing is reported without its variant, resolution and background."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Metric:
  """A kind of number.

  Attributes:
    name: short, as in files and tables.
    variant: how it is computed, in words.
    unit: of the number; '' for none.
    higher_is_better: which way is better.
    digits: after the point, in tables.
  """

  name: str
  variant: str
  unit: str = ''
  higher_is_better: bool = True
  digits: int = 3


@dataclasses.dataclass(frozen=True)
class MetricSpec:
  """A metric as it was measured.

  Attributes:
    metric: the kind.
    resolution: side of the compared images, px.
    background: colour behind the heads, RGB in [0, 1]; it alone changes PSNR.
    source: what else it rests on, such as the weights files' hashes; '' for nothing.
  """

  metric: Metric
  resolution: int
  background: tuple[float, float, float]
  source: str = ''

  def to_json(self) -> dict[str, object]:
    """As JSON has it."""
    own = dataclasses.asdict(self.metric)
    return {
      **own,
      'resolution': self.resolution,
      'background': list(self.background),
      'source': self.source,
    }


def _error(name: str, variant: str, unit: str = '', digits: int = 3) -> Metric:
  return Metric(name, variant, unit, higher_is_better=False, digits=digits)


_ALL = (
  Metric('psnr', "mean of the frames' PSNR, whole image, values in [0, 1]", 'dB', digits=2),
  Metric('psnr_inside_matte', 'PSNR of the pixels inside the matte (> 0.5)', 'dB', digits=2),
  _error('mse', 'mean squared error, whole image, values in [0, 1]', digits=6),
  Metric('ssim_rgb', 'SSIM 11 × 11, σ 1.5, channels averaged, inside the border'),
  Metric('ssim_gray', 'SSIM 11 × 11, σ 1.5, of BT.601 luminance, inside the border'),
  Metric('ssim_padded', 'SSIM 11 × 11, σ 1.5, channels averaged, zeros around (3DGS)'),
  Metric('ms_ssim', 'MS-SSIM of five scales (Wang et al. 2003), images halved, inside the border'),
  _error('lpips_alex', 'LPIPS 0.1, AlexNet'),
  _error('lpips_vgg', 'LPIPS 0.1, VGG16'),
  Metric('csim', 'cosine of embeddings of the identity network given'),
  _error('aed', 'mean |Δ| of 64 expression coefficients of the network given'),
  _error('apd', 'mean |Δ| of 3 pose angles of the network given', 'rad'),
  _error('akd', 'mean distance of 68 landmarks of the network given', 'px at 512²'),
  _error('flame_expression_l1', 'ours: mean |Δ| of tracked FLAME-format expression codes'),
  _error('flame_pose_l1', "ours: mean |Δ| of the tracked head's angles before the camera", 'rad'),
  _error('landmark_px', 'ours: mean distance of 68 tracked points', 'px'),
)
METRICS = {metric.name: metric for metric in _ALL}
