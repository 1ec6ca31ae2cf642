"""Here programs are compiled as users' programs are: their registers and memory are what counts."""

import os

import jax

os.environ.pop('JAX_DISABLE_MOST_OPTIMIZATIONS', None)
jax.config.update('jax_disable_most_optimizations', False)
