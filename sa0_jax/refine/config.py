"""Everything a refinement can be told."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class LearningRates:
  """Adam step sizes per attribute family; all follow one cosine over the whole run.

  The paper does not print them; docs/refine_tuning.md has the search these come from.
  """

  position: float = 2e-2
  scale: float = 1.7e-2
  rotation: float = 1e-2
  opacity: float = 5e-2
  color: float = 2e-2
  final_fraction: float = 0.01  # of the initial rate, at the last step

  def __post_init__(self) -> None:
    if min(dataclasses.astuple(self)) < 0:
      raise ValueError(f'LearningRates: must not be negative, got {self}')


@dataclasses.dataclass(frozen=True)
class AntiSpike:
  """The three parts of the anti-spike regularisation; each can be switched off.

  Attributes:
    start: step at which log-scales begin to move, and the clamp and the penalty to act.
    freeze: keep log-scales fixed before `start`.
    clamp: after every step, bound log-scales and their spread over the three axes.
    penalty: penalise elongated projections.
    log_scale_min, log_scale_max: bounds of log-scales, in triangle units.
    spread: largest difference between the log-scales of one Gaussian's axes (e³ ≈ 20).
    threshold: log aspect ratio above which the penalty acts (e^1.8 ≈ 6). The largest ratio ends a
      quarter to a half above it; 1.8 gives the 8 that was published, 2.0 gave 9 to 10.
    weight: weight of the penalty.
  """

  start: int = 500
  freeze: bool = True
  clamp: bool = True
  penalty: bool = True
  log_scale_min: float = -6.0
  log_scale_max: float = 2.0
  spread: float = 3.0
  threshold: float = 1.8
  weight: float = 0.5

  def __post_init__(self) -> None:
    if self.start < 0 or self.threshold < 0 or self.weight < 0 or self.spread <= 0:
      raise ValueError(
        'AntiSpike: need start, threshold and weight >= 0 and spread > 0, got '
        f'{self.start}, {self.threshold}, {self.weight}, {self.spread}'
      )
    if self.log_scale_min >= self.log_scale_max:
      raise ValueError(
        f'AntiSpike: log_scale_min {self.log_scale_min} must be under log_scale_max '
        f'{self.log_scale_max}'
      )


@dataclasses.dataclass(frozen=True)
class RefineConfig:
  """Per-subject refinement (SpatialAvatar-0, stage 2).

  Attributes:
    steps: optimisation steps, one random frame each.
    seed: of frame order, backgrounds and the choice of the reference frame.
    resolution: side of the square images trained and tested on, px; 0 takes the capture's own.
    uv_size: side of the UV image when an avatar is started from scratch; one Gaussian per texel.
    held_out: fraction of the frames, from the end, that is only tested on. None goes by the
      capture's split (split.json): its training frames are learnt from, its test frames tested on;
      without a split all are learnt from. A number, 0 too, has the last word.
    background: colour behind the head in tests and reports, RGB.
    random_background: composite both sides over a new random colour each step; otherwise over
      `background`.
    l1_weight: weight of the absolute error.
    ssim_weight: weight of 1 − SSIM.
    color_prior: weight of colours' squared departure from the start (logits, mean over Gaussians):
      what no frame shows keeps the colour it started with. Ours; 0 is the published loss.
    rates: learning rates.
    anti_spike: regularisation of scales.
    checkpoint_every: steps between checkpoints; 0 keeps none.
    steps_per_call: steps run on the device between two looks from the host.
    implementation: rasterizer; None takes the fastest for this machine.
  """

  steps: int = 10_000
  seed: int = 0
  resolution: int = 0
  uv_size: int = 256
  held_out: float | None = None
  background: tuple[float, float, float] = (1.0, 1.0, 1.0)
  random_background: bool = True
  l1_weight: float = 0.8
  ssim_weight: float = 0.2
  color_prior: float = 1e-3
  rates: LearningRates = LearningRates()
  anti_spike: AntiSpike = AntiSpike()
  checkpoint_every: int = 1000
  steps_per_call: int = 50
  implementation: str | None = None

  def __post_init__(self) -> None:
    if self.steps < 1 or self.steps_per_call < 1 or self.checkpoint_every < 0:
      raise ValueError(
        'RefineConfig: need steps >= 1, steps_per_call >= 1 and checkpoint_every >= 0, got '
        f'{self.steps}, {self.steps_per_call}, {self.checkpoint_every}'
      )
    if self.held_out is not None and not 0.0 <= self.held_out < 1.0:
      raise ValueError(f'RefineConfig: held_out is a fraction under 1, got {self.held_out}')
    if self.resolution and self.resolution < 16:
      raise ValueError(f'RefineConfig: resolution must be 0 or at least 16, got {self.resolution}')
    if self.uv_size < 1:
      raise ValueError(f'RefineConfig: uv_size must be at least 1, got {self.uv_size}')
    if min(self.l1_weight, self.ssim_weight, self.color_prior) < 0:
      raise ValueError(
        'RefineConfig: l1_weight, ssim_weight and color_prior must not be negative, got '
        f'{self.l1_weight}, {self.ssim_weight}, {self.color_prior}'
      )
    if len(self.background) != 3 or not all(0.0 <= c <= 1.0 for c in self.background):
      raise ValueError(f'RefineConfig: background is RGB in [0, 1], got {self.background}')
