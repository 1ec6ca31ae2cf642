"""The tutorial: run it cell by cell in an editor that knows `# %%`, or read it as a page."""

# %% [markdown]
# # Tutorial
#
# From a filmed head to an avatar that speaks, in Python, on a laptop's CPU. This page is
# `docs/tutorial.py`: open it in an editor with cells (VS Code, PyCharm, Spyder) and run it from
# top to bottom, about five minutes on two cores. The tests run it, too, only smaller.
#
# Nobody has to be filmed for it: the [studio](studio.md) makes a person up. With a video of your
# own, begin with `sa0.track('clip.mp4')` ([own video](own_video.md)) and skip the next cell.

# %%
FRAMES, SIZE, STEPS, UV_SIZE = 48, 256, 1500, 128

from sa0_jax.capture.studio import StudioConfig, film

capture = film(StudioConfig(seed=4, frames=FRAMES, fps=8.0, resolution=SIZE, hair='crop'))
capture.save('person')

# %% [markdown]
# ## What a capture is
#
# Frames with what a tracker knows of each: a picture, a matte, the camera, and the codes of a
# head model. Arrays are NumPy's; [conventions](conventions.md) says which way every axis points.

# %%
import sa0_jax as sa0

capture = sa0.load_capture('person')
frame = capture.frames[0]
print(len(capture), 'frames on the head model', capture.head_name)
print('image', frame.image.shape, frame.image.dtype, 'jaw', frame.codes.jaw)

# %% [markdown]
# ## One picture becomes an avatar
#
# The generator that comes along looks at one to four frames and answers with Gaussians, each
# bound to a triangle of the head ([how](generator.md)). It was trained on synthetic people alone
# and is small.

# %%
import numpy as np

avatar = sa0.reconstruct(capture, [0])
avatar.save('reconstructed.sa0')
print(len(avatar.layout.face), 'Gaussians')

# %% [markdown]
# `Renderer` compiles posing, binding and rasterizing once and then takes any codes and camera,
# one or a batch of them. Here is the avatar in the last frame's pose, which the generator never
# saw:

# %%


def quality(rendered, frame):
  """PSNR in dB against what was filmed of the head, over white like the render."""
  matte = frame.matte[..., None]
  target = frame.image * matte + (1 - matte)
  return -10 * np.log10(np.mean((np.clip(rendered.rgb, 0, 1) - target) ** 2))


renderer = sa0.Renderer(avatar)
last = capture.frames[len(capture) - 1]
rendered = renderer(last.codes, last.camera)
print(f'{quality(rendered, last):.2f} dB from one picture')

# %% [markdown]
# ## Refinement
#
# Gradient descent on the subject's own frames, with the binding kept, makes it that person ([what
# it does](concepts.md), [how its numbers were chosen](refine_tuning.md)). `held_out=0.2` keeps
# the last fifth of the frames for judging; the avatar never sees them.

# %%
config = sa0.RefineConfig(steps=STEPS, resolution=SIZE, uv_size=UV_SIZE, held_out=0.2)
refined = sa0.refine(None, capture, config)
refined.save('refined.sa0')
rendered = sa0.Renderer(refined)(last.codes, last.camera)
print(f'{quality(rendered, last):.2f} dB refined')

# %% [markdown]
# ## Make it do something else
#
# Codes are plain arrays. On the built-in head the first expression directions bear ARKit's names,
# so a smile is a smile. The camera here is the one that frames a portrait of any avatar.

# %%
import dataclasses

from sa0_jax.head.model import HeadCodes
from sa0_jax.mesh_render import portrait_camera
from sa0_jax.render import neutral_extent

codes = HeadCodes.neutral(refined.head)
expression = np.zeros(refined.head.num_expression, np.float32)
for name in ('mouthSmileLeft', 'mouthSmileRight', 'cheekSquintLeft', 'cheekSquintRight'):
  expression[refined.head.expression_names.index(name)] = 0.8
smile = dataclasses.replace(codes, expression=expression, jaw=np.float32([0.1, 0.0, 0.0]))

camera = portrait_camera(neutral_extent(refined), yaw=0.35, pitch=0.0, size=SIZE)
picture = sa0.Renderer(refined)(smile, camera)
print('a smile', picture.rgb.shape, 'covers', f'{picture.alpha.mean():.0%}', 'of the picture')

# %% [markdown]
# ## Take it elsewhere
#
# The suffix names the format; [exports](exports.md) says what each keeps and loses.

# %%
sa0.export(refined, 'smile.ply', smile)
sa0.export(refined, 'head.glb')

# %% [markdown]
# ## The rasterizer alone
#
# `sa0_kernels` knows nothing of heads: Gaussians in, picture out, and gradients of everything.
# The same call runs on CPU, GPU and TPU ([kernels](kernels.md)).

# %%
import jax
import jax.numpy as jnp
from sa0_kernels import Camera, RasterConfig, rasterize

key = jax.random.key(0)
count = 500
means = jax.random.uniform(key, (count, 3), minval=-1.0, maxval=1.0)
quats = jnp.tile(jnp.array([1.0, 0.0, 0.0, 0.0]), (count, 1))
scales = jnp.full((count, 3), 0.05)
opacities = jnp.full(count, 0.8)
colors = jnp.abs(means)
pose = jnp.eye(4).at[2, 3].set(4.0)
view = Camera(pose, jnp.array([SIZE * 1.2, SIZE * 1.2, SIZE / 2, SIZE / 2]), SIZE, SIZE)


@jax.jit
@jax.value_and_grad
def darkness(means):
  """Something to descend on."""
  return rasterize(means, quats, scales, opacities, colors, view, RasterConfig()).features.mean()


value, gradient = darkness(means)
print(f'mean {float(value):.4f}, gradient {float(jnp.abs(gradient).max()):.2e} at most')
