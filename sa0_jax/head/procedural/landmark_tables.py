"""Where landmarks lie on the procedural head: authored millimetres, or steps along its rings."""

from sa0_jax.head.procedural.anatomy import Vector

# The 68-point scheme, points of the subject's left half and the midline that are not on a ring.
LEFT_OF_68: dict[int, Vector] = {
  16: (72, -18, 8),
  15: (70, -35, 8),
  14: (65, -51, 10),
  13: (58, -69, 16),
  12: (49, -84, 28),
  11: (39, -95, 46),
  10: (26, -104, 64),
  9: (14, -109, 78),
  8: (0, -112, 84),
  26: (51, 17, 64),
  25: (43, 22, 74),
  24: (33, 23, 81),
  23: (22, 21, 86),
  22: (11, 17, 91),
  27: (0, 4, 90),
  28: (0, -9.5, 95),
  29: (0, -22, 104),
  30: (0, -34, 116),
  33: (0, -47, 101),
  34: (8, -45, 100),
  35: (15, -43.5, 95),
}

# Their mirror images on the subject's right.
MIRROR_68: dict[int, int] = {
  16: 0,
  15: 1,
  14: 2,
  13: 3,
  12: 4,
  11: 5,
  10: 6,
  9: 7,
  26: 17,
  25: 18,
  24: 19,
  23: 20,
  22: 21,
  34: 32,
  35: 31,
}

# Eye corners and lids: (0 left or 1 right eye, step along the lash edge from its outer corner).
LIDS_OF_68: dict[int, tuple[int, int]] = {
  36: (1, 0),
  37: (1, 5),
  38: (1, 11),
  39: (1, 16),
  40: (1, 21),
  41: (1, 27),
  42: (0, 16),
  43: (0, 11),
  44: (0, 5),
  45: (0, 0),
  46: (0, 27),
  47: (0, 21),
}

# Steps around the mouth from the upper midline over the left corner (16), lower midline (32) and
# right corner (48).
OUTER_LIP_68: dict[int, int] = {
  48: 48,
  49: 56,
  50: 62,
  51: 0,
  52: 2,
  53: 8,
  54: 16,
  55: 24,
  56: 28,
  57: 32,
  58: 36,
  59: 40,
}
INNER_LIP_68: dict[int, int] = {
  60: 49,
  61: 58,
  62: 0,
  63: 6,
  64: 15,
  65: 26,
  66: 32,
  67: 38,
}
