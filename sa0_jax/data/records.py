"""One frame as a record of a data set: encoded images, codes, camera, ids.

Records are serialised `tf.train.Example`s, which TFDS writes and reads without TensorFlow.
"""

import dataclasses
import io
from collections.abc import Mapping

import cv2
import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, UInt8
from tensorflow_datasets.proto import tf_example_pb2

from sa0_jax.capture import image_files
from sa0_jax.capture.capture import Capture, FileImages, ImagePair, StoredImages
from sa0_jax.head.model import HeadCodes, HeadModel

CODES = tuple(field.name for field in dataclasses.fields(HeadCodes))
# A matte is flat almost everywhere: without PNG's row filters it decodes in half the time, and is
# hardly larger.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 3, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE)
_EMPTY = 128  # a matte with nothing brighter shows no head


class BadFrameError(ValueError):
  """A frame that cannot be used, with the reason."""


def frame_features(head: HeadModel, size: tuple[int, int]) -> tfds.features.FeaturesDict:
  """What a record holds.

  Args:
    head: the head model of its codes.
    size: of the images, width and height.
  """

  def floats(*shape: int) -> tfds.features.Tensor:
    return tfds.features.Tensor(shape=shape, dtype=np.float32)

  width, height = size
  lengths = {'shape': head.num_shape, 'expression': head.num_expression, 'eyes': 6}
  return tfds.features.FeaturesDict(
    {
      'image': tfds.features.Image(shape=(height, width, 3), encoding_format='jpeg'),
      'matte': tfds.features.Image(shape=(height, width, 1), encoding_format='png'),
      **{name: floats(lengths.get(name, 3)) for name in CODES},
      'world_to_camera': floats(4, 4),
      'intrinsics': floats(4),
      'face_box': floats(4),
      'subject': tfds.features.Text(),
      'clip': tfds.features.Text(),
      'frame': np.int64,
      'time': np.float32,
      'view': np.int64,
      'head': tfds.features.Text(),
      'head_fingerprint': tfds.features.Text(),
    }
  )


@dataclasses.dataclass(frozen=True)
class Encoder:
  """Frames of captures as records.

  Attributes:
    features: from `frame_features`.
    size: of the images, width and height.
    jpeg_quality: of images that must be encoded again.
  """

  features: tfds.features.FeaturesDict
  size: tuple[int, int]
  jpeg_quality: int

  def __call__(
    self, capture: Capture, position: int, labels: Mapping[str, str], box: Float[np.ndarray, ' 4']
  ) -> bytes:
    """One frame.

    Args:
      capture: the clip.
      position: of the frame in it.
      labels: 'subject' and 'clip'.
      box: around the face in the capture's pixels: left, top, right, bottom.

    Raises:
      BadFrameError: its image or matte is missing, damaged or empty.
    """
    image, matte = _images(capture, position, self.size, self.jpeg_quality)
    camera = capture.frame_camera(position).resized(*self.size)
    codes = capture.frame_codes(position)
    scale = np.array(self.size, np.float32) / (capture.width, capture.height)
    example = {
      'image': io.BytesIO(image),
      'matte': io.BytesIO(matte),
      **{name: np.asarray(getattr(codes, name), np.float32) for name in CODES},
      'world_to_camera': np.asarray(camera.world_to_camera, np.float32),
      'intrinsics': np.asarray(camera.intrinsics, np.float32),
      'face_box': (box * np.tile(scale, 2)).astype(np.float32),
      **labels,
      'frame': int(capture.ids[position]),
      'time': float(capture.times[position]),
      'view': int(capture.view_ids[position]),
      'head': capture.head_name,
      'head_fingerprint': capture.head_fingerprint,
    }
    # Serialised again: the fields of a message have no order of their own, but equal frames must
    # give equal bytes.
    message = tf_example_pb2.Example.FromString(self.features.serialize_example(example))
    return message.SerializeToString(deterministic=True)


def _images(
  capture: Capture, position: int, size: tuple[int, int], quality: int
) -> tuple[bytes, bytes]:
  """Image as JPEG, matte as PNG."""
  source = capture.source
  try:
    if isinstance(source, StoredImages):
      (image, matte), stored, _ = source.load_stored(position)
    else:
      (image, matte), stored = source.load(position), None
  except (OSError, ValueError) as error:
    # Without the place on this machine: the report is part of the data set.
    where = f'{source.folder}/' if isinstance(source, FileImages) else ''
    raise BadFrameError(str(error).replace(where, '')) from error
  if matte.max() < _EMPTY:
    raise BadFrameError('the matte is empty')
  if size != (capture.width, capture.height):
    image, matte = (image_files.resize(x, size) for x in (image, matte))
  elif stored and (header := image_files.stored_header(stored)) is not None and header.plain:
    return stored, encode_matte(matte)  # no second loss
  return encode_image(image, quality), encode_matte(matte)


def encode_image(image: UInt8[np.ndarray, 'h w 3'], quality: int) -> bytes:
  """An RGB image as JPEG."""
  ordered = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
  return cv2.imencode('.jpg', ordered, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def encode_matte(matte: UInt8[np.ndarray, 'h w']) -> bytes:
  """A matte as PNG, exactly."""
  return cv2.imencode('.png', matte, _PNG)[1].tobytes()


def decode_pixels(image: bytes, matte: bytes, size: tuple[int, int]) -> ImagePair:
  """Image and matte of a record.

  Args:
    image: JPEG.
    matte: PNG.
    size: what both must be, width and height.

  Raises:
    ValueError: one of them is damaged or of another size.
  """
  heads = [image_files.stored_header(data) for data in (image, matte)]
  if [head and head[:3] for head in heads] != [('jpg', *size), ('png', *size)]:
    raise ValueError(f'image or matte is no JPEG or PNG of {size[0]} x {size[1]} px')
  flags = cv2.IMREAD_IGNORE_ORIENTATION
  color = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR_RGB | flags)
  gray = cv2.imdecode(np.frombuffer(matte, np.uint8), cv2.IMREAD_GRAYSCALE | flags)
  if color is None or gray is None:
    raise ValueError('image or matte is damaged')
  return ImagePair(color, gray)
