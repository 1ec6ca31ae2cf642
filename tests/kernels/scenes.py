"""Small random scenes for the rasterizer's tests."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from sa0_kernels import Camera, RasterConfig, RasterOutput, rasterize


@dataclasses.dataclass(frozen=True)
class Scene:
  """A scene as NumPy arrays, so that tests can change anything."""

  means: np.ndarray
  quats: np.ndarray
  scales: np.ndarray
  opacities: np.ndarray
  features: np.ndarray
  background: np.ndarray
  world_to_camera: np.ndarray
  intrinsics: np.ndarray
  width: int
  height: int

  def arrays(self):
    """The differentiable arrays, by name."""
    fields = dataclasses.fields(self)
    return {f.name: getattr(self, f.name) for f in fields if f.name not in ('width', 'height')}

  def render(self, implementation, config=None, **replaced) -> RasterOutput:
    """Renders, with arrays replaced by name."""
    arrays = {**self.arrays(), **replaced}
    return _render(arrays, (self.width, self.height), implementation, config or RasterConfig())

  def gradients(self, implementation, config=None, seed=7):
    """Gradients of a random linear functional of image and alpha, by array name."""
    rng = np.random.default_rng(seed)
    d_features = rng.normal(size=(self.height, self.width, self.features.shape[1]))
    d_alpha = rng.normal(size=(self.height, self.width))
    cotangents = (d_features.astype(self.means.dtype), d_alpha.astype(self.means.dtype))
    size = (self.width, self.height)
    return _gradients(self.arrays(), cotangents, size, implementation, config or RasterConfig())


def rasterize_arrays(arrays, size, implementation, config=None) -> RasterOutput:
  """`rasterize` on a dictionary of named arrays."""
  arrays = dict(arrays)
  config = dataclasses.replace(config or RasterConfig(), background=arrays.pop('background'))
  camera = Camera(arrays.pop('world_to_camera'), arrays.pop('intrinsics'), *size)
  return rasterize(**arrays, camera=camera, config=config, implementation=implementation)


# Compiled once per shape and implementation: compiling is most of what these tests cost.
@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _render(arrays, size, implementation, config):
  return rasterize_arrays(arrays, size, implementation, config)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _gradients(arrays, cotangents, size, implementation, config):
  def loss(arrays):
    output = rasterize_arrays(arrays, size, implementation, config)
    return jnp.sum(output.features * cotangents[0]) + jnp.sum(output.alpha * cotangents[1])

  return jax.grad(loss)(arrays)


def random_scene(
  num_gaussians=100, width=40, height=24, channels=3, seed=0, dtype=np.float32
) -> Scene:
  """Gaussians of 1 to 4 px in a box in front of a slightly turned, off-centre camera."""
  rng = np.random.default_rng(seed)
  extent = np.array([width, height, 0.5 * width]) / 60.0
  means = rng.uniform(-0.5, 0.5, size=(num_gaussians, 3)) * extent
  angle = 0.2
  view = np.eye(4)
  view[:3, :3] = [
    [np.cos(angle), 0, np.sin(angle)],
    [0, 1, 0],
    [-np.sin(angle), 0, np.cos(angle)],
  ]
  view[:3, 3] = [0.02, -0.03, 2.0]
  focal = 110.0
  arrays = {
    'means': means,
    'quats': rng.normal(size=(num_gaussians, 4)),
    'scales': np.exp(rng.uniform(np.log(0.012), np.log(0.06), size=(num_gaussians, 3))),
    'opacities': rng.uniform(0.2, 0.95, size=num_gaussians),
    'features': rng.normal(size=(num_gaussians, channels)),
    'background': rng.uniform(size=channels),
    'world_to_camera': view,
    'intrinsics': np.array([focal, 1.05 * focal, 0.5 * width + 1.3, 0.5 * height - 0.7]),
  }
  return Scene(**{k: v.astype(dtype) for k, v in arrays.items()}, width=width, height=height)


def relative_error(actual, expected) -> float:
  """‖actual − expected‖ / ‖expected‖."""
  actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
  return float(np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-30))
