"""Who stands in the studio: a shape code and a look, drawn from one seed.

Everything here is a small frozen dataclass of numbers; pixels and meshes are made from them
elsewhere, so a subject can be written down, changed by `dataclasses.replace`, and made again.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from sa0_jax.head.model import HeadModel
from sa0_jax.head.procedural.identity import sample_identity

Color = tuple[float, float, float]

HAIR_STYLES = ('bald', 'crop', 'side_part', 'curly', 'bob', 'long', 'bun')
BEARD_STYLES = ('moustache', 'goatee', 'short', 'full', 'long')
GLASSES_STYLES = ('round', 'oval', 'rectangle', 'browline', 'pilot')

# Linear RGB reflectance of hair, black to white.
HAIR_COLORS: dict[str, Color] = {
  'black': (0.016, 0.013, 0.012),
  'dark brown': (0.036, 0.022, 0.015),
  'brown': (0.080, 0.046, 0.027),
  'light brown': (0.150, 0.092, 0.053),
  'auburn': (0.130, 0.046, 0.022),
  'red': (0.270, 0.105, 0.040),
  'blond': (0.400, 0.280, 0.150),
  'grey': (0.330, 0.320, 0.310),
  'white': (0.620, 0.610, 0.590),
}

# Linear RGB of the iris between its fibres.
IRIS_COLORS: dict[str, Color] = {
  'dark brown': (0.030, 0.014, 0.008),
  'brown': (0.085, 0.036, 0.014),
  'hazel': (0.130, 0.085, 0.027),
  'green': (0.095, 0.120, 0.055),
  'blue': (0.090, 0.160, 0.250),
  'grey': (0.165, 0.200, 0.220),
}

# Mean sRGB of the skin tones that identities are drawn with, and the melanin here that matches.
_TONE_LEVELS = (0.27, 0.40, 0.55, 0.65, 0.73, 0.78)
_TONE_MELANIN = (1.00, 0.72, 0.45, 0.28, 0.13, 0.02)


@dataclasses.dataclass(frozen=True)
class SkinLook:
  """Skin by its pigments.

  Attributes:
    melanin: 0 the palest human skin, 1 the darkest.
    blood: haemoglobin relative to the average.
    ruddiness: how much cheeks, nose and ears differ from the rest; 1 = average.
    freckles: 0 none to 1 covered.
    moles: 0 none to 1 many.
    mottling: uneven pigment; 1 = average.
    tired: darkness around the eyes; 1 = average.
    lips: redness of the lips; 1 = average.
    gloss: oiliness; 1 = average.
    stubble: density of a shaved or short beard, 0 to 1.
    lines: depth of the forehead's lines and of crow's feet, 0 to 1.
  """

  melanin: float
  blood: float
  ruddiness: float
  freckles: float
  moles: float
  mottling: float
  tired: float
  lips: float
  gloss: float
  stubble: float
  lines: float


@dataclasses.dataclass(frozen=True)
class EyeLook:
  """Eyes.

  Attributes:
    iris: linear RGB of the iris.
    ring: amount of amber around the pupil, 0 to 1.
    limbus: darkness of the iris' border, 0 to 1.
    pupil: radius of the pupil in mm.
    veins: redness of the whites; 1 = average.
    lashes: length of the lashes; 1 = average.
  """

  iris: Color
  ring: float
  limbus: float
  pupil: float
  veins: float
  lashes: float


@dataclasses.dataclass(frozen=True)
class BrowLook:
  """Eyebrows.

  Attributes:
    density: 0 shaved to 1 dense.
    thickness: relative to the average.
    raised: millimetres above the average line.
    arch: millimetres by which the outer third is higher.
  """

  density: float
  thickness: float
  raised: float
  arch: float


@dataclasses.dataclass(frozen=True)
class HairLook:
  """Hair of the scalp.

  Attributes:
    style: one of `HAIR_STYLES`.
    color: linear RGB; brows and stubble follow it.
    length: relative to the style's own.
    volume: how far it stands off, relative to the style's own.
    curl: waviness added to the style's own, 0 straight to 1.
    part: where the parting lies: −1 the subject's right side, 0 middle, 1 left.
    recede: millimetres by which the temples' hairline has moved up.
  """

  style: str
  color: Color
  length: float
  volume: float
  curl: float
  part: float
  recede: float


@dataclasses.dataclass(frozen=True)
class BeardLook:
  """A beard of strands, over what is painted as stubble.

  Attributes:
    style: one of `BEARD_STYLES`.
    color: linear RGB.
    length: relative to the style's own.
    density: share of the style's strands.
    curl: 0 straight to 1.
  """

  style: str
  color: Color
  length: float
  density: float
  curl: float


@dataclasses.dataclass(frozen=True)
class GlassesLook:
  """Spectacles: a frame and temples; the lenses are not seen.

  Attributes:
    style: one of `GLASSES_STYLES`.
    color: linear RGB of the frame.
    rim: thickness of the rims seen from the front, mm.
    size: of the lenses, relative to the style's own.
    gloss: strength of the highlights: 0.3 plastic, 1 metal.
  """

  style: str
  color: Color
  rim: float
  size: float
  gloss: float


@dataclasses.dataclass(frozen=True)
class Clothing:
  """The collar under the neck; never part of the matte.

  Attributes:
    color: linear RGB of the cloth.
    neckline: millimetres by which the collar is wider than the neck.
  """

  color: Color
  neckline: float


@dataclasses.dataclass(frozen=True)
class Look:
  """Everything about a person that is not the shape of the head.

  Attributes:
    skin: pigments and finish of the skin.
    eyes: iris and whites.
    brows: eyebrows.
    hair: hair of the scalp.
    clothing: what the collar is made of.
    seed: of all irregular detail: freckles, strands, fibres.
    beard: strands on chin and lip, or None.
    glasses: spectacles, or None.
  """

  skin: SkinLook
  eyes: EyeLook
  brows: BrowLook
  hair: HairLook
  clothing: Clothing
  seed: int
  beard: BeardLook | None = None
  glasses: GlassesLook | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
  """One synthetic person.

  Attributes:
    name: what captures of them are called.
    shape: [s] shape code of the head model.
    look: the rest.
  """

  name: str
  shape: Float[np.ndarray, ' s']
  look: Look


def sample_subject(
  seed: int, head: HeadModel, stream: np.random.SeedSequence | None = None
) -> Subject:
  """Draws a person.

  Args:
    seed: which person; the same seed gives the same one.
    head: the procedural head.
    stream: where the randomness comes from; None makes it from the seed.

  Raises:
    ValueError: the head is not the procedural one.
  """
  if head.name != 'procedural':
    raise ValueError(f"studio: subjects are made on the 'procedural' head, got {head.name!r}")
  stream = np.random.SeedSequence(seed) if stream is None else stream
  shape_seed, look_seed = stream.spawn(2)
  identity = sample_identity(head, np.random.default_rng(shape_seed))
  shape = np.array(identity.shape, np.float32)
  # That direction stands in for short hair; hair here is geometry of its own.
  shape[head.shape_names.index('hair_volume')] = 0.0
  rng = np.random.default_rng(look_seed)
  tone = float(np.interp(np.mean(identity.look.skin), _TONE_LEVELS, _TONE_MELANIN))
  melanin = float(np.clip(tone + rng.normal(0.0, 0.05), 0.0, 1.0))
  look = sample_look(rng, melanin, identity.masculinity, 2.5 * identity.age - 1.0)
  return Subject(f'studio-{seed}', shape, look)


def sample_look(
  rng: np.random.Generator, melanin: float, male: float = 0.0, age: float = 0.0
) -> Look:
  """Draws a look that goes with a face.

  Args:
    rng: where the randomness comes from.
    melanin: 0 the palest human skin to 1 the darkest.
    male: −2 to 2, from a very female to a very male face.
    age: −2 to 2 around the middle of adult life.
  """
  beard = float(rng.random() < 0.55) * float(rng.uniform(0.2, 1.0)) * float(male > 0.1)
  skin = SkinLook(
    melanin=melanin,
    blood=float(np.clip(rng.normal(1.0, 0.12), 0.7, 1.3)),
    ruddiness=float(rng.uniform(0.6, 1.5)),
    freckles=float((rng.random() < 0.35) * rng.uniform(0.1, 0.9) * max(0.0, 1 - 1.6 * melanin)),
    moles=float(rng.uniform(0.0, 0.8)),
    mottling=float(rng.uniform(0.7, 1.5)),
    tired=float(rng.uniform(0.5, 1.4) + 0.2 * age),
    lips=float(rng.uniform(0.55, 0.95) + 0.25 * max(-male, 0.0)),
    gloss=float(rng.uniform(0.6, 1.4)),
    stubble=beard,
    lines=float(np.clip(0.25 + 0.45 * age + 0.15 * rng.normal(), 0.0, 1.0)),
  )
  hair = _sample_hair(rng, melanin, male, age)
  brows = BrowLook(
    density=float(rng.uniform(0.55, 0.95)),
    thickness=float(rng.uniform(0.75, 1.1) + 0.18 * np.clip(male, -1, 1)),
    raised=float(rng.normal(0.0, 0.6)),
    arch=float(rng.uniform(-0.5, 1.5) - 0.5 * np.clip(male, -1, 1)),
  )
  return Look(
    skin,
    _sample_eyes(rng, melanin, male),
    brows,
    hair,
    _sample_clothing(rng),
    int(rng.integers(2**31)),
  )


def _sample_eyes(rng: np.random.Generator, melanin: float, male: float) -> EyeLook:
  light = np.clip(1.0 - 2.2 * melanin, 0.02, 0.75)
  shares = {
    'dark brown': 0.9 * (1 - light),
    'brown': 0.5,
    'hazel': 0.35 * light,
    'green': 0.3 * light,
    'blue': 0.8 * light,
    'grey': 0.25 * light,
  }
  names, weights = list(shares), np.array(list(shares.values()))
  iris = np.array(IRIS_COLORS[names[rng.choice(len(names), p=weights / weights.sum())]])
  iris = iris * rng.uniform(0.75, 1.3)
  return EyeLook(
    iris=_color(iris),
    ring=float(rng.uniform(0.0, 0.7)),
    limbus=float(rng.uniform(0.45, 0.95)),
    pupil=float(rng.uniform(1.5, 2.5)),
    veins=float(rng.uniform(0.4, 1.4)),
    lashes=float(rng.uniform(0.75, 1.0) + 0.25 * max(-male, 0.0)),
  )


def _sample_hair(rng: np.random.Generator, melanin: float, male: float, age: float) -> HairLook:
  light = np.clip(1.0 - 2.0 * melanin, 0.0, 1.0)
  shares = {
    'black': 0.15 + 1.6 * melanin,
    'dark brown': 0.7,
    'brown': 0.1 + 0.7 * light,
    'light brown': 0.5 * light,
    'auburn': 0.2 * light,
    'red': 0.15 * light,
    'blond': 0.7 * light,
  }
  names, weights = list(shares), np.array(list(shares.values()))
  color = np.array(HAIR_COLORS[names[rng.choice(len(names), p=weights / weights.sum())]])
  color = color * rng.uniform(0.8, 1.25)
  greying = np.clip(0.75 * (age - 0.55) + 0.25 * rng.normal(), 0.0, 1.0)
  color = color + greying * (np.array(HAIR_COLORS['grey']) * rng.uniform(0.6, 1.2) - color)
  masculine = float(1 / (1 + np.exp(-3.0 * male)))
  styles = {
    'bald': 0.16 * masculine,
    'crop': 0.55 * masculine + 0.03,
    'side_part': 0.45 * masculine + 0.18,
    'curly': 0.16 + 0.25 * melanin,
    'bob': 0.42 * (1 - masculine),
    'long': 0.55 * (1 - masculine) + 0.02,
    'bun': 0.26 * (1 - masculine),
  }
  weights = np.array([styles[style] for style in HAIR_STYLES])
  return HairLook(
    style=HAIR_STYLES[rng.choice(len(HAIR_STYLES), p=weights / weights.sum())],
    color=_color(color),
    length=float(rng.uniform(0.8, 1.2)),
    volume=float(rng.uniform(0.75, 1.3)),
    curl=float(rng.uniform(0.0, 0.6) ** 1.5),
    part=float(rng.choice([-0.8, -0.5, 0.0, 0.5, 0.8]) + rng.normal(0, 0.06)),
    recede=float(max(0.0, rng.normal(0.0, 3.0) + 3.0 * age * masculine)),
  )


def _sample_clothing(rng: np.random.Generator) -> Clothing:
  value, saturation = rng.uniform(0.02, 0.30), rng.uniform(0.0, 0.4)
  hue = rng.uniform(0, 2 * np.pi)
  tint = np.cos(hue + np.array([0.0, 2.1, 4.2]))
  return Clothing(_color(value * (1 + saturation * tint)), float(rng.uniform(0.0, 4.0)))


def _color(values: np.ndarray) -> Color:
  red, green, blue = np.clip(values, 0.003, 0.9)
  return float(red), float(green), float(blue)
