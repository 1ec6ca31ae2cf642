"""The feed-forward generator: one to four portraits in, an animatable avatar out (METHOD §4).

    generator = Generator(config, rngs=nnx.Rngs(0))
    identity = generator.encode(sources, arrays.uv)          # once per person
    decoded = generator.decode(identity, view, codes, arrays.rest)  # per frame
    avatar = bake(generator, identity, rig, shape)           # what users keep

Encoder, warp, pool and UV network run once per person; only the five heads see the view direction
and only the residual head the target frame's codes.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key
from sa0_kernels import Camera

from sa0_jax.avatar.activations import POSITION_BOUND
from sa0_jax.avatar.avatar import Avatar
from sa0_jax.avatar.gaussians import BoundGaussians
from sa0_jax.generator import residual as residual_lib
from sa0_jax.generator.decoder import (
  DecodedMaps,
  Decoder,
  DecoderConfig,
  RestGaussians,
  rest_gaussians,
  to_bound_gaussians,
  view_encoding,
)
from sa0_jax.generator.dpt import DptConfig, DptHead
from sa0_jax.generator.pool import AttentionPool, AttentionPoolConfig, mean_pool
from sa0_jax.generator.residual import Residual, ResidualConfig, ResidualHead
from sa0_jax.generator.style_unet import StyleUNet, StyleUNetConfig
from sa0_jax.generator.uv_warp import SourceMaps, UVArrays, VisibilityConfig, barycentric_warp
from sa0_jax.generator.vit import VIT_PRESETS, Vit, VitConfig
from sa0_jax.head.model import HeadCodes, HeadModel
from sa0_jax.head.uv_layout import UVLayout

MAX_SOURCES = 4


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
  """The whole network; the defaults are the published one with our decisions.

  Attributes:
    encoder: vision transformer.
    dpt: dense prediction head on it.
    unet: network in UV space.
    decoder: the five heads.
    residual: corrections by the target frame's codes.
    use_residual: without, there are none (the ablation).
    uv_size: side of the UV image; the number of Gaussians follows from it.
    image_size: side of the source images, px.
    pool: 'mean' of the sources, or 'attention' (the ablation).
    visibility: weigh sources by a depth test; the paper does not.
    position_bound: local positions stay within ± this, triangle units.
    dtype: of products, 'float32' or 'bfloat16'; parameters and geometry are float32.
  """

  encoder: VitConfig = VIT_PRESETS['dinov3_vitb16']
  dpt: DptConfig = dataclasses.field(default_factory=DptConfig)
  unet: StyleUNetConfig = dataclasses.field(default_factory=StyleUNetConfig)
  decoder: DecoderConfig = dataclasses.field(default_factory=DecoderConfig)
  residual: ResidualConfig = dataclasses.field(default_factory=ResidualConfig)
  use_residual: bool = True
  uv_size: int = 256
  image_size: int = 512
  pool: Literal['mean', 'attention'] = 'mean'
  visibility: bool = False
  position_bound: float = POSITION_BOUND
  dtype: Literal['float32', 'bfloat16'] = 'float32'

  def __post_init__(self) -> None:
    if self.pool not in ('mean', 'attention'):
      raise ValueError(f"GeneratorConfig: pool is 'mean' or 'attention', got {self.pool!r}")
    if self.dtype not in ('float32', 'bfloat16'):
      raise ValueError(f"GeneratorConfig: dtype is 'float32' or 'bfloat16', got {self.dtype!r}")
    if self.image_size < 1 or self.image_size % self.encoder.patch_size:
      raise ValueError(
        f'GeneratorConfig: image_size must be a multiple of the patch size '
        f'{self.encoder.patch_size}, got {self.image_size}'
      )
    features = self.unet.out_channels
    for name, value, other, expected in (
      ('unet.size', self.unet.size, 'uv_size', self.uv_size),
      # The warp brings colours beside the features.
      (
        'unet.in_channels',
        self.unet.in_channels,
        'dpt.out_channels + 3',
        self.dpt.out_channels + 3,
      ),
      ('decoder.channels', self.decoder.channels, 'unet.out_channels', features),
      ('residual.channels', self.residual.channels, 'unet.out_channels', features),
    ):
      if value != expected:
        raise ValueError(
          f'GeneratorConfig: {name} must be {other} = {expected}, got {value}: change them together'
        )


class RigArrays(NamedTuple):
  """What compiled functions need of a head.

  Attributes:
    uv: its valid texels.
    rest: where Gaussians lie by default.
    faces: [f, 3] triangles of the mesh.
  """

  uv: UVArrays
  rest: RestGaussians
  faces: Int[Array, 'f 3']


@dataclasses.dataclass(frozen=True, eq=False)
class Rig:
  """A head model as the generator needs it.

  Attributes:
    head: the model.
    arrays: what compiled functions need of it.
  """

  head: HeadModel
  arrays: RigArrays

  @classmethod
  def from_head(cls, head: HeadModel, uv_size: int) -> 'Rig':
    """Lays out a head's UV unwrap.

    Raises:
      ValueError: the head has no UV.
    """
    layout = UVLayout.from_head(head, uv_size)
    uv, rest = UVArrays.from_layout(layout, head), rest_gaussians(head, layout)
    return cls(head, RigArrays(uv, rest, jnp.asarray(head.faces)))


class Sources(NamedTuple):
  """Portraits of b people, k each; absent ones are padding, so that one program serves 1 to 4.

  Attributes:
    image: [b, k, s, s, 3] RGB in [0, 1], the head over black.
    vertices: [b, k, v, 3] each frame's posed mesh, metres, world.
    camera: [b, k] cameras of these images.
    mask: [b, k] False for padding, whose other entries may be anything finite.
  """

  image: Float[Array, 'b k s s 3']
  vertices: Float[Array, 'b k v 3']
  camera: Camera
  mask: Bool[Array, 'b k']


class Identity(NamedTuple):
  """What is known of b people.

  Attributes:
    features: [b, n, c] UV features of the valid texels.
    rgb: [b, n, 3] mean colour of the sources there.
  """

  features: Float[Array, 'b n c']
  rgb: Float[Array, 'b n 3']


class Decoded(NamedTuple):
  """One target frame of each of b people.

  Attributes:
    gaussians: in the frames of the triangles; bind them to the target frame's mesh.
    maps: what the heads said, residual included.
    residual: what of it depends on the codes.
  """

  gaussians: BoundGaussians
  maps: DecodedMaps
  residual: Residual


class Generator(nnx.Module):
  """Portraits to Gaussians. Split it once (`nnx.split`) and use plain `jax.jit` and `jax.grad`."""

  def __init__(self, config: GeneratorConfig, *, rngs: nnx.Rngs):
    """Makes a network with random weights; load an encoder's with `vit_weights.load_vit`."""
    dtype = jnp.dtype(config.dtype)
    self.encoder = Vit(config.encoder, rngs=rngs, dtype=dtype)
    self.dpt = DptHead(config.dpt, config.encoder.width, rngs=rngs, dtype=dtype)
    self.unet = StyleUNet(config.unet, config.encoder.width, rngs=rngs, dtype=dtype)
    if config.pool == 'attention':
      self.pool_uv = AttentionPool(
        AttentionPoolConfig(config.unet.in_channels, num_heads=1), rngs=rngs, dtype=dtype
      )
      self.pool_cls = AttentionPool(
        AttentionPoolConfig(config.encoder.width, num_heads=1), rngs=rngs, dtype=dtype
      )
    self.decoder = Decoder(config.decoder, rngs=rngs, dtype=dtype)
    if config.use_residual:
      self.residual = ResidualHead(config.residual, rngs=rngs)
    self.config = config

  def encode(self, sources: Sources, uv: UVArrays, key: Key[Array, ' b'] | None = None) -> Identity:
    """Looks at the portraits.

    Args:
      sources: of b people.
      uv: the valid texels, at `config.uv_size`.
      key: each person's, for the UV network's noise where its config asks for some.

    Raises:
      ValueError: sizes other than the configuration's, or no or too many sources.
    """
    self._check(sources, uv)
    batch, count = sources.mask.shape
    flat = jax.tree.map(lambda a: jnp.reshape(a, (batch * count, *a.shape[2:])), sources)
    with jax.named_scope('encoder'):
      seen = self.encoder(flat.image)
    with jax.named_scope('dpt'):
      dense = self.dpt(seen.maps, seen.cls, flat.image)
    test = VisibilityConfig() if self.config.visibility else None
    maps = SourceMaps(dense, flat.image.astype(dense.dtype))
    with jax.named_scope('warp'):
      warped = barycentric_warp(maps, flat.vertices, flat.camera, uv, test)
    both = jnp.concatenate([warped.features, warped.rgb], axis=-1)
    both = both.reshape(batch, count, *both.shape[1:])
    rgb = uv.layout.from_image(warped.rgb.astype(jnp.float32))
    rgb = rgb.reshape(batch, count, *rgb.shape[1:])
    cls = seen.cls.reshape(batch, count, -1)
    if warped.visibility is not None:
      seen_by = warped.visibility.reshape(batch, count, *warped.visibility.shape[1:])
      share = visible_share(seen_by, sources.mask)
      both = both * share[..., None].astype(both.dtype)
      rgb = rgb * uv.layout.from_image(share[..., None])
    pooled, style = self._pool(both, cls, sources.mask)
    with jax.named_scope('unet'):
      grid = self.unet(pooled, style, uv.valid, key)
    return Identity(uv.layout.from_image(grid), mean_pool(rgb, sources.mask))

  def decode(
    self,
    identity: Identity,
    view: Float[Array, 'b 3'],
    codes: HeadCodes,
    rest: RestGaussians,
  ) -> Decoded:
    """Makes the Gaussians of one target frame a person.

    Args:
      identity: from `encode`.
      view: `optical_axis` of the target cameras, unit vectors in world coordinates.
      codes: of the target frames, [b]; the shape code plays no part.
      rest: where Gaussians lie by default, from `rest_gaussians`.
    """
    with jax.named_scope('decoder'):
      maps = self.decoder(identity.features, view_encoding(view), identity.rgb)
    with jax.named_scope('residual'):
      if self.config.use_residual:
        condition = residual_lib.condition_from_codes(codes)
        residual = self.residual(identity.features, condition)
      else:
        residual = residual_lib.no_residual(maps)
      maps = residual_lib.apply_residual(maps, residual)
    return Decoded(to_bound_gaussians(maps, rest, self.config.position_bound), maps, residual)

  def _pool(
    self, uv: Float[Array, 'b k r r c'], cls: Float[Array, 'b k d'], mask: Bool[Array, 'b k']
  ) -> tuple[Float[Array, 'b r r c'], Float[Array, 'b d']]:
    if self.config.pool == 'mean':
      return mean_pool(uv, mask), mean_pool(cls, mask)
    return self.pool_uv(uv, mask), self.pool_cls(cls, mask)

  def _check(self, sources: Sources, uv: UVArrays) -> None:
    count, size = sources.mask.shape[1], self.config.image_size
    if not 1 <= count <= MAX_SOURCES:
      raise ValueError(f'Generator: 1 to {MAX_SOURCES} sources, got {count}')
    if sources.image.shape[2:4] != (size, size):
      raise ValueError(
        f'Generator: source images are {sources.image.shape[3]} x {sources.image.shape[2]} px, '
        f'this generator takes {size} x {size}'
      )
    if uv.layout.resolution != self.config.uv_size:
      raise ValueError(
        f'Generator: the UV layout is of {uv.layout.resolution} texels, this generator of '
        f'{self.config.uv_size}'
      )


def visible_share(
  visibility: Float[Array, 'b k rows columns'], mask: Bool[Array, 'b k']
) -> Float[Array, 'b k rows columns']:
  """Weights that turn a mean over the sources into one over those that see a texel.

  Where none does, all count as without the test; the mean of the weights over the sources is 1.
  """
  there = mask[:, :, None, None].astype(jnp.float32)
  seen = visibility * there
  seen = jnp.where(jnp.sum(seen, axis=1, keepdims=True) > 0, seen, there)
  count, total = jnp.sum(there, axis=1), jnp.sum(seen, axis=1)
  return seen * (count / jnp.maximum(total, 1.0))[:, None]


# A face looks along +z in FLAME's coordinates, so a camera in front of it looks along -z.
FRONTAL_VIEW = (0.0, 0.0, -1.0)


@jax.jit
def encode(generator: Generator, sources: Sources, uv: UVArrays) -> Identity:
  """`Generator.encode`, compiled."""
  return generator.encode(sources, uv)


@jax.jit
def decode_frontal(
  generator: Generator, identity: Identity, codes: HeadCodes, rest: RestGaussians
) -> BoundGaussians:
  """`Generator.decode` for a frontal view, compiled."""
  view = jnp.broadcast_to(jnp.asarray(FRONTAL_VIEW), (identity.rgb.shape[0], 3))
  return generator.decode(identity, view, codes, rest).gaussians


def bake(
  generator: Generator,
  identity: Identity,
  rig: Rig,
  shape: Float[Array, ' s'],
  codes: HeadCodes | None = None,
) -> Avatar:
  """Fixes one person's Gaussians as an avatar: for a frontal view, at a neutral or given code.

  Args:
    generator: the network.
    identity: of one person, b = 1.
    rig: the head the avatar lives on.
    shape: identity code of the person.
    codes: of one frame; None for a neutral face.

  Raises:
    ValueError: more than one person.
  """
  if len(identity.features) != 1:
    raise ValueError(f'bake: one person at a time, got {len(identity.features)}')
  if codes is None:
    codes = HeadCodes.neutral(rig.head)
  codes = jax.tree.map(lambda a: jnp.asarray(a)[None], codes)
  gaussians = decode_frontal(generator, identity, codes, rig.arrays.rest)
  return Avatar(
    jax.tree.map(lambda a: a[0], gaussians), rig.arrays.uv.layout, jnp.asarray(shape), rig.head
  )
