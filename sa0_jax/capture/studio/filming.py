"""Filming: subjects, performances, light and cameras become Captures with exact codes."""

import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float, UInt8
from sa0_kernels import Camera

from sa0_jax.capture.capture import Capture, MemoryImages
from sa0_jax.capture.studio.backgrounds import Background, paint_background, sample_background
from sa0_jax.capture.studio.cameras import (
  CameraRig,
  backdrop_image,
  make_cameras,
  sample_cameras,
)
from sa0_jax.capture.studio.config import StudioConfig
from sa0_jax.capture.studio.extras import DRAWN, NONE, add_beard, add_glasses
from sa0_jax.capture.studio.figure import Figure, build_figure
from sa0_jax.capture.studio.light import LightRig, sample_light
from sa0_jax.capture.studio.performance import Performance, perform, sample_performance
from sa0_jax.capture.studio.posing import pose_figures
from sa0_jax.capture.studio.sensor import Sensor, expose, sample_sensor
from sa0_jax.capture.studio.shading import Pose, light_figure, render, to_srgb8
from sa0_jax.capture.studio.skin_paint import skin_base
from sa0_jax.capture.studio.subject import Look, Subject, sample_subject
from sa0_jax.capture.studio.texture import TextureSize
from sa0_jax.head.model import HeadCodes
from sa0_jax.head.procedural import load_procedural_head, load_procedural_semantics

Progress = Callable[[int, int], None]

# Reflectance that needs no correction, and how far a photographer opens up for darker skin.
_MIDDLE_SKIN, _OPEN_UP = 0.42, 0.38


@dataclasses.dataclass(frozen=True, eq=False)
class Session:
  """Everything that is drawn before filming; change parts with `dataclasses.replace`.

  Attributes:
    subject: who.
    performance: how they move.
    light: how they are lit.
    cameras: who watches.
    background: what is behind; None is the studio's own.
    sensor: the cameras' imperfections; None for perfect ones.
  """

  subject: Subject
  performance: Performance
  light: LightRig
  cameras: CameraRig
  background: Background | None = None
  sensor: Sensor | None = None


@dataclasses.dataclass(frozen=True)
class Stock:
  """What is filmed on.

  Attributes:
    frames: frames of a video, or instants of a multi-view session.
    fps: of these a second.
    resolution: side of the square images, px.
    supersampling: samples along each side of a pixel.
    threads: pictures taken at once; None takes as many as there are processors.
  """

  frames: int
  fps: float
  resolution: int = 256
  supersampling: int = 2
  threads: int | None = None


def sample_session(config: StudioConfig) -> Session:
  """Draws a session; its parts come from independent streams of the seed.

  Args:
    config: what to film.
  """
  # New streams are added at the end: the earlier ones stay what they were.
  streams = np.random.SeedSequence(config.seed).spawn(8)
  identity, motion, light, cameras, beard, glasses, background, sensor = streams
  head = load_procedural_head()
  subject = sample_subject(config.seed, head, identity)
  if config.hair is not None:
    hair = dataclasses.replace(subject.look.hair, style=config.hair)
    look = dataclasses.replace(subject.look, hair=hair)
    subject = dataclasses.replace(subject, look=look)
  subject = add_beard(subject, head, config.beard, beard)
  subject = add_glasses(subject, head, config.glasses, glasses)
  place = None
  if config.background != NONE:
    kind = None if config.background == DRAWN else config.background
    place = sample_background(background, kind)
  count = config.cameras if config.kind == 'multiview' else 1
  return Session(
    subject,
    sample_performance(np.random.default_rng(motion)),
    sample_light(np.random.default_rng(light)),
    sample_cameras(np.random.default_rng(cameras), count),
    place,
    sample_sensor(sensor) if config.sensor == DRAWN else None,
  )


def film(
  config: StudioConfig, progress: Progress | None = None, threads: int | None = None
) -> Capture:
  """Films a synthetic subject.

  Args:
    config: who, how and how long.
    progress: called with (pictures done, pictures in all) after each.
    threads: pictures taken at once, as in `Stock`; it changes no bit.

  Returns:
    A capture in memory whose codes, cameras and mattes are exact; `Capture.save` writes it.

  Raises:
    ImportError: numba is missing.
  """
  session = sample_session(config)
  stock = Stock(config.frames, config.rate, config.resolution, config.supersampling, threads)
  shoot = film_multiview if config.kind == 'multiview' else film_monocular
  return shoot(session, stock, progress)


def film_monocular(session: Session, stock: Stock, progress: Progress | None = None) -> Capture:
  """Films a video with the session's first camera.

  Args:
    session: who, how, in what light.
    stock: length, rate and size.
    progress: as in `film`.
  """
  return _film(session, stock, 1, progress)


def film_multiview(session: Session, stock: Stock, progress: Progress | None = None) -> Capture:
  """Films with all cameras of the session at once.

  Frames are ordered by instant, then camera: `ids` and `times` tell the instants apart, `view_ids`
  the cameras.

  Args:
    session: who, how, in what light; `session.cameras` has several views.
    stock: instants, rate and size.
    progress: as in `film`.
  """
  return _film(session, stock, len(session.cameras.views), progress)


def _film(session: Session, stock: Stock, views: int, progress: Progress | None) -> Capture:
  head = load_procedural_head()
  figure = build_figure(
    session.subject,
    head,
    load_procedural_semantics(),
    TextureSize.for_images(stock.resolution),
  )
  times = np.arange(stock.frames) / stock.fps
  codes = perform(session.performance, head, session.subject.shape, times)
  used = dataclasses.replace(session.cameras, views=session.cameras.views[:views])
  cameras = make_cameras(used, stock.resolution)
  source = _shoot(figure, codes, cameras, session, stock, progress)
  instant = np.repeat(np.arange(stock.frames), views)
  view = np.tile(np.arange(views), stock.frames)
  moving = {
    field.name: getattr(codes, field.name)[instant]
    for field in dataclasses.fields(HeadCodes)
    if field.name != 'shape'
  }
  return Capture(
    name=session.subject.name,
    head_name=head.name,
    head_fingerprint=head.fingerprint,
    codes=HeadCodes(shape=codes.shape, **moving),
    camera=Camera(
      np.asarray(cameras.world_to_camera)[view],
      np.asarray(cameras.intrinsics)[view],
      stock.resolution,
      stock.resolution,
    ),
    source=source,
    ids=instant.astype(np.int64),
    times=times[instant],
    view_ids=view.astype(np.int64),
    fps=stock.fps,
  )


def _shoot(
  figure: Figure,
  codes: HeadCodes,
  cameras: Camera,
  session: Session,
  stock: Stock,
  progress: Progress | None,
) -> MemoryImages:
  """All pictures, instant after instant; as many views as `cameras` has."""
  head, views = figure.head, len(np.asarray(cameras.intrinsics))
  total = stock.frames * views
  exposure = exposure_for(figure.subject.look)
  backdrops = paint_backdrops(session, cameras)
  size = stock.resolution
  images = np.empty((total, size, size, 3), np.uint8)
  mattes = np.empty((total, size, size), np.uint8)

  def shoot(instant: int, pose: Pose) -> None:
    lit = light_figure(figure, pose, session.light, exposure)
    for view in range(views):
      at = instant * views + view
      camera = Camera(
        np.asarray(cameras.world_to_camera)[view], np.asarray(cameras.intrinsics)[view], size, size
      )
      linear, matte = render(figure, lit, camera, backdrops[view], stock.supersampling)
      images[at], mattes[at] = develop(session.sensor, linear, matte, at)

  # Instants in parallel: loops run without the interpreter's lock, and compile in half the time
  # that loops with threads of their own take.
  with ThreadPoolExecutor(stock.threads or os.cpu_count()) as pool:
    done = 0
    for _ in pool.map(shoot, range(stock.frames), pose_figures(head, codes)):
      for _ in range(views):
        done += 1
        if progress is not None:
          progress(done, total)
  return MemoryImages(images, mattes)


def paint_backdrops(session: Session, cameras: Camera) -> list[np.ndarray]:
  """What every camera sees behind the subject, [h, w, 3] float32 linear.

  Args:
    session: whose background and light.
    cameras: [c, …] the cameras.
  """
  views = len(np.asarray(cameras.intrinsics))
  if session.background is None:
    return [backdrop_image(cameras, session.light.backdrop)] * views
  return [paint_background(session.background, view, cameras.width) for view in range(views)]


def develop(
  sensor: Sensor | None,
  linear: Float[np.ndarray, 'h w 3'],
  matte: Float[np.ndarray, 'h w'],
  number: int,
) -> tuple[UInt8[np.ndarray, 'h w 3'], UInt8[np.ndarray, 'h w']]:
  """What `render` gives, as the pixels of a capture.

  Args:
    sensor: the camera's imperfections, or None.
    linear: [h, w, 3] float32 picture.
    matte: [h, w] float32.
    number: of the picture in its session.
  """
  if sensor is None:
    image = to_srgb8(linear)
  else:
    image, matte = expose(sensor, linear, matte, number)
  return image, np.round(255 * np.clip(matte, 0, 1)).astype(np.uint8)


def exposure_for(look: Look) -> float:
  """Factor on all light: photographers open up a little for darker skin."""
  luminance = float(skin_base(look.skin) @ np.array([0.2126, 0.7152, 0.0722]))
  return (_MIDDLE_SKIN / luminance) ** _OPEN_UP
