"""Types of the public signatures."""

import jax
import numpy as np

# What callers may pass: JAX arrays, traced or not, and NumPy arrays.
ArrayLike = jax.Array | np.ndarray
