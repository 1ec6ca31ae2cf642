"""Every reader of files that come from elsewhere: how a good file is made, and how it is read.

A reader that is not in this table is not tested against damage: add it here when it is written.
"""

import functools
import json
import pickle

import numpy as np

from sa0_jax.capture.capture import load_capture
from sa0_jax.capture.importers import ImportOptions, import_captures
from tests.capture.importers import (
  test_folder,
  test_gagavatar_track,
  test_insta,
  test_nersemble,
  test_splattingavatar,
  test_vhap,
)
from tests.capture.importers.truth import head
from tests.fuzz.run_files import RUN_READERS
from tests.head.conftest import _make_head
from tests.refine.scenes import small_capture

_FACES = 500


def _flame_pickle(folder):
  from sa0_jax.head.flame_pickle import export_flame_pickle

  export_flame_pickle(_make_head(num_vertices=12), folder / 'FLAME2020.pkl')
  return folder / 'FLAME2020.pkl'


def _read_flame_pickle(path):
  from sa0_jax.head.flame_pickle import load_flame_pickle

  return load_flame_pickle(path, 'flame2020')


def _python2_pickle(folder):
  """Arrays and nested tables in the oldest protocol, which FLAME's and GAGAvatar's files have."""
  content = {
    'video_1': {'shapecode': np.zeros(5, np.float32), 'bbox': np.ones(4), 'name': 'x'},
    'matrix': np.arange(12.0).reshape(3, 4),
  }
  (folder / 'codes.pkl').write_bytes(pickle.dumps(content, 2))
  return folder / 'codes.pkl'


def _read_pickle(path):
  from sa0_jax.head.unpickle import as_array, read_pickle

  content = read_pickle(path.read_bytes(), str(path))
  if isinstance(content, dict) and 'matrix' in content:
    as_array(content['matrix'], 'matrix', str(path))


def _landmarks(folder):
  index = np.arange(105)
  weights = np.full((105, 3), 1 / 3)
  np.savez(
    folder / 'mediapipe.npz', lmk_face_idx=index, lmk_b_coords=weights, landmark_indices=index
  )
  return folder / 'mediapipe.npz'


def _landmark_pickle(folder):
  content = {'lmk_face_idx': np.arange(51), 'lmk_b_coords': np.full((51, 3), 1 / 3)}
  (folder / 'flame_static_embedding.pkl').write_bytes(pickle.dumps(content, 2))
  return folder / 'flame_static_embedding.pkl'


def _landmark_object(folder):
  content = {
    'full_lmk_faces_idx': np.arange(68)[None],
    'full_lmk_bary_coords': np.full((1, 68, 3), 1 / 3),
  }
  np.save(folder / 'landmark_embedding.npy', np.array(content, dtype=object))
  return folder / 'landmark_embedding.npy'


def _read_landmarks(path):
  from sa0_jax.head.landmark_files import read_landmarks

  return read_landmarks(path, _FACES)


_MESH = np.array([[0, 1, 2], [2, 1, 3]], np.int32)


def _uv_npz(folder):
  np.savez(folder / 'uv.npz', vt=np.random.default_rng(0).random((4, 2)), ft=_MESH)
  return folder / 'uv.npz'


def _uv_obj(folder):
  lines = [f'v {i} {i % 2} 0' for i in range(4)] + [f'vt {i / 4} {i % 2}' for i in range(4)]
  lines += ['f ' + ' '.join(f'{c + 1}/{c + 1}' for c in face) for face in _MESH]
  (folder / 'head.obj').write_text('\n'.join(lines) + '\n')
  return folder / 'head.obj'


def _read_uv(path):
  from sa0_jax.head.uv_files import read_uv

  return read_uv(path, _MESH)


def _head_file(folder):
  from sa0_jax.head.files import save_head

  save_head(_make_head(num_vertices=20), folder / 'head.npz')
  return folder / 'head.npz'


def _read_head(path):
  from sa0_jax.head.files import load_head_file

  return load_head_file(path)


def _capture(folder, image_format):
  small_capture(2, 16).save(folder / 'capture', image_format)
  return folder / 'capture'


def _read_capture(path):
  capture = load_capture(path)
  for frame in capture.frames:
    frame.pixels.image.tobytes(), frame.pixels.matte.tobytes()


def _avatar(folder):
  from tests.refine.scenes import target_avatar

  target_avatar().save(folder / 'x.sa0')
  return folder / 'x.sa0'


def _read_avatar(path):
  from sa0_jax.avatar.avatar import Avatar

  return Avatar.load(path)


def _safetensors(folder):
  from tests.generator.vit_files import write_safetensors

  arrays = {'a.weight': np.ones((3, 4), np.float32), 'b': np.zeros(5, np.float16)}
  write_safetensors(folder / 'model.safetensors', arrays)
  return folder / 'model.safetensors'


def _read_safetensors(path):
  from sa0_jax.safetensors import find_tensors, read_tensor

  for info in find_tensors(path).values():
    read_tensor(info).tobytes()


def _safetensors_index(folder):
  from tests.generator.vit_files import write_safetensors

  names = ('model-1-of-2.safetensors', 'model-2-of-2.safetensors')
  for number, name in enumerate(names):
    write_safetensors(folder / name, {f'w{number}': np.ones((3, 4), np.float32)})
  places = {f'w{number}': name for number, name in enumerate(names)}
  (folder / 'model.safetensors.index.json').write_text(json.dumps({'weight_map': places}))
  return folder


def _vit(folder):
  from tests.generator.test_vit_weights import V3
  from tests.generator.vit_files import write_safetensors

  return write_safetensors(folder / 'model.safetensors', V3)


def _read_vit(path):
  from sa0_jax.generator.vit_weights import load_vit
  from tests.generator.test_vit_weights import SMALL

  return load_vit(path, SMALL)


def _pth(folder, legacy):
  from tests.losses.weights_files import write_legacy, write_zip

  arrays = {'a.weight': np.ones((3, 4), np.float32), 'b': np.arange(5, dtype=np.int64)}
  return (write_legacy if legacy else write_zip)(folder / 'weights.pth', arrays)


def _read_pth(path):
  from sa0_jax.losses.torch_files import read_tensors

  for array in read_tensors(path).values():
    array.tobytes()


def _video(folder):
  from sa0_jax.video import write_video

  frames = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
  write_video(folder / 'clip.mp4', iter(frames), 25.0)
  return folder / 'clip.mp4'


def _read_video(path):
  from sa0_jax.capture.track.footage import open_footage

  for frame in open_footage(path).frames():
    frame.tobytes()


def _pictures(folder):
  """A folder of frames in all formats, one turned by a note as cameras write it."""
  import cv2

  from tests.capture.test_upright import photograph

  pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
  for suffix in ('.png', '.jpg', '.bmp', '.webp', '.tif'):
    cv2.imwrite(str(folder / f'a{suffix}'), pixels)
  photograph(folder / 'turned.jpg', 6, pixels)
  return folder


def _read_pictures(path):
  from sa0_jax.capture.track.footage import open_footage

  for frame in open_footage(path).frames():
    frame.tobytes()


def _landmark_tracks(folder):
  np.savez(folder / 'landmarks.npz', landmarks=np.full((2, 478, 3), 7, np.float32))
  return folder / 'landmarks.npz'


def _read_landmark_tracks(path):
  from sa0_jax.capture.track.observations import load_landmarks

  return load_landmarks(path, 2)


def _studio_set(folder):
  from sa0_jax.capture.studio import StudioSet, describe_set

  return describe_set(StudioSet(seeds=((0, 5), (9, 12))), folder / 'set')


def _read_studio_set(path):
  from sa0_jax.capture.studio import read_set

  return list(read_set(path).all_seeds())


def _split(folder):
  from sa0_jax.capture.splits import Split

  split = Split(train=np.arange(3), val=np.arange(3, 4), test=np.arange(4, 6))
  (folder / 'split.json').write_bytes(split.to_bytes())
  return folder


def _read_split(folder):
  from sa0_jax.capture.splits import read_split

  return read_split(folder, 6)


def _split_list(folder):
  (folder / 'train.txt').write_text('# people\nann\nbob\n\ncarl\n')
  return folder / 'train.txt'


def _read_split_list(path):
  from sa0_jax.data.plan import read_split

  return read_split(path)


def _prepared(folder):
  from sa0_jax.data.config import BuildConfig
  from tests.data import scenes

  captures = scenes.save_captures(folder.parent / 'captures', 2, instants=3)
  splits = {'train': ['p0', 'p1']}
  scenes.prepare(captures, folder, splits, BuildConfig('sa0_monocular', frames_per_shard=3))
  return folder / 'sa0_monocular'


def _read_prepared(path):
  from sa0_jax.data.prepared import open_prepared

  data = open_prepared(path, 'train')
  for row in range(len(data)):
    data.read(row)


def _foreign(folder, kind):
  """What the importers' tests write, in their independent ways."""
  if kind == 'folder':
    scene = test_folder.scene.__wrapped__()
    test_folder.write(folder, scene, test_folder.arrays_of(scene))
  elif kind == 'gagavatar_track':
    scene = test_gagavatar_track.scene.__wrapped__()
    test_gagavatar_track.write(folder, scene, [f'clip_{i}' for i in range(3)])
  elif kind == 'vhap':
    test_vhap.write(folder, test_vhap.views.__wrapped__())
  else:
    module = {
      'insta': test_insta,
      'nersemble': test_nersemble,
      'splattingavatar': test_splattingavatar,
    }[kind]
    module.write(folder, module.scene.__wrapped__())
  return folder


def _read_foreign(path, kind):
  for imported in import_captures(kind, path, head(_EDITIONS[kind]), ImportOptions()):
    for frame in imported.capture.frames:
      frame.pixels.image.tobytes()


_EDITIONS = {
  'folder': 'mine',
  'gagavatar_track': 'flame2020',
  'insta': 'flame2020',
  'nersemble': 'flame2023',
  'splattingavatar': 'flame2020',
  'vhap': 'flame2023',
}


def _splats(folder, suffix):
  from sa0_jax.export.export import export
  from tests.refine.scenes import target_avatar

  export(target_avatar(), folder / f'x{suffix}')
  return folder / f'x{suffix}'


def _read_splats(path):
  from sa0_jax.export.ply import read_ply
  from sa0_jax.export.splat import read_splat
  from sa0_jax.export.spz import read_spz

  readers = {'.ply': read_ply, '.splat': read_splat, '.spz': read_spz}
  return readers[path.suffix](path)


def _arkit_csv(folder):
  from sa0_jax.drive.arkit import load_map

  names = [name for name in load_map() if not name.startswith('Head')]
  names = [name[0].upper() + name[1:] for name in names] + ['HeadYaw', 'HeadPitch', 'HeadRoll']
  lines = [','.join(['Timecode', 'BlendShapeCount', *names])]
  for row in range(4):
    stamp = f'00:00:0{row // 2}:{30 * (row % 2):02d}.000'
    lines.append(','.join([stamp, str(len(names)), *['0.25'] * len(names)]))
  (folder / 'take.csv').write_text('\n'.join(lines) + '\n')
  return folder / 'take.csv'


def _read_arkit_csv(path):
  from sa0_jax.drive.arkit import read_arkit_csv
  from sa0_jax.head.registry import load_head

  return read_arkit_csv(path, load_head())


def _arkit_map(folder):
  from sa0_jax.drive.arkit import DEFAULT_MAP

  (folder / 'map.json').write_bytes(DEFAULT_MAP.read_bytes())
  return folder / 'map.json'


def _read_arkit_map(path):
  from sa0_jax.drive.arkit import load_map

  return load_map(path)


def _flame_codes(folder):
  np.savez(folder / 'motion.npz', codes=np.full((5, 112), 0.01, np.float32))
  return folder / 'motion.npz'


def _read_flame_codes(path):
  from sa0_jax.drive.flame_codes import read_flame_codes
  from sa0_jax.head.registry import load_head

  return read_flame_codes(path, load_head())


def _clip_list(folder):
  clips = [{'name': 'anna', 'sources': [0, 4], 'targets': [1, 2, 3]}, {'name': 'bert'}]
  content = {'format': 'sa0-evaluation-list', 'version': 1, 'clips': clips}
  (folder / 'list.json').write_text(json.dumps(content))
  return folder / 'list.json'


def _read_clip_list(path):
  from sa0_jax.evaluate.clips import read_clips

  return read_clips(path)


def _coefficients(folder, suffix):
  path = folder / f'anna{suffix}'
  if suffix == '.npz':
    np.savez(path, frame=np.arange(4), pose=np.full((4, 3), 0.1), embedding=np.ones((4, 8)))
  else:
    rows = ['frame,pose_0,pose_1,pose_2', *(f'{i},0.1,-0.2,0.05' for i in range(4))]
    path.write_text('\n'.join(rows) + '\n')
  return path


def _read_coefficients(path):
  from sa0_jax.evaluate.coefficients import read_table

  return read_table(path)


def _generator(folder):
  from sa0_jax.generator.checkpoint import save_generator
  from tests.generator.tiny import generator

  save_generator(folder / 'g.npz', generator())
  return folder / 'g.npz'


def _read_generator(path):
  from sa0_jax.generator.checkpoint import load_generator

  return load_generator(path)


def _onnx(folder):
  from tests.evaluate.onnx_models import ARCFACE, matrix, network, with_weights_beside, write

  model = network(ARCFACE[0], matrix(ARCFACE[1]))
  (folder / 'w').write_bytes(model.graph.initializer[0].raw_data)
  return write(folder / 'a.onnx', with_weights_beside(model, 'w'))


def _read_onnx(path):
  from sa0_jax.evaluate.face_network import FaceNetwork
  from sa0_jax.evaluate.faces import ARCFACE

  return FaceNetwork(path, ARCFACE)


def _oracle(folder):
  """What `python -m sa0_kernels.bench --oracle` compares with."""
  names = ('img', 'alpha', 'v_means', 'v_quats', 'v_scales', 'v_opac', 'v_feat')
  np.savez(folder / 'oracle.npz', **{name: np.ones((2, 3)) for name in names})
  return folder / 'oracle.npz'


def _read_oracle(path):
  from sa0_kernels.bench import load_oracle

  return load_oracle(str(path))


READERS = {
  'arkit_csv': (_arkit_csv, _read_arkit_csv),
  'arkit_map': (_arkit_map, _read_arkit_map),
  'avatar': (_avatar, _read_avatar),
  'capture_jpg': (functools.partial(_capture, image_format='jpg'), _read_capture),
  'capture_png': (functools.partial(_capture, image_format='png'), _read_capture),
  'clip_list': (_clip_list, _read_clip_list),
  'coefficients_csv': (functools.partial(_coefficients, suffix='.csv'), _read_coefficients),
  'coefficients_npz': (functools.partial(_coefficients, suffix='.npz'), _read_coefficients),
  'flame_codes': (_flame_codes, _read_flame_codes),
  'flame_pickle': (_flame_pickle, _read_flame_pickle),
  'generator': (_generator, _read_generator),
  'head': (_head_file, _read_head),
  'landmark_tracks': (_landmark_tracks, _read_landmark_tracks),
  'landmarks_npy': (_landmark_object, _read_landmarks),
  'landmarks_npz': (_landmarks, _read_landmarks),
  'landmarks_pkl': (_landmark_pickle, _read_landmarks),
  'onnx': (_onnx, _read_onnx),
  'oracle': (_oracle, _read_oracle),
  'pickle': (_python2_pickle, _read_pickle),
  'pictures': (_pictures, _read_pictures),
  'pth_legacy': (functools.partial(_pth, legacy=True), _read_pth),
  'pth_zip': (functools.partial(_pth, legacy=False), _read_pth),
  'ply': (functools.partial(_splats, suffix='.ply'), _read_splats),
  'prepared': (_prepared, _read_prepared),
  'safetensors': (_safetensors, _read_safetensors),
  'safetensors_index': (_safetensors_index, _read_safetensors),
  'splat': (functools.partial(_splats, suffix='.splat'), _read_splats),
  'split': (_split, _read_split),
  'split_list': (_split_list, _read_split_list),
  'spz': (functools.partial(_splats, suffix='.spz'), _read_splats),
  'studio_set': (_studio_set, _read_studio_set),
  'uv_npz': (_uv_npz, _read_uv),
  'uv_obj': (_uv_obj, _read_uv),
  'video': (_video, _read_video),
  'vit': (_vit, _read_vit),
  **RUN_READERS,
  **{
    kind: (functools.partial(_foreign, kind=kind), functools.partial(_read_foreign, kind=kind))
    for kind in _EDITIONS
  },
}

# Damage that once got past a reader, by seed.
FOUND = {
  'arkit_csv': [218],
  'arkit_map': [628],
  'avatar': [91],
  'capture_png': [1596],
  'coefficients_csv': [598],
  'gagavatar_track': [7049],
  'head': [174, 1848],
  'insta': [3556],
  'nersemble': [4427],
  'oracle': [0],
  'ply': [23],
  'prepared': [5],
  'profile': [0],
  'pth_legacy': [390],
  'refine_checkpoint': [8],
  'scores': [147],
  'stages': [11],
  'uv_obj': [8477],
  'vhap': [7988],
  'video': [146],
}
