r"""The paper's ablations (its Tables 5 to 9): each row is a base and one difference.

    sa0 train --config=ablations:B --workdir=runs/B …
    sa0 train --config=ablations:B,tiny --workdir=runs/tiny_B …

After the comma is the configuration that is varied, `paper` if nothing is said. Rows by name, with
the PSNR the paper reports on a held-out slice of CelebV-HQ (dB; hardware and hours as in `paper`):

    A Phase 1 only 24.84              B no anchor, no other times 22.73      C full 24.94
    E no residual head 28.36          F no Jacobian penalty 28.72            G attention pool 29.46
    backbone_s, _b, _l 24.48, 24.94, 25.02    linear, cosine, constant 24.94, 24.81, 24.51
    rate_1e-4, _2.5e-4, _5e-4 24.71, 24.92, 24.42
    layer_decay_0.5, _0.65, _0.8 24.84, 24.96, 24.80
    jacobian_0, _0.1, _1 24.30, 24.93, 24.46
    anchor_0_0, 1e-3_0, 0_25, 1e-3_25, 1e-2_25, 1e-4_25 22.73, 24.11, 23.81, 24.94, 24.37, 24.52
    (the weight of L2-SP, then the share of other times in per cent)

The rates are those of `paper`: other bases take 0.4, 1 and 2 times their own. E, F and G are
reported after refinement, where the full method has 29.95 (row D: C, refined). The anti-spike rows
are refinements: `refine:no_freeze`, `refine:no_clamp`, `refine:no_penalty`. The row of K = 1 to 4
is one training and four evaluations. `sa0 ablate` runs them all.
"""

import importlib
from collections.abc import Callable

import ml_collections

Change = Callable[[ml_collections.ConfigDict], None]


def _set(**values: object) -> Change:
  """Sets values by their path, '__' between its words."""

  def change(config: ml_collections.ConfigDict) -> None:
    for path, value in values.items():
      *groups, name = path.split('__')
      part = config
      for group in groups:
        part = part[group]
      part[name] = value

  return change


def _jacobian(weight: float) -> Change:
  return _set(
    phase1__objective__weights__jacobian=weight, phase2__objective__weights__jacobian=weight
  )


def _anchored(weight: float, cross_time: float) -> Change:
  return _set(phase2__anchor=weight, phase2__data__sampler__cross_time=cross_time)


def _rate(factor: float) -> Change:
  """Phase 1's rate, as a part of the base's: bases differ in theirs."""

  def change(config: ml_collections.ConfigDict) -> None:
    config.phase1.optimizer.rate = float(f'{factor * config.phase1.optimizer.rate:.12g}')

  return change


def _phase1(**values: object) -> Change:
  return _set(**{f'phase1__optimizer__{name}': value for name, value in values.items()})


ROWS: dict[str, Change] = {
  'A': _set(phase2__steps=0),
  'B': _anchored(0.0, 0.0),
  'C': _set(),
  'E': _set(generator__use_residual=False),
  'F': _jacobian(0.0),
  'G': _set(generator__pool='attention'),
  'backbone_s': _set(),  # another encoder, below
  'backbone_b': _set(),
  'backbone_l': _set(),
  'linear': _phase1(schedule='linear'),
  'cosine': _phase1(schedule='cosine'),
  'constant': _phase1(schedule='constant'),
  'rate_1e-4': _rate(0.4),
  'rate_2.5e-4': _rate(1.0),
  'rate_5e-4': _rate(2.0),
  'layer_decay_0.5': _set(phase2__optimizer__layer_decay=0.5),
  'layer_decay_0.65': _set(phase2__optimizer__layer_decay=0.65),
  'layer_decay_0.8': _set(phase2__optimizer__layer_decay=0.8),
  'jacobian_0': _jacobian(0.0),
  'jacobian_0.1': _jacobian(0.1),
  'jacobian_1': _jacobian(1.0),
  'anchor_0_0': _anchored(0.0, 0.0),
  'anchor_1e-3_0': _anchored(1e-3, 0.0),
  'anchor_0_25': _anchored(0.0, 0.25),
  'anchor_1e-3_25': _anchored(1e-3, 0.25),
  'anchor_1e-2_25': _anchored(1e-2, 0.25),
  'anchor_1e-4_25': _anchored(1e-4, 0.25),
}
_ENCODERS = {
  'backbone_s': 'dinov3_vits16',
  'backbone_b': 'dinov3_vitb16',
  'backbone_l': 'dinov3_vitl16',
}


def get_config(row: str = 'C') -> ml_collections.ConfigDict:
  """Settings of a row.

  Args:
    row: name of one, and after a comma the configuration it varies.

  Raises:
    ValueError: there is no such row, or it does not vary this configuration.
  """
  name, _, base = row.partition(',')
  config = get_base(name, base or 'paper')
  ROWS[name](config)
  return config


def get_base(name: str, base: str) -> ml_collections.ConfigDict:
  """What a row is a change of (`ROWS[name]` makes it); the backbones' is another network.

  Raises:
    ValueError: there is no such row, or it does not vary this configuration.
  """
  row = f'{name},{base}'
  if name not in ROWS:
    raise ValueError(f'config ablations:{row}: the row is one of {", ".join(ROWS)}')
  if base not in ('paper', 'small', 'tiny', 'debug'):
    raise ValueError(f'config ablations:{row}: paper, small, tiny or debug can be varied')
  module = importlib.import_module(f'sa0_jax.configs.{base}')
  if name in _ENCODERS:
    if base != 'paper':
      raise ValueError(f'config ablations:{row}: only paper has other backbones')
    return module.get_config(_ENCODERS[name])
  return module.get_config()
