"""Tables of the hair styles. Lengths in authored millimetres of the head."""

import dataclasses

Vector = tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class HairStyle:
  """How the hair of a style grows.

  Attributes:
    strands: how many there are.
    knots: points along each.
    width: of a strand at its root, mm.
    length: of the hair, (on top, at the sides and back) mm.
    layer: height of the outermost layer over the scalp, (on top, at the sides) mm.
    comb: share of the comb's direction away from the parting, down and forward.
    lift: 1 hair leaves the scalp upright, 0 lies flat.
    stiffness: share of its direction that hair keeps at each of 72 steps.
    gravity: pull downwards against the comb.
    hold: strength of the comb.
    gather: point the hair is gathered at, and how strongly (0 none).
    window: ellipsoid kept free of hair: centre, radii.
    cut: height at which all hair ends, and by how much that varies; None where length decides.
    clump: how strongly strands follow the nearest lock, 0 to 1.
    locks: number of locks.
    curl: radius of the curls in mm and their wavelength along the strand.
    frizz: irregularity of single strands in mm.
  """

  strands: int
  knots: int
  width: float
  length: tuple[float, float]
  layer: tuple[float, float]
  comb: Vector
  lift: float
  stiffness: float
  gravity: float
  hold: float
  clump: float
  locks: int
  frizz: float
  curl: tuple[float, float] = (0.0, 30.0)
  gather: Vector = (0.0, 0.0, 0.0, 0.0)
  window: Vector = (0.0, -40.0, 112.0, 56.0, 84.0, 62.0)
  cut: tuple[float, float] | None = None


_OPEN_FACE = (0.0, -52.0, 112.0, 70.0, 116.0, 78.0)

STYLES: dict[str, HairStyle] = {
  'crop': HairStyle(
    strands=11000, knots=6, width=1.25, length=(20.0, 8.0), layer=(9.0, 3.0),
    comb=(0.25, 0.55, 0.9),
    lift=0.55, stiffness=0.93, gravity=0.25, hold=1.0, clump=0.45, locks=900, frizz=1.2,
  ),
  'side_part': HairStyle(
    strands=9500, knots=10, width=1.4, length=(84.0, 18.0), layer=(16.0, 5.0),
    comb=(1.0, 0.35, -0.15),
    lift=0.60, stiffness=0.86, gravity=0.9, hold=1.0, clump=0.6, locks=420, frizz=1.6,
  ),
  'curly': HairStyle(
    strands=9000, knots=14, width=1.7, length=(58.0, 38.0), layer=(34.0, 24.0),
    comb=(0.0, 0.3, 0.15),
    lift=0.95, stiffness=0.965, gravity=0.10, hold=0.25, clump=0.75, locks=650, frizz=4.0,
    curl=(5.5, 17.0),
  ),
  'bob': HairStyle(
    strands=7000, knots=13, width=1.9, length=(330.0, 300.0), layer=(17.0, 17.0),
    comb=(1.0, 0.85, -0.12),
    lift=0.40, stiffness=0.80, gravity=0.9, hold=1.0, clump=0.55, locks=330, frizz=1.5,
    window=_OPEN_FACE, cut=(-98.0, 7.0),
  ),
  'long': HairStyle(
    strands=7500, knots=14, width=2.0, length=(460.0, 420.0), layer=(15.0, 16.0),
    comb=(1.0, 0.9, -0.30),
    lift=0.35, stiffness=0.82, gravity=1.0, hold=1.0, clump=0.6, locks=300, frizz=2.0,
    window=_OPEN_FACE, cut=(-158.0, 14.0),
  ),
  'bun': HairStyle(
    strands=7500, knots=12, width=1.5, length=(330.0, 330.0), layer=(6.0, 5.0),
    comb=(0.0, 0.0, 0.0),
    lift=0.15, stiffness=0.55, gravity=0.0, hold=1.0, clump=0.35, locks=260, frizz=0.6,
    gather=(0.0, 58.0, -122.0, 1.0), window=_OPEN_FACE,
  ),
}  # fmt: skip
