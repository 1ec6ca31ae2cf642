"""Rebuilds the shipped procedural head: `python -m sa0_jax.head.procedural.build`.

Needs scipy. A rebuilt mesh may differ in its triangles from machine to machine, and avatars record
a fingerprint of theirs: commit a new file only when the head itself is meant to change.
"""

import argparse
import pathlib
import sys
import time

from sa0_jax.head.procedural import assemble, storage


def main(arguments: list[str] | None = None) -> int:
  """Builds and writes the file; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', type=pathlib.Path, default=storage.DATA_FILE)
  options = parser.parse_args(arguments)
  start = time.perf_counter()
  arrays = assemble.build_arrays()
  storage.write(options.out, arrays)
  head = storage.head_of(arrays)
  print(
    f'{options.out}: {len(head.v_template)} vertices, {len(head.faces)} faces, '
    f'{options.out.stat().st_size / 2**20:.2f} MiB, fingerprint {head.fingerprint}, '
    f'{time.perf_counter() - start:.1f} s'
  )
  return 0


if __name__ == '__main__':
  sys.exit(main())
