"""Meshes of devices, and what lies where on them: the only place that makes meshes.

A mesh has two axes. A batch is spread over both. Parameters and optimiser state are copied along
'data' and may be divided along 'fsdp' (ZeRO: gathered when a step needs them, updated in parts).
Which array is divided how is said by rules, regular expressions on its name; arrays carry their
`NamedSharding`, and one `jax.jit` serves one device or thousands.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

DATA, FSDP = 'data', 'fsdp'
AXES = (DATA, FSDP)
_REPLICATED, _SPREAD = PartitionSpec(), PartitionSpec(AXES)

Rules = Sequence[tuple[str, tuple[str | None, ...]]]
# Name of a leaf → what its last axes are divided over; the first rule that is found in it counts.
# All moments are one vector; kernels are divided by output channels.
RULES: Rules = (
  (r'^optimizer/', (FSDP,)),
  (r'^(trainable|frozen|anchor)/.*kernel$', (FSDP,)),
  (r'', ()),
)


def make_mesh(devices: Sequence[jax.Device] | None = None, fsdp: int = 1) -> Mesh:
  """A mesh with the axes 'data' and 'fsdp'.

  Args:
    devices: which; None takes all, of all processes.
    fsdp: devices that share one copy of the state; neighbours, so that they are of one machine.

  Raises:
    ValueError: the devices cannot be divided so.
  """
  every = np.array(jax.devices() if devices is None else devices)
  if every.size % fsdp:
    raise ValueError(f'fsdp={fsdp}: {every.size} devices cannot be divided into groups of {fsdp}')
  return Mesh(every.reshape(-1, fsdp), AXES)


def check_batch_size(devices: int, batch_size: int, accumulate: int = 1) -> None:
  """Every device must get as much as the others, in each part of a batch.

  Raises:
    ValueError: it would not.
  """
  if batch_size % (devices * accumulate):
    parts = f' in {accumulate} parts' if accumulate > 1 else ''
    raise ValueError(
      f'batch_size={batch_size} cannot be spread over {devices} devices{parts}: take a multiple of '
      f'{devices * accumulate}'
    )


def replicated(mesh: Mesh) -> NamedSharding:
  """The whole array on every device."""
  return NamedSharding(mesh, _REPLICATED)


def spread(mesh: Mesh) -> NamedSharding:
  """An equal part of the first axis on every device."""
  return NamedSharding(mesh, _SPREAD)


def path_name(path: Sequence[Any]) -> str:
  """Name of a leaf of a tree: 'trainable/decoder/color/kernel'."""
  # The last word of a network's parameter is what flax calls its array.
  keys = path[:-1] if len(path) > 1 and path[-1] == jax.tree_util.GetAttrKey('value') else path
  return '/'.join(jax.tree_util.keystr((key,), simple=True) for key in keys)


def shardings(mesh: Mesh | AbstractMesh, shapes: Any, rules: Rules = RULES) -> Any:
  """What lies where.

  An axis that cannot be divided evenly stays whole.

  Args:
    mesh: the devices.
    shapes: a tree of arrays or of their shapes, from `jax.eval_shape`.
    rules: regular expression → names of mesh axes for the array's last axes.

  Returns:
    A tree of `NamedSharding` like `shapes`.

  Raises:
    ValueError: no rule fits a leaf.
  """

  def one(path: Any, leaf: Any) -> NamedSharding:
    name = path_name(path)
    fitting = [axes for pattern, axes in rules if re.search(pattern, name)]
    if not fitting:
      raise ValueError(f'shardings: no rule for {name}; end with one for everything')
    last = fitting[0][-leaf.ndim :] if leaf.ndim else ()
    spec: list[str | None] = [None] * (leaf.ndim - len(last))
    for size, axis in zip(leaf.shape[leaf.ndim - len(last) :], last, strict=True):
      spec.append(axis if axis and size % mesh.shape[axis] == 0 else None)
    return NamedSharding(mesh, PartitionSpec(*spec) if any(spec) else _REPLICATED)

  return jax.tree_util.tree_map_with_path(one, shapes)


def over_batch(
  mesh: Mesh,
  function: Callable[..., Any],
  spread_arguments: Sequence[bool],
  spread_result: bool = False,
) -> Callable[..., Any]:
  """A function of whole arrays that each device computes for its part of the batch.

  Kernels and callbacks cannot be split by XLA; so the function sees local arrays, and combines
  what it returns over `AXES` itself.

  Args:
    mesh: the devices.
    function: what each device does.
    spread_arguments: for each argument, whether it comes in parts.
    spread_result: whether what it returns is in parts, too; else it is equal on all devices.
  """
  specs = tuple(_SPREAD if part else _REPLICATED for part in spread_arguments)
  result = _SPREAD if spread_result else _REPLICATED
  return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=result, check_vma=False)
