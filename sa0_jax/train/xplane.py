"""The little of the profiler's files that JAX's own reader leaves out: where operations come from.

JAX's profiles (XSpace protocol buffers) hold the compiled programs beside the events:
plane '/host:metadata', one metadata entry a program, whose statistic is a serialised `HloProto`.
`jax.profiler.ProfileData` reads events only. Field numbers are those of xplane.proto and hlo.proto
in OpenXLA; wire format: https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Container, Iterator
from typing import NamedTuple

from sa0_jax import protobuf

# XSpace.planes; XPlane.name, .event_metadata; the map's value; XEventMetadata.name, .stats;
# XStat.bytes_value
_PLANES, _PLANE_NAME, _EVENT_METADATA, _VALUE = 1, 2, 4, 2
_METADATA_NAME, _METADATA_STATS, _STAT_BYTES = 2, 5, 6
# HloProto.hlo_module; HloModuleProto.name, .computations, .id; HloComputationProto.instructions;
# HloInstructionProto.name, .metadata; OpMetadata.op_name
_MODULE, _MODULE_NAME, _COMPUTATIONS, _MODULE_ID = 1, 1, 3, 5
_INSTRUCTIONS, _INSTRUCTION_NAME, _OP_METADATA, _OP_NAME = 2, 1, 7, 2
_METADATA_PLANE = b'/host:metadata'


class Program(NamedTuple):
  """A compiled program of a profile.

  Attributes:
    name: of its module, 'jit_step'.
    identifier: of this compilation; what events call `program_id`.
    operations: instruction, 'fusion.3' → where it comes from, 'jit(step)/jvp(encoder)/add'.
  """

  name: str
  identifier: int
  operations: dict[str, str]


def programs(data: bytes, wanted: Container[int]) -> list[Program]:
  """Programs in a profile.

  Args:
    data: an .xplane.pb file.
    wanted: their identifiers; others, hundreds of small ones, are skipped.

  Raises:
    ValueError: it is damaged.
  """
  found = []
  for plane in _all(data, _PLANES):
    if _first(plane, _PLANE_NAME) != _METADATA_PLANE:
      continue
    for entry in _all(plane, _EVENT_METADATA):
      metadata = _first(entry, _VALUE)
      for stat in _all(metadata, _METADATA_STATS):
        module = _first(_first(stat, _STAT_BYTES), _MODULE)
        identifier = _number(module, _MODULE_ID)
        if module and identifier in wanted:
          found.append(_program(module, identifier))
  return found


def _program(module: bytes, identifier: int) -> Program:
  operations = {}
  for computation in _all(module, _COMPUTATIONS):
    for instruction in _all(computation, _INSTRUCTIONS):
      name = _first(instruction, _INSTRUCTION_NAME)
      operations[_text(name)] = _text(_first(_first(instruction, _OP_METADATA), _OP_NAME))
  return Program(_text(_first(module, _MODULE_NAME)), identifier, operations)


def _text(data: bytes) -> str:
  return data.decode(errors='replace')


def _all(message: bytes, number: int) -> Iterator[bytes]:
  """Strings, bytes and messages of a field."""
  return (v for n, v in _fields(message) if n == number and isinstance(v, bytes))


def _first(message: bytes, number: int) -> bytes:
  """A string, bytes or message; empty where it is not there."""
  return next(_all(message, number), b'')


def _number(message: bytes, number: int) -> int:
  """A number; 0 where it is not there."""
  return next((v for n, v in _fields(message) if n == number and isinstance(v, int)), 0)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
  try:
    yield from protobuf.fields(message)
  except ValueError as error:
    raise ValueError(f'a profile is damaged: {error}') from error
