"""Damage of the kinds that files meet, and of the kind that somebody means."""

import io
import re
import zipfile

import numpy as np

_HUGE = (2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
_NUMBER = re.compile(rb'\d+')


def mutate(data: bytes, seed: int) -> bytes:
  """Damages a file; the same seed does the same damage.

  Archives are also damaged inside, with checksums that are right afterwards: what is checked first
  must not be all that is checked.
  """
  rng = np.random.default_rng(seed)
  if data[:4] == b'PK\x03\x04' and rng.random() < 0.7:
    return _inside_zip(data, rng)
  return _damage(data, rng)


def _damage(data: bytes, rng: np.random.Generator) -> bytes:
  for _ in range(int(rng.integers(1, 4))):
    data = _KINDS[rng.integers(len(_KINDS))](data, rng)
  return data


def _inside_zip(data: bytes, rng: np.random.Generator) -> bytes:
  with zipfile.ZipFile(io.BytesIO(data)) as archive:
    members = {name: archive.read(name) for name in archive.namelist()}
  name = sorted(members)[rng.integers(len(members))]
  kind = rng.integers(4)
  if kind == 0:
    del members[name]
  elif kind == 1:
    members[('../', '/x/', '..\\', 'x' * 300)[rng.integers(4)] + name] = members.pop(name)
  else:
    members[name] = _damage(members[name], rng)
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w') as archive:
    for key, content in members.items():
      archive.writestr(key, content)
  return buffer.getvalue()


def _place(data: bytes, rng: np.random.Generator) -> int:
  # Headers are where lies pay: half of the damage is among the first bytes.
  end = min(len(data), 256) if rng.random() < 0.5 else len(data)
  return int(rng.integers(max(end, 1)))


def _flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
  result = bytearray(data)
  for _ in range(int(rng.integers(1, 16))):
    if result:
      result[_place(data, rng)] ^= 1 << rng.integers(8)
  return bytes(result)


def _truncate(data: bytes, rng: np.random.Generator) -> bytes:
  return data[: _place(data, rng)]


def _overwrite(data: bytes, rng: np.random.Generator) -> bytes:
  at, count = _place(data, rng), int(rng.integers(1, 64))
  fill = rng.bytes(count) if rng.random() < 0.5 else bytes([(0, 255)[rng.integers(2)]]) * count
  return data[:at] + fill + data[at + count :]


def _insert(data: bytes, rng: np.random.Generator) -> bytes:
  at = _place(data, rng)
  return data[:at] + rng.bytes(int(rng.integers(1, 64))) + data[at:]


def _remove(data: bytes, rng: np.random.Generator) -> bytes:
  at = _place(data, rng)
  return data[:at] + data[at + int(rng.integers(1, 256)) :]


def _repeat(data: bytes, rng: np.random.Generator) -> bytes:
  at, count = _place(data, rng), int(rng.integers(1, 256))
  return data[: at + count] + data[at:]


def _enlarge_field(data: bytes, rng: np.random.Generator) -> bytes:
  """A huge little-endian number where a size may be."""
  at, width = _place(data, rng), (4, 8)[rng.integers(2)]
  value = _HUGE[rng.integers(len(_HUGE))] & ((1 << 8 * width) - 1)
  return data[:at] + value.to_bytes(width, 'little') + data[at + width :]


def _change_text_number(data: bytes, rng: np.random.Generator) -> bytes:
  """Another number where text holds one: shapes, offsets, counts, values."""
  found = list(_NUMBER.finditer(data[: 1 << 16]))
  if not found:
    return _flip_bits(data, rng)
  start, end = found[rng.integers(len(found))].span()
  words = [b'0', b'-1', b'1e999', b'NaN', b'null', b'"x"', b'[]', b'9' * 400]
  words += [str(value).encode() for value in _HUGE]
  return data[:start] + words[rng.integers(len(words))] + data[end:]


_KINDS = (
  _flip_bits,
  _truncate,
  _overwrite,
  _insert,
  _remove,
  _repeat,
  _enlarge_field,
  _change_text_number,
)
