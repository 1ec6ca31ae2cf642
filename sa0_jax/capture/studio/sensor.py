"""What a camera does to a picture: focus, exposure, white balance, noise, compression.

The studio's own camera is perfect; data sets come from real ones. Nothing here moves a pixel:
codes and cameras stay exact, and the matte is softened by the lens as the picture is.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8

# Images to which blur and grain are referred: real cameras resolve more in larger pictures.
_REFERENCE = 256


@dataclasses.dataclass(frozen=True)
class Sensor:
  """A camera's imperfections, the same for all frames of a session except for the grain.

  Attributes:
    blur: standard deviation of the lens' softness in pixels of a 256-pixel image.
    exposure: factor on the light.
    balance: factors on red, green and blue: a white balance that is a little off.
    contrast: exponent around middle grey; 1 leaves it.
    saturation: of colours; 1 leaves it.
    vignette: share of the light missing in the corners.
    shot: standard deviation of photon noise at white.
    read: standard deviation of the noise in the dark.
    quality: of a JPEG the picture has been through, 1 to 100; 0 for none.
    seed: of the grain.
  """

  blur: float
  exposure: float
  balance: tuple[float, float, float]
  contrast: float
  saturation: float
  vignette: float
  shot: float
  read: float
  quality: int
  seed: int


def sample_sensor(stream: np.random.SeedSequence) -> Sensor:
  """Draws a camera, from a good one in good light to a telephone in the evening."""
  rng = np.random.default_rng(stream)
  grain = float(np.exp(rng.uniform(np.log(0.002), np.log(0.018))))
  warmth, green = rng.normal(0.0, 0.05), rng.normal(0.0, 0.015)
  return Sensor(
    blur=float(rng.uniform(0.0, 0.75)),
    exposure=float(np.exp(rng.normal(0.0, 0.16))),
    balance=(float(1 + warmth), float(1 + green), float(1 - warmth)),
    contrast=float(np.exp(rng.normal(0.0, 0.10))),
    saturation=float(np.clip(rng.normal(1.0, 0.13), 0.6, 1.4)),
    vignette=float(max(0.0, rng.normal(0.08, 0.10))),
    shot=grain,
    read=0.35 * grain * float(rng.uniform(0.5, 1.5)),
    quality=0 if rng.random() < 0.3 else int(rng.integers(45, 96)),
    seed=int(rng.integers(2**31)),
  )


def expose(
  sensor: Sensor,
  linear: Float[np.ndarray, 'h w 3'],
  matte: Float[np.ndarray, 'h w'],
  number: int,
) -> tuple[UInt8[np.ndarray, 'h w 3'], Float[np.ndarray, 'h w']]:
  """Takes a picture.

  Args:
    sensor: the camera.
    linear: [h, w, 3] what a perfect one sees, linear.
    matte: [h, w] what of it is the subject, 0 to 1.
    number: of the picture in its session: every one has grain of its own.

  Returns:
    ([h, w, 3] sRGB, [h, w] float32 matte).
  """
  from sa0_jax.capture.studio.shading import to_srgb8

  size = len(linear)
  sigma = sensor.blur * size / _REFERENCE
  seen, matte = _softened(linear, sigma), _softened(matte, sigma)
  at = (np.arange(size) + 0.5) / size - 0.5
  corner = 2 * (at[None, :] ** 2 + at[:, None] ** 2)
  light = seen * (sensor.exposure * np.asarray(sensor.balance))
  light = light * (1 - sensor.vignette * corner)[..., None]
  rng = np.random.default_rng([sensor.seed, number])
  grain = rng.standard_normal(light.shape)
  # Demosaicing and denoising leave no grain of a single pixel; its strength stays.
  grain = 1.55 * _softened(grain, 0.5)
  spread = np.sqrt(sensor.read**2 + sensor.shot**2 * np.maximum(light, 0))
  light = np.maximum(light + spread * grain, 0)
  grey = (light @ np.array([0.2126, 0.7152, 0.0722]))[..., None]
  light = np.maximum(grey + sensor.saturation * (light - grey), 0)
  light = 0.18 * (light / 0.18) ** sensor.contrast
  return _compressed(to_srgb8(light), sensor.quality), matte


def _softened(image: np.ndarray, sigma: float) -> np.ndarray:
  import cv2  # here: it takes longer to import than the rest of the package

  if sigma < 0.2:  # nothing that sampling at pixels could show
    return image
  return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)


def _compressed(image: UInt8[np.ndarray, 'h w 3'], quality: int) -> UInt8[np.ndarray, 'h w 3']:
  if quality == 0:
    return image
  import cv2

  done, data = cv2.imencode(
    '.jpg', np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality]
  )
  if not done:
    raise ValueError(
      f'sensor: OpenCV cannot write a JPEG of {image.shape[1]} x {image.shape[0]} px'
    )
  return cv2.cvtColor(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)
