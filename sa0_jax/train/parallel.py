"""One batch over many devices: the only place that makes meshes.

Data-parallel: parameters and optimiser state are on every device, a batch is spread over them
along its first axis, gradients are averaged. Arrays carry their `NamedSharding`, and one `jax.jit`
serves one device or thousands.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = 'data'
_REPLICATED, _SPREAD = PartitionSpec(), PartitionSpec(AXIS)


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
  """A mesh with one axis, 'data'.

  Args:
    devices: which; None takes all.
  """
  return Mesh(np.array(jax.devices() if devices is None else devices), (AXIS,))


def check_batch_size(devices: int, batch_size: int) -> None:
  """Every device must get as much as the others.

  Raises:
    ValueError: it would not.
  """
  if batch_size % devices:
    raise ValueError(
      f'batch_size={batch_size} cannot be spread over {devices} devices: take a multiple of '
      f'{devices}'
    )


def replicated(mesh: Mesh) -> NamedSharding:
  """The whole array on every device."""
  return NamedSharding(mesh, _REPLICATED)


def spread(mesh: Mesh) -> NamedSharding:
  """An equal part of the first axis on every device."""
  return NamedSharding(mesh, _SPREAD)


def over_batch(
  mesh: Mesh,
  function: Callable[..., Any],
  spread_arguments: Sequence[bool],
  spread_result: bool = False,
) -> Callable[..., Any]:
  """A function of whole arrays that each device computes for its part of the batch.

  Kernels and callbacks cannot be split by XLA; so the function sees local arrays, and combines
  what it returns over `AXIS` itself.

  Args:
    mesh: the devices.
    function: what each device does.
    spread_arguments: for each argument, whether it comes in parts.
    spread_result: whether what it returns is in parts, too; else it is equal on all devices.
  """
  specs = tuple(_SPREAD if part else _REPLICATED for part in spread_arguments)
  result = _SPREAD if spread_result else _REPLICATED
  return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=result, check_vma=False)
