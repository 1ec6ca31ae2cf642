"""The glTF file, read by a few lines of our own, is the head: mesh, targets, joints, colours."""

import dataclasses
import json
import struct

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.export.export import export
from sa0_jax.export.glb import JAW_OPEN
from sa0_jax.export.settings import posed_codes
from sa0_jax.export.texture import dilated
from sa0_jax.head.lbs import pose_head
from sa0_jax.head.model import JOINT_NAMES, HeadCodes
from tests.export import scenes

_TYPES = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTHS = {'SCALAR': 1, 'VEC2': 2, 'VEC3': 3, 'VEC4': 4, 'MAT4': 16}


class Glb:
  """A .glb file as its specification says to read one."""

  def __init__(self, path):
    data = path.read_bytes()
    magic, version, length = struct.unpack_from('<4sII', data)
    assert (magic, version, length) == (b'glTF', 2, len(data))
    size, kind = struct.unpack_from('<I4s', data, 12)
    assert kind == b'JSON'
    self.json = json.loads(data[20 : 20 + size])
    self.binary = data[20 + size + 8 :]
    assert len(self.binary) == self.json['buffers'][0]['byteLength']

  def view(self, number: int) -> bytes:
    entry = self.json['bufferViews'][number]
    return self.binary[entry['byteOffset'] :][: entry['byteLength']]

  def array(self, number: int) -> np.ndarray:
    entry = self.json['accessors'][number]
    width, count = _WIDTHS[entry['type']], entry['count']
    kind = _TYPES[entry['componentType']]
    if 'bufferView' in entry:
      return np.frombuffer(self.view(entry['bufferView']), kind).reshape(count, width)
    out, sparse = np.zeros((count, width), kind), entry['sparse']
    rows = np.frombuffer(
      self.view(sparse['indices']['bufferView']), _TYPES[sparse['indices']['componentType']]
    )
    values = np.frombuffer(self.view(sparse['values']['bufferView']), kind)
    out[rows] = values.reshape(-1, width)
    return out

  def attribute(self, name: str) -> np.ndarray:
    return self.array(self.json['meshes'][0]['primitives'][0]['attributes'][name])

  def target(self, name: str) -> np.ndarray:
    mesh = self.json['meshes'][0]
    row = mesh['extras']['targetNames'].index(name)
    return self.array(mesh['primitives'][0]['targets'][row]['POSITION'])

  def posed(self) -> np.ndarray:
    """Vertices as a viewer shows them: morphed, then skinned by the nodes."""
    mesh, skin = self.json['meshes'][0], self.json['skins'][0]
    points = self.attribute('POSITION').astype(np.float64)
    for weight, target in zip(mesh['weights'], mesh['primitives'][0]['targets'], strict=True):
      if weight:
        points = points + weight * self.array(target['POSITION'])
    nodes = self.json['nodes']
    world = {}

    def visit(number, parent):
      x, y, z, w = nodes[number]['rotation']
      local = np.eye(4)
      local[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
      ]
      local[:3, 3] = nodes[number]['translation']
      world[number] = parent @ local
      for child in nodes[number].get('children', ()):
        visit(child, world[number])

    visit(skin['skeleton'], np.eye(4))
    inverse = self.array(skin['inverseBindMatrices']).reshape(-1, 4, 4).transpose(0, 2, 1)
    matrices = np.stack([world[j] @ inverse[i] for i, j in enumerate(skin['joints'])])
    joints, weights = self.attribute('JOINTS_0'), self.attribute('WEIGHTS_0')
    blended = np.einsum('vk,vkab->vab', weights, matrices[joints])
    return np.einsum('vab,vb->va', blended, np.pad(points, [(0, 0), (0, 1)], constant_values=1))[
      :, :3
    ]


@pytest.fixture(scope='module')
def avatar():
  return scenes.textured_avatar()


@pytest.fixture(scope='module')
def glb(avatar, tmp_path_factory):
  path = tmp_path_factory.mktemp('glb') / 'a.glb'
  export(avatar, path)
  return Glb(path)


@pytest.fixture(scope='module')
def rows(avatar, glb):
  """The head's vertex that each of the file's is a copy of."""
  neutral = np.asarray(pose_head(avatar.head, posed_codes(avatar, None)))
  found = {point.tobytes(): row for row, point in enumerate(neutral)}
  return np.array([found[point.tobytes()] for point in glb.attribute('POSITION')])


def _moved(avatar, **parts) -> np.ndarray:
  neutral = posed_codes(avatar, None)
  codes = dataclasses.replace(neutral, **parts)
  return np.asarray(pose_head(avatar.head, codes)) - np.asarray(pose_head(avatar.head, neutral))


def test_the_mesh_is_the_subjects(avatar, glb, rows):
  indices = glb.array(glb.json['meshes'][0]['primitives'][0]['indices']).reshape(-1, 3)
  np.testing.assert_array_equal(
    np.sort(rows[indices], axis=None), np.sort(avatar.head.faces, axis=None)
  )
  np.testing.assert_array_equal(rows[indices], avatar.head.faces)
  u, v = glb.attribute('TEXCOORD_0')[indices].T
  np.testing.assert_allclose(np.stack([u.T, 1 - v.T], 2), avatar.head.vt[avatar.head.ft], atol=1e-6)
  np.testing.assert_allclose(np.linalg.norm(glb.attribute('NORMAL'), axis=1), 1.0, atol=1e-5)
  np.testing.assert_allclose(glb.posed(), glb.attribute('POSITION'), atol=1e-6)


@pytest.mark.parametrize('name', ['eyeBlinkLeft', 'mouthSmileRight', 'smooth_060', 'sway_back'])
def test_a_morph_target_moves_what_ours_moves(avatar, glb, rows, name):
  names = avatar.head.expression_names
  name = name if name in names else names[-1]
  one = jnp.zeros(avatar.head.num_expression).at[names.index(name)].set(1.0)
  moved = _moved(avatar, expression=one)
  assert np.abs(moved).max() > 1e-4
  np.testing.assert_allclose(glb.target(name), moved[rows], atol=2e-6)


def test_jaw_open_is_a_target_too(avatar, glb, rows):
  moved = _moved(avatar, jaw=jnp.asarray([JAW_OPEN, 0.0, 0.0]))
  np.testing.assert_allclose(glb.target('jawOpen'), moved[rows], atol=2e-6)
  lowest = moved[np.argmax(np.abs(moved).max(axis=1))]
  assert lowest[1] < -0.01


def test_a_pose_turns_the_joints(avatar, rows, tmp_path):
  neutral = HeadCodes.neutral(avatar.head)
  smile = avatar.head.expression_names.index('mouthSmileLeft')
  codes = dataclasses.replace(
    neutral,
    rotation=jnp.asarray([0.1, 0.5, 0.0]),
    neck=jnp.asarray([0.2, 0.0, -0.1]),
    jaw=jnp.asarray([0.2, 0.05, 0.0]),
    eyes=jnp.asarray([0.1, 0.2, 0.0, -0.1, 0.2, 0.0]),
    translation=jnp.asarray([0.01, -0.02, 0.03]),
    expression=neutral.expression.at[smile].set(0.8),
  )
  export(avatar, tmp_path / 'a.glb', codes)
  bare = dataclasses.replace(avatar.head, posedirs=np.zeros_like(avatar.head.posedirs))
  wanted = np.asarray(pose_head(bare, posed_codes(avatar, codes)))
  # Expressions move the joints by a fraction of a millimetre, which the file leaves out.
  np.testing.assert_allclose(Glb(tmp_path / 'a.glb').posed(), wanted[rows], atol=3e-4)


def test_joints_and_targets_have_the_heads_names(avatar, glb):
  names = [glb.json['nodes'][j]['name'] for j in glb.json['skins'][0]['joints']]
  assert tuple(names) == JOINT_NAMES
  targets = glb.json['meshes'][0]['extras']['targetNames']
  assert targets == [*avatar.head.expression_names, 'jawOpen']
  assert len(targets) == len(glb.json['meshes'][0]['weights'])


def test_the_texture_has_the_gaussians_colours(avatar, glb):
  """They are smooth over the UV square, so every texel is known, holes included."""
  data = glb.view(glb.json['images'][0]['bufferView'])
  image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] / 255.0
  size = avatar.layout.resolution
  assert image.shape == (size, size, 3)
  row, column = np.asarray(avatar.layout.texel).T
  np.testing.assert_allclose(image[row, column, 0], column / size, atol=0.05)
  np.testing.assert_allclose(image[row, column, 1], 1 - row / size, atol=0.05)
  assert image.min(axis=2).max() > 0  # nothing was left black
  assert (image.sum(axis=2) > 0.2).all()


def test_unseen_gaussians_do_not_colour_the_texture(avatar, glb, tmp_path):
  logits, texel = avatar.gaussians.opacity_logit, np.asarray(avatar.layout.texel)
  hidden = jnp.asarray(texel[:, 0] % 5 == 0)
  gaussians = dataclasses.replace(
    avatar.gaussians,
    opacity_logit=jnp.where(hidden, -9.0, logits),
    color_logit=jnp.where(hidden[:, None], 9.0, avatar.gaussians.color_logit),
  )
  export(dataclasses.replace(avatar, gaussians=gaussians), tmp_path / 'a.glb')
  other = Glb(tmp_path / 'a.glb')
  data = other.view(other.json['images'][0]['bufferView'])
  image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] / 255.0
  row, column = texel[np.asarray(hidden)].T
  np.testing.assert_allclose(image[row, column, 0], column / avatar.layout.resolution, atol=0.12)


def test_dilation_fills_from_the_nearest():
  image, known = np.zeros((5, 9, 1)), np.zeros((5, 9), bool)
  known[:, 0] = known[:, 8] = True
  image[:, 8] = 1.0
  filled = dilated(image, known)
  np.testing.assert_array_equal(filled[:, :4], 0.0)
  np.testing.assert_array_equal(filled[:, 5:], 1.0)
  np.testing.assert_array_equal(filled[:, 4], 0.5)
