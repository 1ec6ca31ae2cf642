"""Per-subject refinement (SpatialAvatar-0, stage 2).

    sa0 refine CAPTURE --out subject.sa0 --config=refine

The published run: 10,000 steps of one frame each. The anti-spike ablations are arguments:
`refine:no_freeze`, `refine:no_clamp`, `refine:no_penalty`, `refine:no_anti_spike`.
"""

import ml_collections
from sa0_jax.configs import base

# Argument → parts of the anti-spike regularisation it switches off.
_ABLATIONS = {
  '': (),
  'no_freeze': ('freeze',),
  'no_clamp': ('clamp',),
  'no_penalty': ('penalty',),
  'no_anti_spike': ('freeze', 'clamp', 'penalty'),
}


def get_config(ablation: str = '') -> ml_collections.ConfigDict:
  """Settings of a refinement.

  Args:
    ablation: which part of the anti-spike regularisation to leave out.
  """
  if ablation not in _ABLATIONS:
    raise ValueError(
      f'config refine:{ablation}: the argument is one of {", ".join(filter(None, _ABLATIONS))}'
    )
  config = base.refine()
  for part in _ABLATIONS[ablation]:
    config.anti_spike[part] = False
  return config
