"""The generator that comes along is what results/ says: its smallest table is made again.

python -m tests.test_results      prints the table
"""

import json

import jax.numpy as jnp
import numpy as np

import sa0_jax as sa0
from sa0_jax.capture.studio import StudioConfig, film
from sa0_jax.generator.checkpoint import SHIPPED, load_generator
from sa0_jax.metrics.image import psnr
from tests.structure.sources import ROOT

TABLE = ROOT / 'results' / 'one_person.json'
SEED, FRAMES, SIZE = 9000, 8, 192  # nobody it was trained on
SOURCES = {'1': [0], '4': [0, 1, 2, 3]}
TARGETS = (4, 5, 6, 7)
WHITE = (1.0, 1.0, 1.0)


def measure() -> dict[str, float]:
  """PSNR on four frames of one filmed person, over white, by number of sources."""
  capture = film(StudioConfig(seed=SEED, frames=FRAMES, fps=5.0, resolution=SIZE, hair='crop'))
  found = {}
  for count, sources in SOURCES.items():
    avatar = sa0.reconstruct(capture, sources)
    scores = []
    for target in TARGETS:
      frame = capture.frames[target]
      matte = np.asarray(frame.matte)[..., None]
      wanted = np.asarray(frame.image) * matte + (1.0 - matte)
      image = jnp.asarray(sa0.render(avatar, frame, background=WHITE).rgb)
      scores.append(float(psnr(image, jnp.asarray(wanted))))
    found[count] = float(np.mean(scores))
  return found


def test_the_smallest_table_can_be_made_again():
  recorded = json.loads(TABLE.read_text())['psnr']
  found = measure()
  for count, value in recorded.items():
    assert abs(found[count] - value) < 0.1, count
  assert found['4'] > found['1'] > 20.0


def test_what_comes_along_is_small_and_knows_its_configuration():
  assert SHIPPED.stat().st_size < 25e6
  trained = json.loads((ROOT / 'results' / 'default' / 'config.json').read_text())
  config = load_generator().config
  assert config.uv_size == 128
  assert config.avatar_uv_size == 256
  assert config.visibility
  assert config.hair_shell
  assert config.hold
  assert json.dumps(trained).count('"uv_size": 128') == 1


if __name__ == '__main__':
  print(
    json.dumps({'seed': SEED, 'sources': SOURCES, 'targets': TARGETS, 'psnr': measure()}, indent=1)
  )
