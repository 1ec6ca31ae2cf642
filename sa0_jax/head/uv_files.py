"""UV unwraps users have: FLAME's .npz files and Wavefront OBJ templates."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from sa0_jax.archive import read_arrays

_MAX_OBJ_BYTES = 64 << 20


def read_uv(
  path: str | os.PathLike[str], faces: Int[np.ndarray, 'f 3']
) -> tuple[Float[np.ndarray, 't 2'], Int[np.ndarray, 'f 3']]:
  """Reads the UV unwrap of a mesh.

  Args:
    path: an .npz with 'vt' [t, 2] and 'ft' (`flame_uv.npz`, `FLAME_texture.npz`), whose rows are in
      the order of `faces`; or an OBJ of the same mesh (`head_template.obj`), matched face by face.
    faces: the mesh. Faces the file does not have must be its last ones, such as added teeth.

  Returns:
    UV vertices [t, 2] with v up, and the UV vertex of each face corner, −1 where the face has none.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is neither format, is damaged, or unwraps another mesh.
  """
  source = str(path)
  if Path(path).suffix.lower() == '.obj':
    vt, ft = _match_faces(*_read_obj(path, source), faces, source)
  else:
    arrays = read_arrays(path, ('vt', 'ft'))
    if set(arrays) != {'vt', 'ft'}:
      raise ValueError(f"{source}: no UV unwrap: it needs the arrays 'vt' and 'ft'")
    vt, ft = arrays['vt'], arrays['ft']
  if vt.dtype.kind == 'f':
    with np.errstate(over='ignore'):  # what overflows becomes infinite, and the check names it
      vt = vt.astype(np.float32)
  if vt.ndim != 2 or vt.shape[1] != 2 or vt.dtype.kind != 'f' or not np.isfinite(vt).all():
    raise ValueError(f"{source}: 'vt' must be finite numbers of shape (t, 2), got {vt.shape}")
  if ft.ndim != 2 or ft.shape[1] != 3 or ft.dtype.kind not in 'iu' or len(ft) > len(faces):
    raise ValueError(
      f"{source}: 'ft' must be indices of shape (f, 3), got {ft.dtype} {ft.shape} for a mesh of "
      f'{len(faces)} faces'
    )
  if ft.size and (ft.min() < 0 or ft.max() >= len(vt)):
    raise ValueError(f"{source}: 'ft' refers to UV vertices that are not in 'vt'")
  missing = np.full((len(faces) - len(ft), 3), -1, np.int32)
  return vt, np.concatenate([ft.astype(np.int32), missing])


def _read_obj(
  path: str | os.PathLike[str], source: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """UV vertices, and vertex and UV vertex of each corner, of a triangulated OBJ."""
  if os.stat(path).st_size > _MAX_OBJ_BYTES:
    raise ValueError(f'{source}: too large for a head template')
  uvs: list[tuple[float, float]] = []
  corners: list[list[tuple[int, int]]] = []
  num_vertices = 0
  with open(path, encoding='utf-8', errors='replace') as file:
    for number, line in enumerate(file, 1):
      words = line.split()
      keyword = words[0] if words else ''
      try:
        if keyword == 'v':
          num_vertices += 1
        elif keyword == 'vt':
          uvs.append((float(words[1]), float(words[2])))
        elif keyword == 'f':
          corners.append([_corner(word, num_vertices, len(uvs)) for word in words[1:]])
      except (ValueError, IndexError):
        raise ValueError(
          f'{source}: line {number} is not understood: faces must be written v/vt'
        ) from None
  if not corners or any(len(face) != 3 for face in corners):
    raise ValueError(f'{source}: needs triangles with UV (`f a/b c/d e/f`), and only triangles')
  table = np.array(corners)
  return np.array(uvs, np.float64).reshape(-1, 2), table[..., 0], table[..., 1]


def _corner(word: str, num_vertices: int, num_uvs: int) -> tuple[int, int]:
  """Zero-based vertex and UV vertex of `v/vt` or `v/vt/vn`; negative ones count from the end."""
  vertex, uv = (int(part) for part in word.split('/')[:2])
  vertex = vertex - 1 if vertex > 0 else num_vertices + vertex
  uv = uv - 1 if uv > 0 else num_uvs + uv
  if not (0 <= vertex < num_vertices and 0 <= uv < num_uvs):
    raise ValueError
  return vertex, uv


def _match_faces(
  vt: np.ndarray, obj_faces: np.ndarray, obj_ft: np.ndarray, faces: np.ndarray, source: str
) -> tuple[np.ndarray, np.ndarray]:
  """The OBJ's UV corners in the mesh's order of faces and corners.

  Templates list the same triangles, but neither their order nor the corner they start at is
  guaranteed, and a UV on the wrong corner shows only as a scrambled texture.
  """
  size = max(int(obj_faces.max()), int(faces.max())) + 1

  def key(table: np.ndarray) -> np.ndarray:
    a, b, c = np.sort(table.astype(np.int64), axis=1).T
    return (a * size + b) * size + c

  wanted = faces[: len(obj_faces)]
  order = np.argsort(key(obj_faces), kind='stable')
  ordered = key(obj_faces)[order]
  place = np.minimum(np.searchsorted(ordered, key(wanted)), len(order) - 1)
  if not np.array_equal(ordered[place], key(wanted)):
    raise ValueError(f'{source}: its triangles are not those of this head')
  rows = order[place]
  # [f, wanted corner, OBJ corner] → which OBJ corner is the wanted one.
  corner = np.argmax(wanted[:, :, None] == obj_faces[rows][:, None, :], axis=-1)
  return vt, np.take_along_axis(obj_ft[rows], corner, axis=1)
