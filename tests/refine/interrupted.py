"""A refinement in a process of its own, to be killed: python -m tests.refine.interrupted FOLDER.

Reads FOLDER/capture, keeps checkpoints in FOLDER/checkpoints and writes FOLDER/avatar.sa0. A second
argument limits the size of any file it writes, in bytes: a disk that is full.
"""

import dataclasses
import pathlib
import resource
import sys

from sa0_jax.capture.capture import load_capture
from sa0_jax.refine.loop import refine
from tests.refine.scenes import CONFIG, start_avatar

SETTINGS = dataclasses.replace(CONFIG, steps=300, checkpoint_every=5, steps_per_call=5)


def main(folder: pathlib.Path, checkpoints: bool = True) -> None:
  """Refines and saves."""
  capture = load_capture(folder / 'capture')
  kept = folder / 'checkpoints' if checkpoints else None
  avatar = refine(start_avatar(), capture, SETTINGS, checkpoints=kept)
  avatar.save(folder / 'avatar.sa0')


if __name__ == '__main__':
  if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
  main(pathlib.Path(sys.argv[1]))
