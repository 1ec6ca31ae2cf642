"""Here programs are compiled as users' programs are: their registers and memory are what counts.

And anew each time: what is read are the compilers' dumps.
"""

import os

import jax

os.environ.pop('JAX_DISABLE_MOST_OPTIMIZATIONS', None)
os.environ['JAX_COMPILATION_CACHE_DIR'] = ''
jax.config.update('jax_disable_most_optimizations', False)
jax.config.update('jax_compilation_cache_dir', None)
