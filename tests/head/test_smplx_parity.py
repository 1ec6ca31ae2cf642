"""Posing equals smplx.FLAME on a pickle of our own making (extra `torch-parity`)."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.head import lbs
from sa0_jax.head.flame_pickle import export_flame_pickle
from sa0_jax.head.model import HeadCodes

pytestmark = pytest.mark.parity


@pytest.mark.filterwarnings('ignore')  # torch and smplx warn on import and on old calls
def test_posing_equals_smplx(tmp_path, make_head):
  torch = pytest.importorskip('torch')
  smplx = pytest.importorskip('smplx')
  head = make_head(300, 300, 100)
  export_flame_pickle(head, tmp_path / 'FLAME_NEUTRAL.pkl')
  embedding = head.require_landmarks('68')
  # smplx insists on a file of 51 static landmarks; these double as a test of ours.
  static = {'lmk_face_idx': embedding.face[17:], 'lmk_b_coords': embedding.barycentric[17:]}
  (tmp_path / 'flame_static_embedding.pkl').write_bytes(pickle.dumps(static, protocol=2))
  model = smplx.FLAME(
    str(tmp_path), num_betas=300, num_expression_coeffs=100, batch_size=4, use_face_contour=False
  )
  generator = np.random.default_rng(0)
  codes = jax.tree.map(
    lambda leaf: jnp.asarray(generator.normal(size=leaf.shape), jnp.float32),
    HeadCodes.neutral(head, (4,)),
  )
  parts = {
    'betas': codes.shape,
    'expression': codes.expression,
    'global_orient': codes.rotation,
    'neck_pose': codes.neck,
    'jaw_pose': codes.jaw,
    'leye_pose': codes.eyes[:, :3],
    'reye_pose': codes.eyes[:, 3:],
    'transl': codes.translation,
  }
  output = model(**{name: torch.tensor(np.asarray(value)) for name, value in parts.items()})
  vertices = output.vertices.detach().numpy()
  np.testing.assert_allclose(lbs.pose_head(head, codes), vertices, atol=1e-5)
  joints = output.joints.detach().numpy()
  np.testing.assert_allclose(lbs.pose_joints(head, codes), joints[:, :5], atol=1e-5)
  landmarks = lbs.pose_landmarks(lbs.LandmarkArrays.from_head(head, embedding), codes)
  np.testing.assert_allclose(landmarks[:, 17:], joints[:, 5:], atol=1e-5)
  print('largest difference to smplx', np.abs(lbs.pose_head(head, codes) - vertices).max())
