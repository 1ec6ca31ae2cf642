"""How the numba kernels pack Gaussians, gradient rows and tiles."""

# Columns of a packed splat row: centre x, y; conic A, B, C; opacity; exponent at which the
# contribution falls under alpha_min; half height of the footprint.
SPLAT_COLUMNS = 8
X, Y, CONIC_A, CONIC_B, CONIC_C, OPACITY, EXPONENT_MAX, REACH_Y = range(SPLAT_COLUMNS)

# Columns of a per-instance gradient row, before the features.
GRADIENT_COLUMNS = 6

TILE = 16  # pixels a side; a row of a tile is one or two vector registers
