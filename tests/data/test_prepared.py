"""Opening data sets that are damaged, of another kind, or of other heads."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from sa0_jax.data.config import DataConfig
from sa0_jax.data.pipeline import Run, make_batches
from sa0_jax.data.prepared import check_room_for_files, open_prepared
from sa0_jax.data.records import decode_pixels, encode_image, encode_matte


@pytest.fixture
def folder(monocular, tmp_path):
  """A copy to be damaged."""
  return shutil.copytree(monocular, tmp_path / 'sa0_monocular' / '1.0.0')


def read_all(folder, split='train'):
  data = open_prepared(folder, split)
  return [data.read(row) for row in range(len(data))]


def test_either_folder_opens(monocular):
  for path in (monocular, Path(monocular).parent):
    data = open_prepared(path, 'val')
    assert (len(data), data.size, data.path) == (7, (32, 32), Path(monocular))


def test_nothing_there(tmp_path):
  with pytest.raises(FileNotFoundError, match='no data set here; make one with `sa0 prepare`'):
    open_prepared(tmp_path, 'train')


@pytest.mark.parametrize(
  ('name', 'change'),
  [
    ('sa0_build.json', lambda data: data[:50]),
    ('sa0_build.json', lambda data: b'[' * 100_000),
    ('sa0_build.json', lambda data: data.replace(b'sa0-data', b'other')),
    ('sa0_build.json', lambda data: data.replace(b'"width": 32', b'"width": -1')),
    ('dataset_info.json', lambda data: data[:50]),
    ('features.json', lambda data: b'{}'),
    ('sa0_index/train/clip.npy', lambda data: data[:100]),
    ('sa0_index/train/clip.npy', lambda data: data[:-4]),
    ('sa0_index/train/view.npy', lambda data: b'\x80\x04K\x01.'),
    ('sa0_index/train/clip.npy', lambda data: data[:-40] + bytes(40)),
    ('sa0_monocular-train.array_record-00001-of-00005', lambda data: data[: len(data) // 2]),
    ('sa0_monocular-train.array_record-00001-of-00005', lambda data: b''),
  ],
)
def test_damage_is_an_error_that_names_the_place(folder, name, change):
  path = folder / name
  path.write_bytes(change(path.read_bytes()))
  with pytest.raises(ValueError, match=re.escape(str(folder))):
    read_all(folder)


def test_missing_files(folder):
  for name in ('sa0_index/train/direction.npy', 'features.json', 'dataset_info.json'):
    (folder / name).unlink()
    with pytest.raises((FileNotFoundError, ValueError), match=re.escape(str(folder))):
      open_prepared(folder, 'train')


def test_an_index_of_another_split(folder):
  shutil.rmtree(folder / 'sa0_index' / 'train')
  shutil.copytree(folder / 'sa0_index' / 'val', folder / 'sa0_index' / 'train')
  with pytest.raises(ValueError, match='does not belong to a split of 21 frames'):
    open_prepared(folder, 'train')


def test_flipped_bits_never_crash(folder):
  """Every record reads as something of its shape, or is an error with a line to act on."""
  rng = np.random.default_rng(0)
  shard = folder / 'sa0_monocular-val.array_record-00000-of-00002'
  sound = shard.read_bytes()
  failures = 0
  for _ in range(60):
    data = bytearray(sound)
    for place in rng.integers(len(data), size=4):
      data[place] ^= 1 << int(rng.integers(8))
    shard.write_bytes(data)
    try:
      shapes = {record.pixels.image.shape for record in read_all(folder, 'val')}
    except ValueError:
      failures += 1
    else:
      assert shapes == {(32, 32, 3)}
  assert failures > 20  # the file has checksums


def test_codes_of_two_heads_are_not_mixed(folder, monocular):
  manifest = json.loads((folder / 'sa0_build.json').read_text())
  manifest['head'] = {'name': 'flame2023', 'fingerprint': '0123456789abcdef'}
  (folder / 'sa0_build.json').write_text(json.dumps(manifest))
  config = DataConfig((monocular, str(folder)))
  with pytest.raises(ValueError, match=r"head model 'flame2023' .* they cannot be mixed"):
    make_batches(config, Run(2, 32, 3))


def test_images_of_another_size_are_refused_before_they_are_decoded():
  pixels = np.zeros((8, 8), np.uint8)
  image, matte = encode_image(np.stack([pixels] * 3, axis=-1), 95), encode_matte(pixels)
  assert decode_pixels(image, matte, (8, 8)).image.shape == (8, 8, 3)
  place = image.index(b'\xff\xc0') + 5
  huge = image[:place] + b'\xff\xdc\xff\xdc' + image[place + 4 :]
  wide = matte[:16] + b'\x7f\xff\xff\xff' + matte[20:]
  for bad in ((huge, matte), (image, wide), (matte, matte), (image, image), (b'', b'')):
    with pytest.raises(ValueError, match='no JPEG or PNG of 8 x 8 px'):
      decode_pixels(*bad, (8, 8))


def test_thousands_of_shards_find_room_or_an_error(monkeypatch):
  resource = pytest.importorskip('resource')
  asked = []
  monkeypatch.setattr(resource, 'getrlimit', lambda _: (1024, 4096))
  monkeypatch.setattr(resource, 'setrlimit', lambda _, limits: asked.append(limits))
  check_room_for_files(100, 'x')
  assert asked == []
  check_room_for_files(2000, 'x')
  [(allowed, most)] = asked
  assert 2256 <= allowed <= most == 4096
  with pytest.raises(ValueError, match=r'x: its 5000 shards need \d+ open files, .* allows 4096'):
    check_room_for_files(5000, 'x')


def test_the_layout_has_a_version(folder):
  manifest = json.loads((folder / 'sa0_build.json').read_text())
  (folder / 'sa0_build.json').write_text(json.dumps(manifest | {'version': '2.0.0'}))
  with pytest.raises(ValueError, match=r"record layout '2\.0\.0'; this program reads 1\.0\.0"):
    open_prepared(folder, 'train')
