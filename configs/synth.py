"""SA0-Synth: the benchmark of people who do not exist. Seeds, sizes and who is held out are here.

    sa0 ablate --base=tiny --synth=synth --workdir=ablations

Videos of 225 people and 16 cameras around 64 others; 14 and 8 of them are held out. Anyone who
films these seeds gets these pictures. Filming and preparing takes about half an hour on two cores,
and 1.1 GB.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The sets; `sa0_jax.evaluate.synth.SynthConfig` says what each value is."""
  shared = {'resolution': 192, 'split_seed': 0}
  return ml_collections.ConfigDict(
    {
      'monocular': {'subjects': 225, 'seed': 1000, 'frames': 12, 'hold_out': 0.06, **shared},
      'multiview': {'subjects': 64, 'seed': 5000, 'frames': 4, 'hold_out': 0.125, **shared},
    }
  )
