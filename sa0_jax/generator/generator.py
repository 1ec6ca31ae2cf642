"""The feed-forward generator: one to four portraits in, an animatable avatar out (METHOD §4).

    generator = Generator(config, rngs=nnx.Rngs(0))
    identity = generator.encode(sources, arrays)             # once per person
    decoded = generator.decode(identity, view, codes, arrays.rest)  # per frame
    avatar = bake(generator, identity, rig, shape)           # what users keep

Encoder, warp, pool and UV network run once per person; only the five heads see the view direction
and only the residual head the target frame's codes.
"""

import dataclasses
import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key, UInt8
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
from sa0_jax.generator.hair_shell import HairShell, measure, raised, rest_on_shell
from sa0_jax.generator.lids import Lids, folded_away
from sa0_jax.generator.pool import AttentionPool, AttentionPoolConfig, mean_pool
from sa0_jax.generator.residual import Residual, ResidualConfig, ResidualHead
from sa0_jax.generator.style_unet import StyleUNet, StyleUNetConfig
from sa0_jax.generator.uv_warp import (
  SourceMaps,
  UVArrays,
  VisibilityConfig,
  barycentric_warp,
  fill_unseen,
  project_points,
  sample_image,
  texel_points,
)
from sa0_jax.generator.vit import VIT_PRESETS, Vit, VitConfig
from sa0_jax.head.model import HeadCodes, HeadModel
from sa0_jax.head.uv_layout import UVLayout

MAX_SOURCES = 4
_WITHIN = 0.9 * 255.0  # of the matte: less is mixed with what lies behind the head
_UNSEEN = 0.5  # the colour of someone of whom nothing is seen


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
    uv_size: side of the UV image the Gaussians lie on; their number follows from it. More than
      `unet.size` (ours) decodes several Gaussians from each texel of the network, with their own
      colours.
    avatar_uv_size: side of the UV image of finished avatars, where they are to have more Gaussians
      than in training; None for `uv_size`.
    image_size: side of the source images, px.
    pool: 'mean' of the sources, or 'attention' (the ablation).
    visibility: take of each source only the texels it sees, by a depth test, and tell the UV
      network which they are, in one more channel; what no source sees starts with the colours
      seen around it. The paper samples hidden texels, too.
    hair_shell: Gaussians start on the hair that the sources' mattes show instead of on the scalp
      under it, and look there for their colours (`hair_shell`); ours.
    position_bound: local positions stay within ± this, triangle units.
    hold: keep Gaussians within the size that they have in training of where they start, and near
      that size (ours). What a network learns about large Gaussians, to pull them in from the
      outline and to make them thin, would tear the surface of an avatar that has more and smaller
      ones.
    dtype: of products, 'float32' or 'bfloat16'; parameters and geometry are float32.
  """

  encoder: VitConfig = VIT_PRESETS['dinov3_vitb16']
  dpt: DptConfig = dataclasses.field(default_factory=DptConfig)
  unet: StyleUNetConfig = dataclasses.field(default_factory=StyleUNetConfig)
  decoder: DecoderConfig = dataclasses.field(default_factory=DecoderConfig)
  residual: ResidualConfig = dataclasses.field(default_factory=ResidualConfig)
  use_residual: bool = True
  uv_size: int = 256
  avatar_uv_size: int | None = None
  image_size: int = 512
  pool: Literal['mean', 'attention'] = 'mean'
  visibility: bool = False
  hair_shell: bool = False
  position_bound: float = POSITION_BOUND
  hold: bool = False
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
    if self.uv_size < self.unet.size:
      raise ValueError(
        f'GeneratorConfig: uv_size must be unet.size = {self.unet.size} or more, got {self.uv_size}'
      )
    if self.avatar_uv_size is not None and self.avatar_uv_size < self.unet.size:
      raise ValueError(
        f'GeneratorConfig: avatar_uv_size must be unet.size = {self.unet.size} or more, got '
        f'{self.avatar_uv_size}'
      )
    features = self.unet.out_channels
    # The warp brings colours beside the features.
    beside = 4 if self.visibility else 3
    for name, value, other, expected in (
      (
        'unet.in_channels',
        self.unet.in_channels,
        f'dpt.out_channels + {beside}',
        self.dpt.out_channels + beside,
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
    shell: for measuring hair, where the configuration asks for it.
    lids: whose colours open eyes hide, with `visibility`; None where the head has no such names.
  """

  uv: UVArrays
  rest: RestGaussians
  faces: Int[Array, 'f 3']
  shell: HairShell | None = None
  lids: Lids | None = None


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
  def from_head(cls, head: HeadModel, config: GeneratorConfig, uv_size: int | None = None) -> 'Rig':
    """Lays out a head's UV unwrap for a network.

    Args:
      head: a model with UV.
      config: the network's.
      uv_size: side of the UV image the Gaussians lie on; None for the configuration's.

    Raises:
      ValueError: the head has no UV, or the UV image is smaller than the network's.
    """
    uv_size = config.uv_size if uv_size is None else uv_size
    if uv_size < config.unet.size:
      raise ValueError(
        f'the UV image must be {config.unet.size} texels or more for this generator, got {uv_size}'
      )
    layout = UVLayout.from_head(head, uv_size)
    uv = UVArrays.from_layout(layout, head, config.unet.size)
    rest = rest_gaussians(head, layout)
    if uv_size > config.uv_size:
      coarser = uv_size / config.uv_size
      rest = rest._replace(coarser=jnp.full(layout.n, coarser, rest.log_scale.dtype))
    shell = HairShell.from_head(head, layout) if config.hair_shell else None
    lids = Lids.from_head(head, layout) if config.visibility else None
    return cls(head, RigArrays(uv, rest, jnp.asarray(head.faces), shell, lids))


class Sources(NamedTuple):
  """Portraits of b people, k each; absent ones are padding, so that one program serves 1 to 4.

  Attributes:
    image: [b, k, s, s, 3] RGB in [0, 1], the head over black.
    vertices: [b, k, v, 3] each frame's posed mesh, metres, world.
    camera: [b, k] cameras of these images.
    mask: [b, k] False for padding, whose other entries may be anything finite.
    colors: the same images with more pixels, to take the Gaussians' colours from; None takes them
      from `image`, as training does.
    matte: [b, k, h, w] 255 where the pixel belongs to the head; `hair_shell` needs it, and with
      `visibility` only what lies within it is seen.
  """

  image: Float[Array, 'b k s s 3']
  vertices: Float[Array, 'b k v 3']
  camera: Camera
  mask: Bool[Array, 'b k']
  colors: Float[Array, 'b k h w 3'] | None = None
  matte: UInt8[Array, 'b k h2 w2'] | None = None


class _Warped(NamedTuple):
  """Sources of b people on a UV image of r texels a side."""

  features: Float[Array, 'b k r r c']
  rgb: Float[Array, 'b k r r 3']
  seen: Float[Array, 'b k r r 1'] | None


class Identity(NamedTuple):
  """What is known of b people.

  Attributes:
    features: [b, n, c] UV features of the valid texels.
    rgb: [b, n, 3] mean colour of the sources there, of those that see it with `visibility`.
    rest: [b, n] where this person's Gaussians lie by default; None where everyone's do.
  """

  features: Float[Array, 'b n c']
  rgb: Float[Array, 'b n 3']
  rest: RestGaussians | None = None


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

  def encode(
    self, sources: Sources, rig: RigArrays, key: Key[Array, ' b'] | None = None
  ) -> Identity:
    """Looks at the portraits.

    Args:
      sources: of b people.
      rig: their head, from a `Rig` for this network.
      key: each person's, for the UV network's noise where its config asks for some.

    Raises:
      ValueError: sizes other than the configuration's, or no or too many sources.
    """
    self._check(sources, rig)
    uv, rest = rig.uv, None
    if rig.shell is not None and sources.matte is not None:
      with jax.named_scope('hair_shell'):
        sources, rest = _on_shell(rig.shell, sources, sources.matte)
    batch, count = sources.mask.shape
    flat = jax.tree.map(lambda a: jnp.reshape(a, (batch * count, *a.shape[2:])), sources)
    with jax.named_scope('encoder'):
      seen = self.encoder(flat.image)
    with jax.named_scope('dpt'):
      dense = self.dpt(seen.maps, seen.cls, flat.image)
    network, colors = uv.network, flat.image if flat.colors is None else flat.colors
    with jax.named_scope('warp'):
      maps = SourceMaps(dense, flat.image.astype(dense.dtype))
      both = self._warp(maps, flat, network, sources.mask)
      if network is uv and flat.colors is None and rig.lids is None:
        own = both
      else:
        # Of the colours alone: the network learns by itself what it makes of folded skin.
        hidden = None if rig.lids is None else folded_away(rig.lids, flat.vertices)
        own = self._warp(SourceMaps(colors[..., :0], colors), flat, uv, sources.mask, hidden)
    cls = seen.cls.reshape(batch, count, -1)
    channels = [both.features, both.rgb]
    if both.seen is not None:
      channels.append(both.seen.astype(dense.dtype))
    pooled, style = self._pool(jnp.concatenate(channels, axis=-1), cls, sources.mask)
    with jax.named_scope('unet'):
      grid = self.unet(pooled, style, network.valid, key)
    features = uv.spread(network.layout.from_image(grid))
    rgb = mean_pool(own.rgb.astype(jnp.float32), sources.mask)
    if own.seen is not None:
      rgb = fill_unseen(rgb, mean_pool(own.seen, sources.mask)[..., 0] > 0.0, _UNSEEN)
    return Identity(features, uv.layout.from_image(rgb), rest)

  def _warp(
    self,
    maps: SourceMaps,
    flat: Sources,
    uv: UVArrays,
    mask: Bool[Array, 'b k'],
    hidden: Bool[Array, 'bk n'] | None = None,
  ) -> '_Warped':
    """Sources on a UV image, weighed by who sees what where the configuration asks for it."""
    test = VisibilityConfig() if self.config.visibility else None
    warped = barycentric_warp(maps, flat.vertices, flat.camera, uv, test)
    features, rgb = (a.reshape(*mask.shape, *a.shape[1:]) for a in warped[:2])
    if warped.visibility is None:
      return _Warped(features, rgb, None)
    visibility = warped.visibility
    if flat.matte is not None:
      visibility = visibility * _within(flat, flat.matte, uv)
    if hidden is not None:
      visibility = visibility * uv.layout.to_image((~hidden[..., None]).astype(jnp.float32))[..., 0]
    seen = visibility.reshape(*mask.shape, *visibility.shape[1:])
    share = visible_share(seen, mask)[..., None]
    return _Warped(
      features * share.astype(features.dtype), rgb * share.astype(rgb.dtype), seen[..., None]
    )

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
      rest: where Gaussians lie by default, from `rest_gaussians`; the identity's own come before,
        and how fine the rig is stands here alone.
    """
    if identity.rest is not None:
      rest = identity.rest._replace(coarser=rest.coarser)
    with jax.named_scope('decoder'):
      maps = self.decoder(identity.features, view_encoding(view), identity.rgb)
    with jax.named_scope('residual'):
      if self.config.use_residual:
        condition = residual_lib.condition_from_codes(codes)
        residual = self.residual(identity.features, condition)
      else:
        residual = residual_lib.no_residual(maps)
      maps = residual_lib.apply_residual(maps, residual)
    return Decoded(
      to_bound_gaussians(maps, rest, self.config.position_bound, self.config.hold), maps, residual
    )

  def _pool(
    self, uv: Float[Array, 'b k r r c'], cls: Float[Array, 'b k d'], mask: Bool[Array, 'b k']
  ) -> tuple[Float[Array, 'b r r c'], Float[Array, 'b d']]:
    if self.config.pool == 'mean':
      return mean_pool(uv, mask), mean_pool(cls, mask)
    return self.pool_uv(uv, mask), self.pool_cls(cls, mask)

  def _check(self, sources: Sources, rig: RigArrays) -> None:
    count, size = sources.mask.shape[1], self.config.image_size
    if not 1 <= count <= MAX_SOURCES:
      raise ValueError(f'Generator: 1 to {MAX_SOURCES} sources, got {count}')
    if sources.image.shape[2:4] != (size, size):
      raise ValueError(
        f'Generator: source images are {sources.image.shape[3]} x {sources.image.shape[2]} px, '
        f'this generator takes {size} x {size}'
      )
    if self.config.hair_shell and (rig.shell is None or sources.matte is None):
      raise ValueError(
        'Generator: this generator measures hair: it needs the mattes of the sources, and a rig '
        'made by Rig.from_head for its configuration'
      )
    if rig.uv.network.layout.resolution != self.config.unet.size:
      raise ValueError(
        f'Generator: the UV image is of {rig.uv.network.layout.resolution} texels, this network of '
        f'{self.config.unet.size}'
      )


@functools.cache
def abstract_generator(config: GeneratorConfig) -> Generator:
  """The network with shapes in place of parameters, to be split and filled; never to be changed.

  Made once for each configuration: writing the network down takes a second.
  """
  return nnx.eval_shape(lambda: Generator(config, rngs=nnx.Rngs(0)))


def _within(flat: Sources, mattes: UInt8[Array, 'k h w'], uv: UVArrays) -> Float[Array, 'k r r']:
  """1 where a texel lies within a source's matte, on the UV image."""

  def one(vertices: Array, camera: Camera, matte: Array) -> Array:
    place = project_points(texel_points(vertices, uv), camera).place
    return sample_image(matte[..., None].astype(jnp.float32), place) > _WITHIN

  inside = jax.vmap(one)(flat.vertices, flat.camera, mattes)
  return uv.layout.to_image(jax.lax.stop_gradient(inside).astype(jnp.float32))[..., 0]


def _on_shell(
  shell: HairShell, sources: Sources, mattes: UInt8[Array, 'b k h w']
) -> tuple[Sources, RestGaussians]:
  """Sources whose meshes wear their hair, and where the Gaussians on it lie; no gradients."""

  def one(
    vertices: Array, camera: Camera, matte: Array, mask: Array
  ) -> tuple[Array, RestGaussians]:
    vertices = jax.lax.stop_gradient(vertices)
    thickness = measure(shell, vertices, camera, matte.astype(jnp.float32) / 255.0, mask)
    worn = jax.vmap(lambda mesh: raised(shell, mesh, thickness))(vertices)
    # The first source is never padding.
    return worn, rest_on_shell(shell, thickness, vertices[0])

  worn, rest = jax.vmap(one)(sources.vertices, sources.camera, mattes, sources.mask)
  return sources._replace(vertices=worn), jax.lax.stop_gradient(rest)


def visible_share(
  visibility: Float[Array, 'b k rows columns'], mask: Bool[Array, 'b k']
) -> Float[Array, 'b k rows columns']:
  """Weights that turn a mean over the sources into one over those that see a texel.

  Where none does all are zero; elsewhere the mean of the weights over the sources is 1.
  """
  there = mask[:, :, None, None].astype(jnp.float32)
  seen = visibility * there
  count, total = jnp.sum(there, axis=1), jnp.sum(seen, axis=1)
  return seen * (count / jnp.maximum(total, 1.0))[:, None]


# A face looks along +z in FLAME's coordinates, so a camera in front of it looks along -z.
FRONTAL_VIEW = (0.0, 0.0, -1.0)


@jax.jit
def encode(generator: Generator, sources: Sources, rig: RigArrays) -> Identity:
  """`Generator.encode`, compiled."""
  return generator.encode(sources, rig)


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
