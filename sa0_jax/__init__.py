"""SpatialAvatar-0 for JAX: animatable Gaussian head avatars.

    import sa0_jax as sa0

    capture = sa0.load_capture('subject/')            # or sa0.track('clip.mp4')
    avatar = sa0.refine(None, capture, sa0.RefineConfig(steps=10_000))
    frame = sa0.render(avatar, capture.frames[7])     # .rgb (h w 3), .alpha (h w)
    avatar.save('subject.sa0')
    sa0.export(avatar, 'subject.ply')

Names load what they need when they are first used: importing this package imports no JAX and
touches no device.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

__version__ = '0.1.0'

__all__ = [
  'Avatar',
  'Camera',
  'Capture',
  'HeadCodes',
  'HeadModel',
  'RefineConfig',
  'Renderer',
  'export',
  'load_capture',
  'load_head',
  'reconstruct',
  'refine',
  'render',
  'track',
]

if TYPE_CHECKING:
  from sa0_kernels import Camera

  from sa0_jax.avatar.avatar import Avatar
  from sa0_jax.capture.capture import Capture, load_capture
  from sa0_jax.capture.track.track import track
  from sa0_jax.export.export import export
  from sa0_jax.generator.reconstruct import reconstruct
  from sa0_jax.head.model import HeadCodes, HeadModel
  from sa0_jax.head.registry import load_head
  from sa0_jax.refine.config import RefineConfig
  from sa0_jax.refine.loop import refine
  from sa0_jax.render import Renderer, render
else:
  _HOMES = {
    'Avatar': 'sa0_jax.avatar.avatar',
    'Camera': 'sa0_kernels',
    'Capture': 'sa0_jax.capture.capture',
    'HeadCodes': 'sa0_jax.head.model',
    'HeadModel': 'sa0_jax.head.model',
    'RefineConfig': 'sa0_jax.refine.config',
    'Renderer': 'sa0_jax.render',
    'export': 'sa0_jax.export.export',
    'load_capture': 'sa0_jax.capture.capture',
    'load_head': 'sa0_jax.head.registry',
    'reconstruct': 'sa0_jax.generator.reconstruct',
    'refine': 'sa0_jax.refine.loop',
    'track': 'sa0_jax.capture.track.track',
    'render': 'sa0_jax.render',
  }

  def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
      raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value

  def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})

  class _Package(types.ModuleType):
    """Keeps `render`, `refine` and `export` the functions users call.

    Importing a submodule sets it as an attribute of its package; where the submodule bears the name
    of a public function, that would hide the function.
    """

    def __setattr__(self, name: str, value: Any) -> None:
      if name not in _HOMES or not isinstance(value, types.ModuleType):
        super().__setattr__(name, value)

  sys.modules[__name__].__class__ = _Package
