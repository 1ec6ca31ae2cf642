"""A process of `test_multiprocess.py`: meets the others, adds numbers over all devices, ends."""

import os
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from sa0_jax.train import cluster, parallel

SAVED = 75


def main() -> None:
  what, heartbeat = sys.argv[1], int(sys.argv[2])
  found = cluster.initialize(
    cluster.find_cluster(os.environ), heartbeat_seconds=heartbeat, timeout_seconds=120
  )
  mesh = parallel.make_mesh()
  local = np.full(jax.local_device_count(), 10.0**found.process)
  numbers = jax.make_array_from_process_local_data(parallel.spread(mesh), local)
  total = jax.jit(jnp.sum, out_shardings=parallel.replicated(mesh))(numbers)
  print(f'{found.process}/{found.processes} {jax.device_count()} sum {int(total)}', flush=True)
  if what == 'wait':
    print(f'pid {os.getpid()}', flush=True)
    step = 0
    while not multihost_utils.reached_preemption_sync_point(step):
      step += 1
      time.sleep(0.05)
    print(f'stopped at the step of all: {step}', flush=True)
    sys.exit(SAVED)


if __name__ == '__main__':
  main()
